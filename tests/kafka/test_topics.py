from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import confluent_kafka.admin
import pytest
from typer.testing import CliRunner

from perdure import schemas
from perdure.adapters.kafka.admin.admin import Topics
from perdure.adapters.kafka.namespace.metadata import learn_schemas, made_of, read_facts, write_facts
from perdure.adapters.kafka.namespace.topics import FIXED, topics_of
from perdure.cli.app import app
from perdure.codec.avro import WIRES, Wire
from perdure.errors import InfrastructureError, UsageError
from perdure.model.commands import FireTimer
from tests.kafka.broker import Cluster

ADMIN: Any = confluent_kafka.admin
_numbers = itertools.count(1)
UNREACHABLE = "127.0.0.1:1"


class Space:
    """A namespace of one test."""

    def __init__(self, bootstrap: str) -> None:
        self.name = f"space-{next(_numbers)}"
        self.bootstrap = bootstrap
        self.settings = {"bootstrap.servers": bootstrap}
        self.topics = Topics(self.name, self.settings)
        self.admin: Any = ADMIN.AdminClient(self.settings)

    def apply(self, **options: Any) -> None:
        self.topics.apply(self.topics.plan(**options))

    def counts(self) -> dict[str, int]:
        found = self.admin.list_topics(timeout=10).topics
        prefix = f"{self.name}."
        return {
            name.removeprefix(prefix): len(found[name].partitions)
            for name in found
            if name.startswith(prefix)
        }

    def configure(self, part: str, name: str, value: str) -> None:
        entry = ADMIN.ConfigEntry(name, value, incremental_operation=ADMIN.AlterConfigOpType.SET)
        resource = ADMIN.ConfigResource(
            ADMIN.ResourceType.TOPIC, f"{self.name}.{part}", incremental_configs=[entry]
        )
        self.settle(self.admin.incremental_alter_configs([resource]))
        self.wait(lambda: self.configuration(part)[name] == value)

    def configuration(self, part: str) -> dict[str, str]:
        resource = ADMIN.ConfigResource(ADMIN.ResourceType.TOPIC, f"{self.name}.{part}")
        (future,) = self.admin.describe_configs([resource]).values()
        return {name: entry.value for name, entry in future.result(10).items()}

    def delete(self, part: str) -> None:
        self.settle(self.admin.delete_topics([f"{self.name}.{part}"]))
        self.wait(lambda: part not in self.counts())

    def create(self, part: str, partitions: int) -> None:
        self.settle(self.admin.create_topics([ADMIN.NewTopic(f"{self.name}.{part}", partitions)]))
        self.wait(lambda: self.counts().get(part) == partitions)

    def add_partitions(self, part: str, total: int) -> None:
        self.settle(self.admin.create_partitions([ADMIN.NewPartitions(f"{self.name}.{part}", total)]))
        self.wait(lambda: self.counts()[part] == total)

    def settle(self, futures: dict[Any, Any]) -> None:
        for future in futures.values():
            future.result(10)

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(600):
            if condition():
                return
            self.admin.poll(0.05)
        raise AssertionError("the broker did not get there")


@pytest.fixture
def space(kafka: str) -> Space:
    return Space(kafka)


def test_apply_makes_every_topic_and_check_finds_nothing_to_say(space: Space) -> None:
    assert space.topics.check() == [
        f"{space.name}.{t.part} does not exist: create it with `perdure topics apply`" for t in topics_of()
    ]
    space.apply(partitions=3, queues=["default", "gpu"])
    fixed = {"cancellations": 1, "replies": 4, "dead-letters": 1, "ingest": 1, "audit": 1, "meta": 1}
    assert (
        space.counts()
        == {"commands": 3, "events": 3, "state": 3, "streams": 3, "tasks.default": 12, "tasks.gpu": 12}
        | fixed
    )
    assert space.topics.check() == []


def test_apply_again_changes_nothing(space: Space) -> None:
    space.apply(partitions=3)
    before = read_facts(space.settings, f"{space.name}.meta")
    plan = space.topics.plan()
    assert (plan.missing, plan.faults) == ((), ())
    space.topics.apply(plan)
    assert read_facts(space.settings, f"{space.name}.meta") == before
    assert space.counts()["commands"] == 3


def test_topics_are_kept_as_the_registry_says(space: Space) -> None:
    space.apply(partitions=1)
    for topic in FIXED:
        found = space.configuration(topic.part)
        assert {s.name: found[s.name] for s in topic.configuration} == {
            s.name: s.value for s in topic.configuration
        }
        assert found["min.insync.replicas"] == "1"


