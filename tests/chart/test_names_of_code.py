"""Whatever the chart says to the code, and the code to the chart, has the name that the other side
knows.

Commands are parsed as the pod would start them, and the values of the chart are compared with what
the command got.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import typer.main
from typer.testing import CliRunner

from perdure.adapters.kafka.clients.address import settings_of_environment
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.namespace.topics import DEFAULT_PARTITIONS, TASK_PARTITIONS, tasks_of, topics_of
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.cli.app import app as cli
from perdure.observability import server as observability
from tests.chart.rendered import EVERYTHING, EXTERNAL, ROOT, Manifest, containers, merged, named, pods, render
from tests.chart.test_manifests import KAFKA, POSTGRES
from tests.chart.test_values import ALL, LEAVES, nested

if TYPE_CHECKING:
    from collections.abc import Generator

TREE: Any = typer.main.get_command(cli)
STRIMZI = {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}}}


def environment_of(container: Manifest) -> dict[str, str]:
    """The environment of the process; a Secret's value is its name and key."""
    found: dict[str, str] = {}
    for each in container["env"]:
        source = each.get("valueFrom", {})
        reference = source.get("secretKeyRef") or source.get("fieldRef")
        found[each["name"]] = each["value"] if "value" in each else "/".join(map(str, reference.values()))
    return found


def parsed(container: Manifest) -> dict[str, Any]:
    """The parameters that the command gets from its arguments and environment."""
    command, arguments = TREE, list(container["args"])
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    with patch.dict("os.environ", environment_of(container), clear=True):
        found: dict[str, Any] = command.make_context("perdure", arguments).params
        return found


