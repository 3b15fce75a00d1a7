"""Who gets which Secret, and what the release makes by itself: nothing that it was not asked
for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.chart.rendered import (
    BUNDLED,
    EVERYTHING,
    EXTERNAL,
    GENERATED,
    Manifest,
    containers,
    merged,
    named,
    pods,
    render,
)
from tests.chart.test_manifests import CUSTOM, KAFKA, POSTGRES, fault_of

KAFKA_USERS = {
    "api",
    "engine",
    "ingest",
    "projector",
    "setup/topics",
    "test",
    "upgrade-gate",
    "worker-default",
    "worker-gpu",
}
POSTGRES_USERS = {"api", "projector", "setup/perdure", "test"}
SECURED: dict[str, Any] = {
    **KAFKA["secured"],
    "api": {"auth": {"existingSecret": "keys"}},
    "postgres": {"existingSecret": "tables"},
}
KEDAS_METADATA = {
    "bootstrapServers",
    "consumerGroup",
    "topic",
    "lagThreshold",
    "offsetResetPolicy",
    "tls",
    "sasl",
}
KEDAS_PARAMETERS = {"ca", "cert", "key", "username", "password"}
"""Of the Kafka scaler of KEDA v2.20.2, as far as the chart uses them."""
KEDAS_SASL = {"none", "plaintext", "scram_sha256", "scram_sha512", "oauthbearer", "gssapi"}


def secrets_by_container(manifests: list[Manifest]) -> dict[str, set[str]]:
    """The Secrets that each container reads, by "component" or "component/container"; a pod's own
    volumes only where it mounts them."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        for _, pod in pods([manifest]):
            component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
            volumes = {
                each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each
            }
            mounted: set[str] = set()
            for container in containers(pod):
                variables = {
                    each["valueFrom"]["secretKeyRef"]["name"]
                    for each in container.get("env", ())
                    if "secretKeyRef" in each.get("valueFrom", {})
                }
                files = {
                    volumes[each["name"]] for each in container["volumeMounts"] if each["name"] in volumes
                }
                mounted |= files
                name = component if component != "setup" else f"setup/{container['name']}"
                found[name] = variables | files
            assert mounted == set(volumes.values()), (
                f"{component} has a volume of a Secret that no container mounts"
            )
    return found


def test_each_container_has_the_secrets_that_it_needs_and_no_others() -> None:
    found = secrets_by_container(render(EVERYTHING, SECURED))
    kafka, postgres = {"user", "tls", "registry"}, {"tables"}
    for component, secrets in found.items():
        expected = (kafka if component in KAFKA_USERS else set[str]()) | (
            postgres if component in POSTGRES_USERS else set[str]()
        )
        expected |= {"api": {"keys"}, "test": {"shop-perdure-test"}}.get(component, set())
        assert secrets == expected, component
    assert found.keys() == KAFKA_USERS | POSTGRES_USERS


@pytest.mark.parametrize(("kafka", "postgres"), [*itertools.product(KAFKA, POSTGRES)])
def test_every_pod_that_uses_kafka_has_its_settings(kafka: str, postgres: str) -> None:
    """A Secret or a setting that one of them does not get is a release that hangs."""
    manifests = render(EVERYTHING, KAFKA[kafka], POSTGRES[postgres], is_upgrade=True)
    wanted: set[str] = set()
    seen = 0
    for name, pod in pods(manifests):
        if name.endswith(("-kafka", "-postgres")):
            continue
        for container in containers(pod):
            environment = {each["name"]: each for each in container["env"]}
            assert "PERDURE_NAMESPACE" in environment, name
            if container["args"][0] == "migrate":
                continue
            seen += 1
            common = {key for key in environment if key.startswith("PERDURE_KAFKA")}
            wanted = wanted or common
            assert common == wanted, name
            paths = [each["value"] for key, each in environment.items() if key.endswith("_LOCATION")]
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in paths), name
    assert seen == (8 if postgres == "none" else 9)
    assert ("PERDURE_KAFKA_SASL_PASSWORD" in wanted) == (kafka == "secured")
    assert ("PERDURE_KAFKA_SSL_CA_LOCATION" in wanted) == (kafka in {"secured", "strimzi"})