def test_a_queue_that_is_added_later_keeps_what_was_recorded(space: Space) -> None:
    space.apply(partitions=2, queues=["first"])
    space.apply(queues=["second"])
    assert space.counts()["commands"] == 2
    assert {"tasks.first", "tasks.second"} <= set(space.counts())
    assert "tasks.default" not in space.counts()
    assert space.topics.check(["first"]) == []
    assert space.topics.check(["third"]) == [
        f"{space.name}.tasks.third does not exist: create it with `perdure topics apply`"
    ]


def test_topics_made_by_others_are_taken_as_they_are_when_they_fit(space: Space) -> None:
    for topic in FIXED[:3]:
        space.create(topic.part, 5)
        for setting in topic.configuration:
            space.configure(topic.part, setting.name, setting.value)
    space.apply()
    assert {space.counts()[part] for part in ("commands", "events", "state")} == {5}
    assert space.topics.check() == []


def test_the_number_of_partitions_is_frozen(space: Space) -> None:
    space.apply(partitions=2)
    (fault,) = space.topics.plan(partitions=4).faults
    assert fault.startswith("--partitions 4: the number is fixed at 2 (recorded)")
    assert space.topics.plan(partitions=2).faults == ()


def test_commands_and_events_have_the_same_partitions_or_are_refused(space: Space) -> None:
    for topic, partitions in zip(FIXED[:2], (3, 5), strict=True):
        space.create(topic.part, partitions)
        for setting in topic.configuration:
            space.configure(topic.part, setting.name, setting.value)
    assert space.topics.plan().faults == (f"{space.name}.events has 5 partitions, not 3",)


def test_partitions_that_were_added_are_refused(space: Space) -> None:
    space.apply(partitions=2)
    space.add_partitions("commands", 4)
    (fault,) = space.topics.check()
    assert fault.startswith(
        f"{space.name}.commands has 4 partitions, not 2 as recorded when it was created: partitions must "
        "never be added"
    )
    with pytest.raises(InfrastructureError, match="has 4 partitions, not 2"):
        space.apply()


def test_a_deleted_topic_is_not_recreated_silently(space: Space) -> None:
    space.apply(partitions=2)
    space.delete("events")
    assert [fault.partition(":")[0] for fault in space.topics.check()] == [f"{space.name}.events is missing"]
    with pytest.raises(
        InfrastructureError, match="events is missing: it was created with 2 partitions and has been deleted"
    ):
        space.apply()
    assert "events" not in space.counts()


def test_a_recreated_topic_is_recognised_by_its_id(space: Space) -> None:
    space.apply(partitions=2)
    space.delete("state")
    space.create("state", 2)
    for setting in topics_of()[2].configuration:
        space.configure("state", setting.name, setting.value)
    (fault,) = space.topics.check()
    assert fault.startswith(f"{space.name}.state was deleted and created again")


@pytest.mark.parametrize(
    ("part", "name", "value", "fault"),
    [
        (
            "events",
            "cleanup.policy",
            "delete",
            "has cleanup.policy=delete, not compact: kafka-configs.sh --alter sets it",
        ),
        ("commands", "cleanup.policy", "compact,delete", "has cleanup.policy=compact,delete, not delete"),
        ("commands", "retention.ms", "1000", "has retention.ms=1000, not at least 2592000000"),
        ("commands", "retention.bytes", "1000000", "has retention.bytes=1000000, not -1"),
        (
            "tasks.default",
            "max.message.bytes",
            "1000000",
            "has max.message.bytes=1000000, not at least 17825792",
        ),
        (
            "state",
            "unclean.leader.election.enable",
            "true",
            "has unclean.leader.election.enable=true, not false",
        ),
    ],
)
def test_a_configuration_that_loses_records_is_refused(
    space: Space, part: str, name: str, value: str, fault: str
) -> None:
    space.apply(partitions=1)
    space.configure(part, name, value)
    (found,) = space.topics.check()
    assert found.startswith(f"{space.name}.{part} {fault}")
    with pytest.raises(InfrastructureError, match="not configured correctly"):
        space.apply()
    assert space.configuration(part)[name] == value  # it says what differs, and leaves it to who made it so


@pytest.mark.parametrize("retention", ["-1", "99999999999"])
def test_more_retention_than_needed_is_fine(space: Space, retention: str) -> None:
    space.apply(partitions=1)
    space.configure("commands", "retention.ms", retention)
    assert space.topics.check() == []


def test_more_replicas_than_brokers_are_refused(space: Space) -> None:
    assert space.topics.plan(replication=3).faults == (
        "3 replicas need as many brokers, there are 1: add brokers, or start with --replication 1",
    )


