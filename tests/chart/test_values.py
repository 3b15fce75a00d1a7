"""Every value is documented and does something; what is wrong is refused by its name, with what to do."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmError

from perdure.cli.app import app as _cli
from tests.chart.rendered import (
    BUNDLED,
    CHART,
    EVERYTHING,
    EXTERNAL,
    ROOT,
    containers,
    generator,
    merged,
    named,
    pods,
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
INGRESS: dict[str, Any] = {"httpRoute": {"enabled": False}, "ingress": {"enabled": True, "host": "shop.example.com"}}
STRIMZI: dict[str, Any] = {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}}}
CNPG: dict[str, Any] = {"postgres": {"mode": "cnpg"}}

WHERE: dict[str, dict[str, Any]] = {
    "ingress.": INGRESS,
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
    "volumes": [{"name": "app", "configMap": {"name": "app"}}],
    "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}],
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


def without_chance(files: dict[str, str]) -> dict[str, str]:
    """What is rendered, but for keys and passwords, which are another each time."""
    return {
        name: re.sub(r"^  (key|keys\.toml\w*|password|uri|keysx?\.toml): .*$", "", text, flags=re.MULTILINE)
        for name, text in files.items()
    }


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_does_something(path: str) -> None:
    nothing: dict[str, Any] = {}
    context = next((values for prefix, values in WHERE.items() if path.startswith(prefix)), nothing)
    before = merged(ALL, context)
    change = nested(path, another(path, LEAVES[path], before))
    if path == "ingress.enabled":
        change = merged(change, {"httpRoute": {"enabled": False}})
    is_changed = without_chance(text_of(before)) != without_chance(text_of(before, change))
    assert is_changed == (path not in NOT_LOOKED_AT), f"{path}: {change}"


def test_documents_and_schema_are_those_of_the_values() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == GENERATE.schema_of(VALUES), "run deploy/helm/generate.py"
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


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers is empty: name the brokers"),
        ({"kafka": {"mode": "strimzi"}}, "kafka.strimzi.cluster is empty"),
        ({"kafka": {"security": {"protocol": "SASL_SSL"}}}, "kafka.security.sasl.existingSecret is empty"),
        ({"kafka": {"security": {"tls": {"existingSecret": "x", "certificateKey": "c"}}}}, "privateKeyKey is empty"),
        ({"postgres": {"existingSecret": ""}}, "postgres.existingSecret is empty"),
        (merged(EVERYTHING, {"ingress": {"enabled": True, "host": "x"}}), "httpRoute and ingress are both enabled"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
        ({"ingress": {"enabled": True}}, "ingress.host is empty"),
        ({"setup": {"useHelmHooks": True}, "postgres": {"mode": "bundled"}}, "setup.useHelmHooks needs"),
        ({"namespace": "_shop"}, "cannot begin topics' names"),
        ({"engine": {"replicas": 13}}, "more engines than partitions do nothing"),
        ({"workers": {"Not_This": {}}}, 'the worker "Not_This"'),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        text_of(EXTERNAL, values)


def test_umbrella_charts_may_say_what_is_theirs() -> None:
    text_of(EXTERNAL, {"global": {"anything": {"at": "all"}}, "enabled": True})


def test_a_worker_that_is_null_is_gone() -> None:
    names = [each["metadata"]["name"] for each in render(EXTERNAL, {"workers": {"default": None, "gpu": {"queues": ["gpu"]}}})]
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

    secret = named(render(EXTERNAL), "Secret", "shop-perdure-api-keys")["data"]
    key, file = b64decode(secret["key"]).decode(), tomllib.loads(b64decode(secret["keys.toml"]).decode())
    (stored,) = file["keys"]
    assert re.fullmatch(r"perdure_[0-9a-f]{12}_\w{43}", key)
    assert stored["id"] == key.split("_")[1]
    assert stored["hash"] == f"sha256:{sha256(key.encode()).hexdigest()}"
    assert (stored["role"], stored["namespaces"]) == ("admin", ["shop"])


def test_every_argument_and_variable_is_one_that_the_commands_know() -> None:
    """A flag that is renamed here and not there is a pod that does not start."""
    import typer.main

    tree: Any = typer.main.get_command(_cli)
    known = {
        name
        for command in [
            *tree.commands.values(),
            *(sub for group in tree.commands.values() for sub in getattr(group, "commands", {}).values()),
        ]
        for parameter in command.params
        for name in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }
    for _, pod in pods(render(ALL)):
        for container in containers(pod):
            command = tree.commands[container["args"][0]]
            if hasattr(command, "commands"):
                command = command.commands[container["args"][1]]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {each for each in container["args"] if each.startswith("--")} <= options, container["args"]
            variables = {each["name"] for each in container["env"] if each["name"].startswith("PERDURE_")}
            assert {each for each in variables if not each.startswith("PERDURE_KAFKA_")} <= known | {"PERDURE_TOKEN"}