def test_a_component_may_be_a_kafka_user_of_its_own() -> None:
    own = {
        "workers": {"gpu": {"kafkaSecrets": {"sasl": "gpu-user", "tls": "gpu-tls"}}},
        "ingest": {"kafkaSecrets": {"sasl": "in"}},
    }
    manifests = render(EVERYTHING, SECURED, own)
    found = secrets_by_container(manifests)
    assert found["worker-gpu"] == {"gpu-user", "gpu-tls", "registry"}
    assert found["ingest"] == {"in", "tls", "registry"}
    assert found["worker-default"] == {"user", "tls", "registry"}
    asked = {each["name"] for each in keda(manifests)[0]["spec"]["secretTargetRef"]}
    assert asked == {"gpu-user", "gpu-tls"}


def keda(manifests: list[Manifest]) -> tuple[Manifest, Manifest]:
    authentication = [each for each in manifests if each["kind"] == "TriggerAuthentication"]
    (scaled,) = [each for each in manifests if each["kind"] == "ScaledObject"]
    return (authentication or [{}])[0], scaled


@pytest.mark.parametrize("kafka", KAFKA)
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_keda_reads_the_lag_with_what_the_worker_has(kafka: str, mechanism: str) -> None:
    values = merged(KAFKA[kafka], {"kafka": {"security": {"sasl": {"mechanism": mechanism}}}})
    manifests = render(EVERYTHING, values, POSTGRES["none"])
    authentication, scaled = keda(manifests)
    worker = named(manifests, "Deployment", "shop-perdure-worker-gpu")["spec"]["template"]["spec"]
    environment = {each["name"]: each for each in worker["containers"][0]["env"]}
    protocol = environment.get("PERDURE_KAFKA_SECURITY_PROTOCOL", {}).get("value", "PLAINTEXT")
    for trigger in scaled["spec"]["triggers"]:
        metadata = trigger["metadata"]
        assert metadata.keys() <= KEDAS_METADATA
        assert metadata["bootstrapServers"] == environment["PERDURE_KAFKA"]["value"]
        assert metadata.get("tls", "disable") == ("enable" if protocol.endswith("SSL") else "disable")
        assert metadata.get("sasl", "none") in KEDAS_SASL
        assert (metadata.get("sasl", "none") == "none") == (not protocol.startswith("SASL"))
        if protocol != "PLAINTEXT":
            assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    if protocol == "PLAINTEXT":
        assert not authentication
        return
    parameters = {
        each["parameter"]: (each["name"], each["key"]) for each in authentication["spec"]["secretTargetRef"]
    }
    assert parameters.keys() <= KEDAS_PARAMETERS
    volumes = {each["name"]: each["secret"]["secretName"] for each in worker["volumes"] if "secret" in each}
    mounts = {
        each["mountPath"]: volumes[each["name"]]
        for each in worker["containers"][0]["volumeMounts"]
        if each["name"] in volumes
    }
    for parameter, variable in {"ca": "SSL_CA", "cert": "SSL_CERTIFICATE", "key": "SSL_KEY"}.items():
        folder, _, key = environment[f"PERDURE_KAFKA_{variable}_LOCATION"]["value"].rpartition("/")
        assert parameters[parameter] == (mounts[folder], key)
    for parameter in ("username", "password"):
        if secret := environment.get(f"PERDURE_KAFKA_SASL_{parameter.upper()}"):
            reference = secret["valueFrom"]["secretKeyRef"]
            assert parameters[parameter] == (reference["name"], reference["key"])
    assert fault_of(authentication, "1.36") == fault_of(scaled, "1.36") == ""