def test_three_brokers_keep_three_replicas_and_wait_for_two(kafka_cluster: Cluster) -> None:
    space = Space(kafka_cluster.bootstrap)
    space.apply(partitions=2)
    assert space.topics.check() == []
    assert space.configuration("events")["min.insync.replicas"] == "2"
    metadata = space.admin.list_topics(timeout=10).topics[f"{space.name}.events"]
    assert {len(partition.replicas) for partition in metadata.partitions.values()} == {3}
    space.configure("events", "min.insync.replicas", "1")
    assert space.topics.check() == [
        f"{space.name}.events has min.insync.replicas=1, not at least 2: kafka-configs.sh --alter sets it"
    ]


# ---- the meta topic


def test_every_schema_that_is_written_is_found_in_the_meta_topic(space: Space) -> None:
    space.apply(partitions=1)
    found = read_facts(space.settings, f"{space.name}.meta")
    for schema in map(schemas.current, schemas.NAMES):
        assert found[f"schema/{schema.header.decode()}"].decode() == schema.text
    made = made_of(found)
    assert made is not None
    assert made.topics["commands"].partitions == 1


def test_a_wire_learns_from_the_meta_topic_what_a_newer_version_writes(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire: Wire[Any] = Wire("commands", *type_arguments())
    monkeypatch.setitem(WIRES, "commands", wire)
    space.apply(partitions=1)
    header = b"commands/2/00000000feedbeef"
    write_facts(
        space.settings, f"{space.name}.meta", {f"schema/{header.decode()}": wire.schema.text.encode()}
    )
    assert not wire.knows(header)
    learn_schemas(read_facts(space.settings, f"{space.name}.meta"))
    timer = FireTimer("w", number=1)
    assert wire.decode(wire.encode(timer), header) == timer


def type_arguments() -> tuple[Any, ...]:
    from typing import get_args

    from perdure.model.commands import AnyCommand

    return get_args(AnyCommand)


def test_a_damaged_record_of_what_was_made_is_refused(space: Space) -> None:
    space.apply(partitions=1)
    write_facts(space.settings, f"{space.name}.meta", {"topics": b"{"})
    with pytest.raises(InfrastructureError, match="'topics' of the namespace's meta topic cannot be read"):
        space.topics.check()


# ---- bad input


def test_a_broker_that_does_not_answer_is_named() -> None:
    topics = Topics("shop", {"bootstrap.servers": UNREACHABLE}, answer_s=0.5)
    with pytest.raises(
        InfrastructureError, match=r"Kafka at 127\.0\.0\.1:1: .*(Connection refused|transport failure)"
    ):
        topics.check()


@pytest.mark.parametrize("namespace", ["", "a.b", "a/b", "ä", "-a", "x" * 101])
def test_a_namespace_that_could_mix_with_another_is_refused(namespace: str) -> None:
    with pytest.raises(UsageError, match="must be letters, digits"):
        Topics(namespace, {"bootstrap.servers": UNREACHABLE})


def test_a_queue_that_cannot_name_a_topic_is_refused() -> None:
    with pytest.raises(UsageError, match="task queue 'a/b' is not valid in a topic name"):
        topics_of(["a/b"])


# ---- the command line


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["topics", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_plan_apply_check_as_a_person_types_them(space: Space) -> None:
    where = ("--kafka", space.bootstrap, "--namespace", space.name)
    code, out, _ = run("plan", *where, "--partitions", "2")
    assert code == 0
    assert out.count("to be created") == len(topics_of())
    assert space.counts() == {}
    code, out, _ = run("apply", *where, "--partitions", "2")
    assert code == 0
    assert f"{space.name}.commands" in out
    assert run("check", *where) == (0, f"the topics of {space.name} are configured correctly\n", "")
    space.configure("commands", "retention.ms", "1000")
    code, _, err = run("check", *where)
    assert code == 1
    assert "retention.ms=1000" in err
    assert run("plan", *where, "--partitions", "3")[0] == 1


def test_a_setting_that_is_ours_is_refused_on_the_command_line() -> None:
    result = CliRunner().invoke(
        app, ["topics", "check", "--kafka", "x:1", "--namespace", "n", "--set", "acks=0"]
    )
    assert isinstance(result.exception, UsageError)
    assert "acks (without it, retries would lose or repeat records)" in str(result.exception)


def test_describe_prints_the_asyncapi_document_without_a_broker() -> None:
    code, out, _ = run("describe", "--namespace", "shop")
    assert code == 0
    assert json.loads(out)["channels"]["commands"]["address"] == "shop.commands"