def main_container(manifests: list[Manifest], component: str) -> Manifest:
    found: Manifest
    (found,) = [
        pod["containers"][0]
        for each in manifests
        for _, pod in pods([each])
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return found


def test_every_argument_and_variable_is_one_that_the_commands_know() -> None:
    """A flag that is renamed here and not there is a pod that does not start."""
    taken_by_others = {"PERDURE_TOKEN"}  # by the client
    for name, pod in pods([*render(ALL, {"traces": {"enabled": True}}, is_upgrade=True), *reached()]):
        for container in containers(pod):
            command = TREE.commands[container["args"][0]]
            if hasattr(command, "commands"):
                command = command.commands[container["args"][1]]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {each for each in container["args"] if each.startswith("--")} <= options, container["args"]
            known = {
                variable
                for parameter in command.params
                for variable in (
                    [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
                )
            }
            variables = {
                each["name"] for each in container["env"] if re.match("PERDURE_(?!KAFKA_)", each["name"])
            }
            common = {"PERDURE_NAMESPACE", "PERDURE_LOG_FORMAT"}
            assert variables <= known | taken_by_others | common, f"{name}: {container['args'][0]}"
            assert parsed(container), name


REACHES = [
    ("engine.graceSeconds", "engine", "grace"),
    ("engine.processes", "engine", "processes"),
    ("engine.sessionTimeoutMs", "engine", "session_timeout_ms"),
    ("workerDefaults.graceSeconds", "worker-default", "grace"),
    ("workerDefaults.concurrency", "worker-default", "concurrency"),
    ("workerDefaults.queues", "worker-default", "queue"),
    ("workerDefaults.app", "worker-default", "app"),
    ("api.graceSeconds", "api", "grace"),
    ("api.auth.oidc.issuer", "api", "oidc_issuer"),
    ("api.auth.oidc.audience", "api", "oidc_audience"),
    ("api.auth.oidc.rolesClaim", "api", "oidc_roles_claim"),
    ("api.auth.oidc.namespacesClaim", "api", "oidc_namespaces_claim"),
    ("projector.retention", "projector", "retention"),
    ("ingest.from", "ingest", "begin"),
    ("upgradeGate.limit", "upgrade-gate", "limit"),
    *((path, component, name) for component in ("engine", "worker-default", "api", "projector",
            "ingest") for path, name in (
        ("metrics.port", "metrics_port"), ("logFormat", "log_format"), ("kafka.bootstrapServers", "kafka"),
        ("namespace", "namespace"),
        ("kafka.owner", "owner"),
    )),
    *(("app", component, "app") for component in ("engine", "api", "projector", "ingest", "upgrade-gate")),
    *(("traces.enabled", component, "traces") for component in ("engine", "worker-default")),
]  # fmt: skip
GIVEN = {
    "ingest.from": "latest", "projector.retention": "90 days", "logFormat": "console",
    "workerDefaults.queues": ["video", "gpu"],
    "traces.enabled": True, "namespace": "orders", "kafka.bootstrapServers": "b:1,c:2",
}  # fmt: skip


@cache
def reached() -> tuple[Manifest, ...]:
    """A release in which every value of the list is another than the default."""
    values = merged(ALL, {"kafka": {"topics": {"partitions": 1000}}, "workers": {"gpu": None}})
    return tuple(render(values, *(nested(path, given(path)) for path, _, _ in REACHES), is_upgrade=True))


def given(path: str) -> Any:
    default = LEAVES[path].default
    return GIVEN.get(path, default + 77 if isinstance(default, int) else f"{default}x")


@pytest.mark.parametrize(("path", "component", "parameter"), REACHES)
def test_a_value_reaches_the_command(path: str, component: str, parameter: str) -> None:
    got: Any = parsed(main_container([*reached()], component))[parameter]
    assert (list(got) if parameter == "queue" else got) == given(path)


@pytest.mark.parametrize("begin", ["earliest", "latest"])
def test_triggers_begin_where_the_values_say(begin: str) -> None:
    values = {"ingest": {"from": begin}}
    assert parsed(main_container(render(ALL, values), "ingest"))["begin"] == begin


@contextmanager
def served() -> Generator[list[Any]]:
    """The options that `serve` gets, in place of serving."""
    found: list[Any] = []
    with patch("perdure.cli.lifecycle.serving.serve", found.append):
        yield found


@pytest.mark.parametrize("component", ["worker-default", "engine"])
def test_the_grace_reaches_the_process(component: str) -> None:
    values = {"workerDefaults": {"graceSeconds": 77}, "engine": {"graceSeconds": 77}, "kafka": {"owner": ""}}
    container = main_container(render(EXTERNAL, values), component)
    environment = {**environment_of(container), "PERDURE_OWNER": ""}  # there is no Kafka to look at
    with served() as found:
        done = CliRunner().invoke(cli, container["args"], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert found[0].grace_s == 77


@pytest.mark.parametrize("seconds", [0, 45])
def test_a_pod_may_stop_for_as_long_as_its_process_does(seconds: int) -> None:
    values = {key: {"graceSeconds": seconds} for key in ("engine", "workerDefaults", "api")}
    manifests = render(EXTERNAL, values)
    for component in ("engine", "worker-default", "api"):
        for each in manifests:
            if (
                each["kind"] in {"Deployment", "StatefulSet"}
                and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
            ):
                pod = each["spec"]["template"]["spec"]
                pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
                assert pod["terminationGracePeriodSeconds"] == pause + seconds + 20


def test_keda_looks_at_the_groups_and_topics_of_the_workers() -> None:
    manifests = render(EVERYTHING, EXTERNAL, {"namespace": "orders"})
    (scaled,) = [each for each in manifests if each["kind"] == "ScaledObject"]
    looked_at = [
        (each["metadata"]["consumerGroup"], each["metadata"]["topic"]) for each in scaled["spec"]["triggers"]
    ]
    clients = PlainClients("orders", "name")
    queues = parsed(main_container(manifests, "worker-gpu"))["queue"]
    assert looked_at == [(clients.group_of(queue), f"orders.{tasks_of(queue).part}") for queue in queues]
    assert LEAVES["workerDefaults.autoscaling.maxReplicas"].default == TASK_PARTITIONS
    assert (
        scaled["spec"]["scaleTargetRef"]["name"]
        == named(manifests, "Deployment", "shop-perdure-worker-gpu")["metadata"]["name"]
    )


def test_a_strimzi_user_may_use_every_topic_group_and_transactional_id() -> None:
    manifests = render(EVERYTHING, STRIMZI, POSTGRES["none"], {"namespace": "orders"})
    (user,) = [each for each in manifests if each["kind"] == "KafkaUser"]
    prefixes = {
        acl["resource"]["type"]: acl["resource"]["name"]
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"].get("patternType") == "prefix"
    }
    engine, worker = EngineClients("orders", "shop-perdure-engine-0"), PlainClients("orders", "name")
    assert all(f"orders.{topic.part}".startswith(prefixes["topic"]) for topic in topics_of(["gpu"]))
    assert engine.group.startswith(prefixes["group"])
    assert worker.group_of("gpu").startswith(prefixes["group"])
    assert engine.transactional_id.startswith(prefixes["transactionalId"])


@pytest.mark.parametrize("kafka", KAFKA)
def test_every_setting_of_kafka_is_one_that_its_client_takes(kafka: str) -> None:
    """A name that librdkafka does not know ends the process."""
    from confluent_kafka import KafkaException, Producer

    values = merged(
        KAFKA[kafka], POSTGRES["none"], {"kafka": {"settings": {"socket.send.buffer.bytes": 1048576}}}
    )
    settings = checked(settings_of_environment(environment_of(main_container(render(values), "engine"))))
    assert settings["socket.send.buffer.bytes"] == "1048576"
    given = of_librdkafka(settings)
    for name in [name for name in given if name.endswith(".location")]:
        given.pop(name)  # files of the pod; these three names are checked below
    Producer(given)
    with pytest.raises(KafkaException, match="No such configuration property"):
        Producer({**given, "ssl.ca.locations": "x"})
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
        with pytest.raises(KafkaException, match=r"(?i)no such file|failed|error"):
            Producer({"security.protocol": "ssl", name: "/nonexistent/no/file"})


def test_probes_and_monitors_ask_what_the_process_serves() -> None:
    text = Path(observability.__file__).read_text()
    asked: set[str] = set()
    for name, pod in pods(render(EVERYTHING, EXTERNAL)):
        for container in containers(pod):
            ports = {each["name"] for each in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    asked.add(container[probe]["httpGet"]["path"])
                    assert container[probe]["httpGet"]["port"] in ports, name
    for each in render(EVERYTHING, EXTERNAL):
        if each["kind"] in {"PodMonitor", "ServiceMonitor"}:
            (endpoint,) = each["spec"].get("podMetricsEndpoints") or each["spec"]["endpoints"]
            asked.add(endpoint["path"])
            assert endpoint["port"] == "metrics"
    assert asked == {"/health/live", "/health/ready", "/metrics"}
    assert all(f'"{path}"' in text for path in asked)


def test_the_port_of_the_api_is_the_one_that_its_service_asks() -> None:
    manifests = render(EVERYTHING, EXTERNAL)
    container = main_container(manifests, "api")
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert parsed(container)["port"] == ports["http"]
    assert named(manifests, "Service", "shop-perdure-api")["spec"]["ports"][0]["targetPort"] == "http"
    assert parsed(main_container(manifests, "test"))["api"] == "http://shop-perdure-api.prod:80"


def test_the_file_of_keys_is_where_the_api_looks() -> None:
    container = main_container(render(EXTERNAL, {"api": {"auth": {"key": "my.toml"}}}), "api")
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    folder, _, name = parsed(container)["keys"].rpartition("/")
    assert folder in mounts
    assert name == "my.toml"


def test_the_store_is_on_the_volume() -> None:
    container = main_container(render(EXTERNAL), "engine")
    (mount,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "state"]
    assert parsed(container)["state_dir"].startswith(f"{mount}/")


def test_the_setup_makes_the_topics_that_the_processes_use() -> None:
    manifests = render(
        EVERYTHING,
        EXTERNAL,
        {"kafka": {"topics": {"partitions": 24, "replicationFactor": 2}, "takeOver": True}},
    )
    (setup,) = [pod for name, pod in pods(manifests) if "setup" in name]
    found = parsed(setup["initContainers"][0])
    assert (found["partitions"], found["replication"], found["take_over"]) == (24, 2, True)
    queues = {
        queue
        for name in ("default", "gpu")
        for queue in parsed(main_container(manifests, f"worker-{name}"))["queue"]
    }
    assert set(found["queue"]) == queues == set(parsed(main_container(manifests, "test"))["queue"])
    assert found["owner"] == parsed(main_container(manifests, "engine"))["owner"] == "prod/shop-perdure"
    assert LEAVES["kafka.topics.partitions"].default == DEFAULT_PARTITIONS


def test_the_table_of_rights_names_every_topic() -> None:
    text = (ROOT / "docs/howto/kubernetes.md").read_text()
    header = re.search(r"^\| component +\| reads +\| writes +\|", text, re.MULTILINE)
    assert header
    table = text[header.start() :].split("\n\n")[0]
    for topic in topics_of([]):
        assert re.search(rf"\b{re.escape(topic.part)}\b", table), topic.part
    for group in (EngineClients("NS", "x").group, PlainClients("NS", "x").group_of("*")):
        assert f"`{group}`" in table, group
