"""What the chart renders is what Kubernetes takes, for every combination of modes, under the
restricted standard."""

from __future__ import annotations

import importlib
import itertools
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helm_python.chart import lint

from perdure.adapters.kafka.namespace.topics import topics_of
from tests.chart.rendered import (
    BUNDLED,
    CHART,
    EVERYTHING,
    EXTERNAL,
    Manifest,
    containers,
    merged,
    named,
    pods,
    render,
    text_of,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    kubernetes_validate: Any = importlib.import_module("kubernetes_validate")  # neither has types
    jsonschema: Any = importlib.import_module("jsonschema")

KAFKA: dict[str, dict[str, Any]] = {
    "external": {"kafka": {"bootstrapServers": "broker:9092"}},
    "secured": {
        "kafka": {
            "bootstrapServers": "broker:9094",
            "security": {
                "protocol": "SASL_SSL",
                "sasl": {"existingSecret": "user"},
                "tls": {"existingSecret": "tls", "certificateKey": "tls.crt", "privateKeyKey": "tls.key"},
            },
        },
        "schemaRegistry": {"url": "https://registry", "existingSecret": "registry"},
    },
    "strimzi": {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}}},
    "bundled": {"kafka": {"mode": "bundled"}},
}
POSTGRES: dict[str, dict[str, Any]] = {
    "external": {"postgres": {"existingSecret": "tables"}},
    "cnpg": {"postgres": {"mode": "cnpg"}},
    "bundled": {"postgres": {"mode": "bundled"}},
    "none": {"postgres": {"mode": "none"}},
}
WAYS = [*itertools.product(KAFKA, POSTGRES)]
CUSTOM: dict[str, Any] = json.loads((Path(__file__).parent / "custom_resources.json").read_text())
VERSIONS = ("1.34", "1.35", "1.36")


@cache
def whole(kafka: str, postgres: str) -> tuple[Manifest, ...]:
    return tuple(render(EVERYTHING, KAFKA[kafka], POSTGRES[postgres]))


def fault_of(manifest: Manifest, version: str) -> str:
    """The errors of a strict API server."""
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    try:
        if kind in CUSTOM:  # crds.py makes them
            if fault := jsonschema.exceptions.best_match(_validator_of(kind).iter_errors(manifest)):
                raise fault
        else:
            kubernetes_validate.validate(manifest, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return (
            f"{kind} {manifest['metadata']['name']}: {error.message} at "
            f"{'/'.join(map(str, error.absolute_path))}"
        )
    return ""


@cache
def _validator_of(kind: str) -> Any:
    validator = jsonschema.validators.validator_for(CUSTOM[kind])
    validator.check_schema(CUSTOM[kind])
    return validator(CUSTOM[kind])


@pytest.mark.parametrize(("kafka", "postgres"), WAYS)
def test_every_combination_of_modes_is_valid(kafka: str, postgres: str) -> None:
    version = VERSIONS[WAYS.index((kafka, postgres)) % len(VERSIONS)]
    assert [fault for each in whole(kafka, postgres) if (fault := fault_of(each, version))] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_is_valid_on_every_kubernetes(version: str) -> None:
    assert [fault for each in whole("bundled", "bundled") if (fault := fault_of(each, version))] == []


def test_the_validation_finds_what_is_wrong() -> None:
    manifest = json.loads(json.dumps(named(render(EXTERNAL), "Deployment", "shop-perdure-api")))
    manifest["spec"]["template"]["spec"]["containers"][0]["commands"] = ["typo"]
    assert "commands" in fault_of(manifest, "1.36")
    assert "maxReplicas" in fault_of(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "x"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"name": "x"}, "triggers": []},
        },
        "1.36",
    )