def test_keda_may_log_in_in_another_way() -> None:
    reference = {"name": "company", "kind": "ClusterTriggerAuthentication"}
    scaling = {
        "enabled": True,
        "authenticationRef": reference,
        "triggerMetadata": {"sasl": "oauthbearer", "allowIdleConsumers": True},
    }
    security = {"protocol": "SASL_SSL", "sasl": {"mechanism": "OAUTHBEARER"}}
    manifests = render(
        EXTERNAL, {"kafka": {"security": security}, "workers": {"gpu": {"autoscaling": scaling}}}
    )
    authentication, scaled = keda(manifests)
    assert not authentication
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["authenticationRef"] == reference
    assert trigger["metadata"]["allowIdleConsumers"] == "true"
    assert fault_of(scaled, "1.36") == ""


STRIMZI = {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}}}


def test_strimzis_resources_are_those_of_its_version_1() -> None:
    manifests = render(EVERYTHING, STRIMZI, POSTGRES["none"])
    kinds = {(each["apiVersion"], each["kind"]) for each in manifests if "strimzi" in each["apiVersion"]}
    assert kinds == {("kafka.strimzi.io/v1", "KafkaTopic"), ("kafka.strimzi.io/v1", "KafkaUser")}
    assert all(" 1." in CUSTOM[f"{version}/{kind}"]["$comment"] for version, kind in kinds)


def test_secrets_of_a_kafka_in_another_namespace_are_copies_with_a_name() -> None:
    strimzi = {
        "namespace": "kafka", "userSecret": "copied-user", "caSecret": "copied-ca",
        "userSecretAnnotations": {"reflector.v1.k8s.emberstack.com/reflection-allowed": "true"},
    }  # fmt: skip
    manifests = render(EVERYTHING, STRIMZI, {"kafka": {"strimzi": strimzi}}, POSTGRES["none"])
    found = secrets_by_container(manifests)
    assert found["engine"] == found["worker-gpu"] == {"copied-user", "copied-ca"}
    (user,) = [each for each in manifests if each["kind"] == "KafkaUser"]
    assert user["metadata"]["namespace"] == "kafka"
    assert user["spec"]["template"]["secret"]["metadata"]["annotations"] == strimzi["userSecretAnnotations"]
    assert [fault for each in manifests if (fault := fault_of(each, "1.36"))] == []


def test_a_strimzi_without_our_user_is_reached_as_kafka_security_says() -> None:
    values = merged(
        STRIMZI,
        {"kafka": {"strimzi": {"createUser": False}, **SECURED["kafka"]}},
        {"kafka": {"mode": "strimzi"}},
    )
    values = merged(values, {"kafka": {"bootstrapServers": ""}})
    found = secrets_by_container(render(EVERYTHING, values, POSTGRES["none"]))
    assert found["engine"] == {"user", "tls"}
    engine = named(render(values, POSTGRES["none"]), "StatefulSet", "shop-perdure-engine")["spec"][
        "template"
    ]["spec"]
    assert {"name": "PERDURE_KAFKA", "value": "main-kafka-bootstrap.prod:9093"} in engine["containers"][0][
        "env"
    ]


@pytest.mark.parametrize(("kafka", "postgres"), [*itertools.product(KAFKA, POSTGRES)])
def test_nothing_is_random_unless_it_was_asked_for(kafka: str, postgres: str) -> None:
    once, again = (render(EVERYTHING, KAFKA[kafka], POSTGRES[postgres]) for _ in range(2))
    assert once == again
    assert not [each for each in once if each["kind"] == "Secret"]


def test_secrets_are_made_when_that_is_asked_for() -> None:
    made = {
        each["metadata"]["name"]: each["data"]
        for each in render(BUNDLED, GENERATED)
        if each["kind"] == "Secret"
    }
    assert made.keys() == {"shop-perdure-api-keys", "shop-perdure-postgres"}
    assert made != {
        each["metadata"]["name"]: each["data"]
        for each in render(BUNDLED, GENERATED)
        if each["kind"] == "Secret"
    }
    theirs = {
        "api": {"auth": {"existingSecret": "keys"}},
        "postgres": {"bundled": {"existingSecret": "password"}},
    }
    manifests = render(BUNDLED, GENERATED, theirs)
    assert not [each for each in manifests if each["kind"] == "Secret"]
    assert secrets_by_container([named(manifests, "StatefulSet", "shop-perdure-postgres")])["postgres"] == {
        "password"
    }
