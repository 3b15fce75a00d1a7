"""Every value is documented and does something; what is wrong is refused by its name, with what to
do."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmError

from tests.chart.rendered import (
    BUNDLED,
    CHART,
    EVERYTHING,
    EXTERNAL,
    GENERATED,
    ROOT,
    generator,
    merged,
    named,
    render,
    text_of,
)

GENERATE = generator()
VALUES = GENERATE.values_of((CHART / "values.yaml").read_text())
LEAVES: dict[str, Any] = {".".join(each.path): each for each in GENERATE.leaves(VALUES)}

ALL: dict[str, Any] = merged(
    EVERYTHING,
    {
        "kafka": {
            "bootstrapServers": "broker:9094",
            "security": {
                "protocol": "SASL_SSL",
                "sasl": {"existingSecret": "user"},
                "tls": {"existingSecret": "tls", "certificateKey": "tls.crt", "privateKeyKey": "tls.key"},
            },
        },
        "postgres": {"existingSecret": "tables"},
        "schemaRegistry": {"url": "https://registry"},
        "api": {"auth": {"existingSecret": "keys", "oidc": {"issuer": "https://login"}}},
    },
)
INGRESS: dict[str, Any] = {
    "httpRoute": {"enabled": False},
    "ingress": {"enabled": True, "host": "shop.example.com"},
}
STRIMZI: dict[str, Any] = {
    "kafka": {
        "mode": "strimzi",
        "strimzi": {"cluster": "main", "namespace": "kafka", "userSecret": "user", "caSecret": "ca"},
    }
}
CNPG: dict[str, Any] = {"postgres": {"mode": "cnpg"}}

WHERE: dict[str, dict[str, Any]] = {
    "ingress.": INGRESS,
    "generateSecrets": {"api": {"auth": {"existingSecret": "", "oidc": {"issuer": ""}}}},
    "traces.": {"traces": {"enabled": True}},
    "workerDefaults.autoscaling.": {
        "workerDefaults": {"autoscaling": {"minReplicas": 2, "maxReplicas": 200}}
    },
    "engine.processes": {"kafka": {"topics": {"partitions": 1000}}},
    "postgres.bundled.existingSecret": BUNDLED,
    "kafka.strimzi.": STRIMZI,
    "postgres.cnpg.": CNPG,
    "kafka.bundled.": BUNDLED,
    "postgres.bundled.": BUNDLED,
    "serviceAccount.name": {},
    "api.replicas": {"api": {"autoscaling": {"enabled": False}}},
    "engine.persistence.whenDeleted": {},
    "setup.useHelmHooks": {},
}
"""What a value needs to mean anything, beyond everything that is switched on."""
OTHERS: dict[str, Any] = {
    "image.digest": "sha256:" + "0" * 64,
    "namespace": "other",
    "kafka.mode": "bundled",
    "postgres.mode": "none",
    "kafka.security.sasl.mechanism": "PLAIN",
    "imagePullSecrets": [{"name": "registry"}],
    "kafka.settings": {"socket.keepalive.enable": True},
    "workers": {"video": {}},
    "traces.enabled": False,
    "kafka.strimzi.namespace": "prod2",
    "kafka.strimzi.extraAcls": [
        {"resource": {"type": "topic", "name": "shop.orders"}, "operations": ["Read"]}
    ],
    "workerDefaults.autoscaling.authenticationRef": {"name": "mine"},
    "workerDefaults.autoscaling.minReplicas": 3,
    "networkPolicy.egress.kafkaPorts": [9999],
    "networkPolicy.egress.enabled": False,
    "engine.kafkaSecrets": {"sasl": "own"},
    "workerDefaults.kafkaSecrets": {"tls": "own"},
    "api.kafkaSecrets": {"sasl": "own"},
    "projector.kafkaSecrets": {"sasl": "own"},
    "ingest.kafkaSecrets": {"sasl": "own"},
    "extraContainers": [{"name": "proxy", "image": "proxy"}],
    "extraInitContainers": [{"name": "wait", "image": "wait"}],
    "extraVolumes": [{"name": "app", "configMap": {"name": "app"}}],
    "extraVolumeMounts": [{"name": "app", "mountPath": "/app"}],
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}
    ],
    "networkPolicy.apiFrom": [{"namespaceSelector": {}}],
    "networkPolicy.metricsFrom": [{"namespaceSelector": {}}],
    "httpRoute.parentRefs": [{"name": "other"}],
    "httpRoute.enabled": False,
    "httpRoute.hostnames": ["other.example.com"],
    "ingress.enabled": False,
    "workerDefaults.queues": ["other"],
    "workerDefaults.replicas": 3,
    "api.replicas": 3,
    "ingest.from": "latest",
    "engine.replicas": 3,
    "api.service.port": 81,
    "kafka.topics.partitions": 24,
    "engine.persistence.whenDeleted": "Delete",
}
NOT_LOOKED_AT = {"global", "enabled"}


def another(path: str, leaf: Any, context: dict[str, Any]) -> Any:
    """A value that is neither the default nor what the context has."""
    if path in OTHERS:
        return OTHERS[path]
    default, schema = leaf.default, leaf.schema
    if "enum" in schema:
        return next(each for each in schema["enum"] if each != default)
    if isinstance(default, bool):
        found: Any = context
        for key in path.split("."):
            found = found.get(key, {})
        return not (found or default)
    if isinstance(default, int):
        return default + 100
    if isinstance(default, str):
        return "30Gi" if re.fullmatch(r"\d+Gi", default) else f"{default or 'some'}x"
    if isinstance(default, dict):
        if path.endswith("podTemplate"):
            return {"spec": {"priorityClassName": "high"}}
        return {"requests": {"cpu": "7"}} if path.endswith("resources") else {"note": "x"}
    return [{"name": "NOTE", "value": "x"}]


def nested(path: str, value: Any) -> dict[str, Any]:
    first, *rest = path.split(".")
    return {first: nested(".".join(rest), value) if rest else value}


@functools.cache
def files_where(where: str) -> dict[str, str]:
    """Rendered once for all the values that are changed there."""
    return text_of(merged(ALL, WHERE.get(where, {})))


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_does_something(path: str) -> None:
    nothing: dict[str, Any] = {}
    where, context = next((each for each in WHERE.items() if path.startswith(each[0])), ("", nothing))
    before = merged(ALL, context)
    change = nested(path, another(path, LEAVES[path], before))
    if path == "ingress.enabled":
        change = merged(change, {"httpRoute": {"enabled": False}})
    is_changed = files_where(where) != text_of(before, change)
    assert is_changed == (path not in NOT_LOOKED_AT), f"{path}: {change}"


def test_documents_and_schema_are_those_of_the_values() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == GENERATE.schema_of(VALUES), (
        "run deploy/helm/generate.py"
    )
    assert (CHART / "README.md").read_text() == GENERATE.readme_of(VALUES), "run deploy/helm/generate.py"


def test_a_value_without_a_comment_is_found() -> None:
    with pytest.raises(ValueError, match=r"engine\.cpu"):
        GENERATE.values_of("engine:\n  # -- Pods.\n  replicas: 1\n  cpu: 3\n")


@pytest.mark.parametrize(
    ("values", "named_"),
    [
        ({"replicas": 3}, "replicas"),
        ({"engine": {"replica": 3}}, "replica"),
        ({"workers": {"default": {"concurency": 3}}}, "concurency"),
        ({"engine": {"replicas": "three"}}, "/engine/replicas"),
        ({"kafka": {"mode": "confluent"}}, "/kafka/mode"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"tag": 1}}, "/image/tag"),
    ],
)
def test_an_unknown_value_or_a_wrong_one_is_refused_by_its_name(values: dict[str, Any], named_: str) -> None:
    with pytest.raises(HelmError, match=re.escape(named_)):
        text_of(EXTERNAL, values)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers is empty: name the brokers"),
    ({"kafka": {"mode": "strimzi"}}, "kafka.strimzi.cluster is empty"),
    ({"kafka": {"security": {"protocol": "SASL_SSL"}}}, "kafka.security.sasl.existingSecret is empty"),
    (
        {"kafka": {"security": {"tls": {"existingSecret": "x", "certificateKey": "c"}}}},
        "privateKeyKey is empty",
    ),
    ({"postgres": {"existingSecret": ""}}, "postgres.existingSecret is empty"),
    (
        merged(EVERYTHING, {"ingress": {"enabled": True, "host": "x"}}),
        "httpRoute and ingress are both enabled",
    ),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    ({"ingress": {"enabled": True}}, "ingress.host is empty"),
    ({"setup": {"useHelmHooks": True}, "postgres": {"mode": "bundled"}}, "setup.useHelmHooks needs"),
    ({"namespace": "_shop"}, "cannot begin topics' names"),
    ({"engine": {"replicas": 13}}, "more engines than partitions do nothing"),
    ({"engine": {"replicas": 4, "processes": 4}}, "more engines than partitions do nothing"),
    ({"metrics": {"port": 8080}}, "metrics.port is 8080"),
    (
        {"commonLabels": {"app.kubernetes.io/name": "x"}},
        "commonLabels has app.kubernetes.io/name, which is ours",
    ),
    (
        {"workers": {"gpu": {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/component": "x"}}}}}},
        "workers.gpu.podTemplate has the label app.kubernetes.io/component, which is ours",
    ),
    (
        {"podTemplate": {"spec": {"volumes": [{"emptyDir": {}}]}}},
        "podTemplate.spec.volumes has an item without a name",
    ),
    (
        {"kafka": {"settings": {"bootstrap.servers": "x:1"}}},
        "kafka.settings has bootstrap.servers, which kafka.bootstrapServers",
    ),
    (
        {
            "kafka": {
                "security": {"protocol": "SASL_SSL", "sasl": {"existingSecret": "u"}},
                "settings": {"sasl.mechanism": "PLAIN"},
            }
        },
        "kafka.settings has sasl.mechanism, which kafka.security.sasl says already",
    ),
    (
        {"workers": {"gpu": {"autoscaling": {"enabled": True, "minReplicas": 13}}}},
        "workers.gpu.autoscaling: minReplicas is 13 and maxReplicas is 12",
    ),
    (
        {
            "kafka": {"security": {"protocol": "SASL_SSL", "sasl": {"mechanism": "OAUTHBEARER"}}},
            "workers": {"gpu": {"autoscaling": {"enabled": True}}},
        },
        "name it by authenticationRef",
    ),
    (
        {
            "kafka": {"settings": {"security.protocol": "SASL_SSL"}},
            "workers": {"gpu": {"autoscaling": {"enabled": True}}},
        },
        "kafka.settings has security.protocol, which KEDA does not read",
    ),
    (
        {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main", "namespace": "kafka"}}},
        "copy the Secrets prod-shop-perdure and main-cluster-ca-cert from there",
    ),
    ({"workers": {"Not_This": {}}}, 'the worker "Not_This"'),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_what_cannot_work_is_refused_with_what_to_do(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        text_of(EXTERNAL, values)


def test_umbrella_charts_may_say_what_is_theirs() -> None:
    text_of(EXTERNAL, {"global": {"anything": {"at": "all"}}, "enabled": True})


def test_a_worker_that_is_null_is_gone() -> None:
    names = [
        each["metadata"]["name"]
        for each in render(EXTERNAL, {"workers": {"default": None, "gpu": {"queues": ["gpu"]}}})
    ]
    assert "shop-perdure-worker-gpu" in names
    assert "shop-perdure-worker-default" not in names


def test_the_image_is_that_of_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["appVersion"], about["version"]) == (version, version)
    engine = named(render(EXTERNAL), "StatefulSet", "shop-perdure-engine")
    assert engine["spec"]["template"]["spec"]["containers"][0]["image"] == f"perdure:{version}"


def test_the_api_key_of_a_release_opens_its_api() -> None:
    from base64 import b64decode
    from hashlib import sha256

    secret = named(render(EXTERNAL, GENERATED), "Secret", "shop-perdure-api-keys")["data"]
    key, file = b64decode(secret["key"]).decode(), tomllib.loads(b64decode(secret["keys.toml"]).decode())
    (stored,) = file["keys"]
    assert re.fullmatch(r"perdure_[0-9a-f]{12}_\w{43}", key)
    assert stored["id"] == key.split("_")[1]
    assert stored["hash"] == f"sha256:{sha256(key.encode()).hexdigest()}"
    assert (stored["role"], stored["namespaces"]) == ("admin", ["shop"])