@pytest.mark.parametrize(("kafka", "postgres"), WAYS)
def test_every_pod_is_allowed_where_the_standard_is_restricted(kafka: str, postgres: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a
    read-only root besides."""
    seen = 0
    for name, pod in pods([*whole(kafka, postgres)]):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] != 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert {key for volume in pod["volumes"] for key in volume} <= {
            "name",
            "emptyDir",
            "secret",
            "configMap",
        }, name
        for container in containers(pod):
            seen += 1
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), name
    assert seen >= 8


def test_each_pod_that_serves_is_asked_whether_it_lives_and_is_ready() -> None:
    served = [
        (name, pod)
        for name, pod in pods([*whole("external", "external")])
        if name.startswith(("Deployment", "StatefulSet"))
    ]
    assert len(served) == 6
    for name, pod in served:
        (container,) = pod["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live", name
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready", name
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", name
        assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}, name
        environment = {each["name"]: each.get("value") for each in container["env"]}
        grace = int(environment.get("PERDURE_GRACE", 10))
        assert pod["terminationGracePeriodSeconds"] > 5 + grace, name
        assert environment["PERDURE_METRICS_PORT"] == str(container["ports"][0]["containerPort"]), name


def test_an_engine_is_named_by_its_pod() -> None:
    engine = named(render(EXTERNAL), "StatefulSet", "shop-perdure-engine")
    environment = {each["name"]: each for each in engine["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["PERDURE_INSTANCE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert engine["spec"]["podManagementPolicy"] == "Parallel"


def test_what_cannot_be_changed_does_not_change() -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset: all of the spec but a
    few fields; selectors of everything."""

    def fixed(values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in render(EVERYTHING, BUNDLED, values):
            name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
            if each["kind"] in {"Deployment", "StatefulSet"}:
                found[f"{name} selector"] = spec["selector"]
            if each["kind"] == "StatefulSet":
                found[name] = {
                    key: spec.get(key)
                    for key in ("serviceName", "podManagementPolicy", "volumeClaimTemplates")
                }
            if each["kind"] == "Service":
                found[name] = spec.get("clusterIP")
        return found

    news = {
        "image": {"tag": "9.9.9"},
        "commonLabels": {"team": "orders"},
        "podAnnotations": {"note": "x"},
        "logFormat": "console",
        "metrics": {"port": 9100},
        "engine": {"replicas": 4, "env": [{"name": "A", "value": "b"}]},
    }
    assert fixed(news) == fixed({})


def test_an_upgrade_of_ours_does_not_restart_the_servers_that_are_bundled() -> None:
    def servers(*values: dict[str, Any]) -> list[Manifest]:
        return [
            each["spec"]
            for each in render(BUNDLED, *values)
            if each["metadata"]["name"].endswith(("-kafka", "-postgres")) and "spec" in each
        ]

    news = {
        "image": {"tag": "9.9.9"},
        "commonLabels": {"team": "orders"},
        "podAnnotations": {"note": "x"},
        "app": "app.py",
    }
    assert len(servers()) == 4
    assert servers(news) == servers()
    assert servers({"kafka": {"bundled": {"image": "other"}}}) != servers()


def test_the_setup_is_another_job_when_it_is_not_the_same() -> None:
    def name_of(values: dict[str, Any]) -> str:
        (job,) = [
            each
            for each in render(EXTERNAL, values)
            if each["kind"] == "Job" and "setup" in each["metadata"]["name"]
        ]
        assert len(job["metadata"]["name"]) <= 63
        return str(job["metadata"]["name"])

    assert name_of({}) == name_of({})
    assert len({name_of({}), name_of({"image": {"tag": "2"}}), name_of({"setup": {"backoffLimit": 3}})}) == 3


def test_who_is_scaled_by_another_says_no_number() -> None:
    manifests = [*whole("external", "external")]
    targets = [
        each["spec"]["scaleTargetRef"]["name"]
        for each in manifests
        if each["kind"] in {"ScaledObject", "HorizontalPodAutoscaler"}
    ]
    assert sorted(targets) == ["shop-perdure-api", "shop-perdure-worker-gpu"]
    for name in targets:
        assert "replicas" not in named(manifests, "Deployment", name)["spec"]
    assert (
        "replicas"
        not in named(render(EXTERNAL, {"api": {"replicas": None}}), "Deployment", "shop-perdure-api")["spec"]
    )


def test_strimzi_makes_the_topics_that_the_platform_wants() -> None:
    manifests = [*whole("strimzi", "external")]
    made = {each["spec"]["topicName"]: each["spec"] for each in manifests if each["kind"] == "KafkaTopic"}
    wanted = {f"shop.{topic.part}": topic for topic in topics_of(["default", "gpu", "video"])}
    assert made.keys() == wanted.keys()
    for name, topic in wanted.items():
        found = {key: str(value).lower() for key, value in made[name]["config"].items()}
        for setting in topic.configuration:
            assert setting.fits(found[setting.name]), f"{name}: {setting.name}"
        assert made[name]["partitions"] == (topic.partitions or 12), name
        assert found["min.insync.replicas"] == "2"
    (setup,) = [pod for name, pod in pods(manifests) if "setup" in name]
    assert setup["initContainers"][0]["args"][-1] == "--existing", "two owners of one topic would fight"
    names = [each["metadata"]["name"] for each in manifests if each["kind"] == "KafkaTopic"]
    assert len(names) == len(set(names))


def test_hooks_come_before_the_release_only_when_what_they_need_is_there() -> None:
    manifests = render(EXTERNAL, {"setup": {"useHelmHooks": True}})
    setup = named(manifests, "Job", "shop-perdure-setup")
    assert setup["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    account = named(manifests, "ServiceAccount", "shop-perdure-hooks")
    assert int(account["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(
        setup["metadata"]["annotations"]["helm.sh/hook-weight"]
    )
    gate = named(manifests, "Job", "shop-perdure-upgrade-gate")
    assert gate["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    assert gate["spec"]["template"]["spec"]["containers"][0]["args"][:3] == [
        "check",
        "perdure.echo",
        "--live",
    ]
    assert not [
        each
        for each in render(EXTERNAL, {"upgradeGate": {"overrule": True}})
        if "gate" in each["metadata"]["name"]
    ]


def test_a_pod_template_is_merged_key_by_key() -> None:
    manifests = render(
        EXTERNAL,
        {
            "podTemplate": {"spec": {"nodeSelector": {"disk": "fast"}, "priorityClassName": "high"}},
            "engine": {
                "podTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"zone": "x"}}}
            },
        },
    )
    template = named(manifests, "StatefulSet", "shop-perdure-engine")["spec"]["template"]
    assert template["spec"]["nodeSelector"] == {"disk": "fast", "zone": "x"}
    assert template["metadata"]["labels"]["a"] == "b"
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "engine"
    assert all(pod.get("priorityClassName") == "high" for _, pod in pods(manifests))


def test_helm_lint_has_no_findings() -> None:
    report = lint(CHART, merged(EVERYTHING, EXTERNAL), strict=True, namespace="prod", kube_version="v1.36.0")
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


def test_the_notes_say_how_to_ask_and_what_is_for_trying_only() -> None:
    notes = text_of(BUNDLED)["perdure/templates/NOTES.txt"]
    assert "port-forward svc/shop-perdure-api" in notes
    assert "never for work that matters" in notes
    assert "never for work that matters" not in text_of(EXTERNAL)["perdure/templates/NOTES.txt"]
    assert (
        "suspended until code comes"
        in text_of(EXTERNAL, {"upgradeGate": {"overrule": True}})["perdure/templates/NOTES.txt"]
    )
