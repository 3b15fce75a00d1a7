"""What belongs together in a release is together: Secrets and their keys, ports, selectors,
numbers, routes, monitors and alerts."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from perdure.adapters.kafka.namespace.topics import topics_of
from tests.chart.rendered import (
    BUNDLED,
    EVERYTHING,
    EXTERNAL,
    GENERATED,
    Manifest,
    merged,
    named,
    pods,
    render,
)
from tests.chart.test_names_of_code import STRIMZI, main_container, parsed

SECURED: dict[str, Any] = {
    "kafka": {
        "bootstrapServers": "broker:9094",
        "security": {
            "protocol": "SASL_SSL",
            "sasl": {
                "existingSecret": "user",
                "mechanism": "PLAIN",
                "usernameKey": "name",
                "passwordKey": "pass",
            },
            "tls": {
                "existingSecret": "tls",
                "caKey": "my-ca",
                "certificateKey": "my-cert",
                "privateKeyKey": "my-key",
            },
        },
    },
    "postgres": {"existingSecret": "tables", "key": "address"},
    "schemaRegistry": {"url": "https://registry", "existingSecret": "registry"},
}


@cache
def everything() -> tuple[Manifest, ...]:
    values = {
        "workers": {
            "gpu": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9, "lagThreshold": 77}},
            "idle": {"queues": ["rare"], "autoscaling": {"enabled": True, "minReplicas": 0}},
        },
        "api": {
            "autoscaling": {"minReplicas": 3, "maxReplicas": 8, "targetCPU": 55},
            "service": {"port": 8088},
        },
        "networkPolicy": {"apiFrom": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]},
        "metrics": {"port": 9464},
    }
    return tuple(render(EVERYTHING, SECURED, values, is_upgrade=True))


def of_kind(kind: str) -> list[Manifest]:
    return [each for each in everything() if each["kind"] == kind]


def variables(component: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in main_container([*everything()], component)["env"]:
        reference = each.get("valueFrom", {}).get("secretKeyRef")
        found[each["name"]] = (reference["name"], reference["key"]) if reference else each.get("value")
    return found


def test_each_secret_is_read_by_the_key_that_holds_what_the_variable_says() -> None:
    found = variables("engine")
    assert found["PERDURE_KAFKA_SASL_USERNAME"] == ("user", "name")
    assert found["PERDURE_KAFKA_SASL_PASSWORD"] == ("user", "pass")
    assert found["PERDURE_KAFKA_SASL_MECHANISMS"] == "PLAIN"
    assert found["PERDURE_KAFKA_SSL_CA_LOCATION"] == "/etc/perdure/kafka/my-ca"
    assert found["PERDURE_KAFKA_SSL_CERTIFICATE_LOCATION"] == "/etc/perdure/kafka/my-cert"
    assert found["PERDURE_KAFKA_SSL_KEY_LOCATION"] == "/etc/perdure/kafka/my-key"
    assert found["PERDURE_KAFKA_SCHEMA_REGISTRY_USERNAME"] == ("registry", "username")
    assert found["PERDURE_KAFKA_SCHEMA_REGISTRY_PASSWORD"] == ("registry", "password")
    assert variables("projector")["PERDURE_POSTGRES"] == ("tables", "address")


@pytest.mark.parametrize(
    ("mode", "secret"), [("bundled", "shop-perdure-postgres"), ("cnpg", "shop-perdure-postgres-app")]
)
def test_the_address_of_a_postgresql_of_the_release_is_the_uri_of_its_secret(mode: str, secret: str) -> None:
    container = main_container(render(EXTERNAL, {"postgres": {"mode": mode, "key": "address"}}), "projector")
    (reference,) = [
        each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "PERDURE_POSTGRES"
    ]
    assert (reference["name"], reference["key"]) == (secret, "uri")


def test_keda_scales_between_the_numbers_of_the_worker_by_its_lag() -> None:
    gpu = named([*everything()], "ScaledObject", "shop-perdure-worker-gpu")["spec"]
    assert (gpu["minReplicaCount"], gpu["maxReplicaCount"], gpu["fallback"]["replicas"]) == (2, 9, 2)
    assert [each["metadata"]["lagThreshold"] for each in gpu["triggers"]] == ["77", "77"]
    assert {each["metadata"]["offsetResetPolicy"] for each in gpu["triggers"]} == {"earliest"}, (
        "a new queue's tasks count"
    )
    idle = named([*everything()], "ScaledObject", "shop-perdure-worker-idle")["spec"]
    assert idle["minReplicaCount"] == 0
    assert idle["fallback"]["replicas"] == 1, "when the lag is not known, somebody has to look at the queue"


def test_the_api_is_scaled_between_its_numbers() -> None:
    (found,) = of_kind("HorizontalPodAutoscaler")
    assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (3, 8)
    assert found["spec"]["metrics"][0]["resource"]["target"] == {
        "type": "Utilization",
        "averageUtilization": 55,
    }
    assert (
        found["spec"]["scaleTargetRef"]["name"]
        == named([*everything()], "Deployment", "shop-perdure-api")["metadata"]["name"]
    )


def test_a_service_leads_to_a_port_that_its_pods_have() -> None:
    templates = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"][
            "template"
        ]
        for each in everything()
        if each["kind"] in {"Deployment", "StatefulSet"}
    }
    for service in of_kind("Service"):
        selected = [
            each
            for each in templates.values()
            if service["spec"]["selector"].items() <= each["metadata"]["labels"].items()
        ]
        assert len(selected) == 1, service["metadata"]["name"]
        ports = {
            each["name"]: each["containerPort"] for each in selected[0]["spec"]["containers"][0]["ports"]
        }
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, service["metadata"]["name"]
            assert port["name"] == port["targetPort"]
    assert named([*everything()], "Service", "shop-perdure-api")["spec"]["ports"][0]["port"] == 8088
    engine = named([*everything()], "StatefulSet", "shop-perdure-engine")["spec"]
    headless = named([*everything()], "Service", engine["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True, "an engine that restores is looked at, too"


def test_routes_lead_to_the_service_of_the_api_and_allow_long_streams() -> None:
    (route,) = of_kind("HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "shop-perdure-api", "port": 8088}]
    assert rule["timeouts"]["request"] == "0s"
    paths = {(each["path"]["type"], each["path"]["value"]) for each in rule["matches"]}
    assert paths == {("PathPrefix", "/api/"), ("Exact", "/openapi.json"), ("Exact", "/docs")}, (
        "health and metrics are for the cluster"
    )
    assert route["spec"]["hostnames"] == ["shop.example.com"]
    ingress = {
        "ingress": {"enabled": True, "host": "h.example.com", "className": "nginx", "tlsSecret": "cert"}
    }
    (found,) = [each for each in render(EXTERNAL, ingress) if each["kind"] == "Ingress"]
    assert found["spec"]["tls"] == [{"hosts": ["h.example.com"], "secretName": "cert"}]
    (rule,) = found["spec"]["rules"]
    assert rule["host"] == "h.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": "shop-perdure-api",
        "port": {"name": "http"},
    }


def test_monitors_find_every_pod_once_and_label_what_they_find_as_alerts_ask_for_it() -> None:
    (monitor,), (service_monitor,) = of_kind("PodMonitor"), of_kind("ServiceMonitor")
    assert (
        service_monitor["spec"]["selector"]["matchLabels"].items()
        <= named([*everything()], "Service", "shop-perdure-api-metrics")["metadata"]["labels"].items()
    )
    left_out = monitor["spec"]["selector"]["matchExpressions"][0]
    assert (left_out["operator"], set(left_out["values"])) == ("NotIn", {"kafka", "postgres", "api"})
    (alone,) = [
        each
        for each in render(EXTERNAL, {"metrics": {"podMonitor": {"enabled": True}}})
        if each["kind"] == "PodMonitor"
    ]
    assert set(alone["spec"]["selector"]["matchExpressions"][0]["values"]) == {"kafka", "postgres"}, (
        "then it asks the API, too"
    )
    labels: list[dict[str, Any]] = []
    for endpoints in (monitor["spec"]["podMetricsEndpoints"], service_monitor["spec"]["endpoints"]):
        (endpoint,) = endpoints
        labels.append(
            {
                each["targetLabel"]: each.get("replacement") or each["sourceLabels"]
                for each in endpoint["relabelings"]
            }
        )
    assert labels == [
        {"component": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "release": "shop"},
        {"component": "api", "release": "shop"},
    ]
    components = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in everything()}
    (rules,) = of_kind("PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        selectors = re.findall(r"perdure_\w+(\{[^}]*\})?", rule["expr"])
        assert all('release="shop",namespace="prod"' in each for each in selectors), rule["alert"]
        assert set(re.findall(r'component="([^"]*)"', rule["expr"])) <= components
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_no_alert_adds_up_what_has_other_labels() -> None:
    """`sum by (release) (a) + vector(0)` is nothing at all: a sum has pairs of equal labels
    only."""
    (rules,) = of_kind("PrometheusRule")
    assert not [rule["alert"] for rule in rules["spec"]["groups"][0]["rules"] if "vector(" in rule["expr"]]


def test_the_gate_runs_before_an_upgrade_and_is_never_tried_twice() -> None:
    gate = named([*everything()], "Job", "shop-perdure-upgrade-gate")
    assert gate["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    assert gate["spec"]["backoffLimit"] == 0
    found = parsed(main_container([*everything()], "upgrade-gate"))
    assert (found["live"], found["allow_new"]) == (True, True)
    off = render(EXTERNAL, {"upgradeGate": {"overrule": True}})
    assert not [each for each in off if "upgrade-gate" in each["metadata"]["name"]]


def test_the_setup_makes_topics_before_tables_and_leaves_topics_to_strimzi() -> None:
    for values, existing in (
        (SECURED, False),
        (merged(STRIMZI, {"postgres": {"existingSecret": "tables"}}), True),
    ):
        ((_, pod),) = [each for each in pods(render(EVERYTHING, values)) if "setup" in each[0]]
        (first,), (then,) = pod["initContainers"], pod["containers"]
        assert (first["args"][:2], then["args"][0]) == (["topics", "apply"], "migrate")
        assert parsed(first)["existing"] is existing
        assert pod["restartPolicy"] == "OnFailure"
    ((_, pod),) = [
        each for each in pods(render(SECURED, {"postgres": {"mode": "none"}})) if "setup" in each[0]
    ]
    assert "initContainers" not in pod
    assert pod["containers"][0]["args"][:2] == ["topics", "apply"]
    ((_, pod),) = [each for each in pods(render(BUNDLED)) if "setup" in each[0]]
    assert parsed(pod["initContainers"][0])["replication"] == 1, "there is one broker"


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, 1), (2, 1), (3, 2)])
def test_strimzis_topics_can_lose_a_broker_and_are_kept(replicas: int, in_sync: int) -> None:
    values = {
        "kafka": {"topics": {"replicationFactor": replicas}},
        "postgres": {"mode": "none"},
        "namespace": "orders",
    }
    made = [each for each in render(STRIMZI, values) if each["kind"] == "KafkaTopic"]
    assert {each["spec"]["topicName"] for each in made} == {
        f"orders.{each.part}" for each in topics_of(["default"])
    }
    for each in made:
        assert each["spec"]["replicas"] == replicas
        assert each["spec"]["config"]["min.insync.replicas"] == in_sync
        assert each["spec"]["config"]["unclean.leader.election.enable"] is False
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("create", "protocol", "port"), [(True, "PLAINTEXT", 9093), (False, "PLAINTEXT", 9092)]
)
def test_strimzi_is_reached_at_the_listener_that_fits(create: bool, protocol: str, port: int) -> None:
    strimzi = {"kafka": {"strimzi": {"createUser": create}, "security": {"protocol": protocol}}}
    manifests = render(STRIMZI, strimzi, {"postgres": {"mode": "none"}})
    assert parsed(main_container(manifests, "engine"))["kafka"] == f"main-kafka-bootstrap.prod:{port}"


def test_a_pod_has_the_time_of_its_process_and_of_the_pause_before() -> None:
    values = {"preStopSeconds": 7, "engine": {"startupSeconds": 600, "graceSeconds": 40}}
    manifests = render(EVERYTHING, EXTERNAL, values)
    engine = named(manifests, "StatefulSet", "shop-perdure-engine")["spec"]["template"]["spec"]
    assert engine["terminationGracePeriodSeconds"] == 7 + 40 + 20
    projector = named(manifests, "Deployment", "shop-perdure-projector")["spec"]["template"]["spec"]
    assert projector["terminationGracePeriodSeconds"] == 7 + 10 + 20
    probe = engine["containers"][0]["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 600


def test_the_api_takes_connections_of_a_gateway_without_a_limit_for_one_address() -> None:
    found = parsed(main_container([*everything()], "api"))
    assert found["connections_per_address"] == 0
    assert found["host"] == "0.0.0.0"
    policy = named([*everything()], "NetworkPolicy", "shop-perdure-api")["spec"]["ingress"][0]
    components = [
        each["podSelector"]["matchLabels"].get(
            "app.kubernetes.io/component", each["podSelector"]["matchLabels"].get("app")
        )
        for each in policy["from"]
    ]
    assert components == ["gateway", "test"], "helm test asks the API, too"
    assert policy["ports"] == [{"port": "http"}]


def test_a_changed_configuration_restarts_every_pod_that_has_it() -> None:
    def checksums(values: dict[str, Any]) -> dict[str, str]:
        return {
            each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["metadata"][
                "annotations"
            ]["checksum/config"]
            for each in render(EVERYTHING, EXTERNAL, values)
            if each["kind"] in {"Deployment", "StatefulSet"}
        }

    before, other_kafka = checksums({}), checksums({"kafka": {"settings": {"linger.ms": 7}}})
    assert not before.items() & other_kafka.items()
    assert checksums({"engine": {"replicas": 2}}) == before
    other_tables = checksums({"postgres": {"existingSecret": "others"}})
    restarted = {component for component, found in other_tables.items() if found != before[component]}
    assert restarted == {"api", "projector"}, "the others do not use PostgreSQL"


def test_the_test_of_a_release_has_the_key_that_the_release_made() -> None:
    for values, wanted in (
        (GENERATED, ("shop-perdure-api-keys", "key")),
        ({}, ("shop-perdure-test", "token")),
    ):
        container = main_container(render(EXTERNAL, values), "test")
        (reference,) = [
            each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "PERDURE_TOKEN"
        ]
        assert (reference["name"], reference["key"]) == wanted


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://c", 80), ("https://c", 443), ("http://c:4318", 4318), ("https://c:8443/x", 8443)],
)
def test_pods_get_out_to_the_port_of_a_url(url: str, port: int) -> None:
    values = {"networkPolicy": {"enabled": True}, "traces": {"enabled": True, "endpoint": url}}
    rules = named(render(EXTERNAL, values), "NetworkPolicy", "shop-perdure-egress")["spec"]["egress"]
    assert rules[-1]["ports"] == [{"protocol": "TCP", "port": port}]


def test_pods_that_serve_have_the_account_that_stays() -> None:
    staying = {
        each["metadata"]["name"]
        for each in of_kind("ServiceAccount")
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    }
    serving = [
        each["spec"]["template"]["spec"]["serviceAccountName"]
        for each in everything()
        if each["kind"] in {"Deployment", "StatefulSet"}
    ]
    assert set(serving) == staying == {"shop-perdure"}, "that of the hooks goes when they have ended"
