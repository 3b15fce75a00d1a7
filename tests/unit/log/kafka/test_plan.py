"""What `perdure topics` would do, what an address means, and how far an engine is behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.admin.mirrored import BoundedReader, CopyWriter, ExactWriter
from perdure.adapters.kafka.admin.plan import Found as Existing
from perdure.adapters.kafka.admin.plan import Plan, plan_of
from perdure.adapters.kafka.clients.address import address_of, parsed, settings_of_environment
from perdure.adapters.kafka.engine.author_records import REFUSED_FOR_S, AuthorRecords
from perdure.adapters.kafka.engine.lag import lag_of
from perdure.adapters.kafka.namespace.metadata import (
    Made,
    MadeTopic,
    facts_of,
    facts_of_ids,
    ids_of,
    made_of,
    owner_of,
)
from perdure.adapters.kafka.namespace.topics import Setting, topics_of
from perdure.errors import UsageError
from tests.unit.log.kafka.stand_ins import EOF, Found


def existing(plan: Plan) -> dict[str, Existing]:
    """The topics as the plan makes them."""
    return {
        each.name: Existing(
            f"id-{each.name}",
            each.partitions,
            each.replication,
            {setting.name: setting.value for setting in each.configuration},
        )
        for each in plan.wanted
    }


def recorded(found: dict[str, Existing], replication: int = 1) -> Made:
    return Made(
        replication,
        {name.removeprefix("ns."): MadeTopic(each.partitions, each.id) for name, each in found.items()},
    )


def counts(plan: Plan) -> dict[str, int]:
    return {each.topic.part: each.partitions for each in plan.wanted}


def test_a_new_namespace_gets_every_topic_with_three_replicas_where_there_are_brokers() -> None:
    plan = plan_of("ns", {}, None, 5, partitions=6, queues=("slow",))
    assert set(plan.missing) == {each.name for each in plan.wanted}
    assert (plan.replication, plan.faults) == (3, ())
    assert counts(plan) == {
        "commands": 6, "events": 6, "state": 6, "replies": 4, "cancellations": 1, "dead-letters": 1,
        "ingest": 1, "audit": 1,
        "meta": 1, "streams": 6, "tasks.slow": 12,
    }  # fmt: skip
    in_sync = {
        each.value
        for wanted in plan.wanted
        for each in wanted.configuration
        if each.name == "min.insync.replicas"
    }
    assert in_sync == {"2"}
    small = plan_of("ns", {}, None, 2)
    assert (small.replication, counts(small)["commands"]) == (2, 12)
    assert "tasks.default" in counts(small)


def test_what_was_made_stays_as_it_was_and_a_queue_joins_it() -> None:
    found = existing(plan_of("ns", {}, None, 1, partitions=6, queues=("old",)))
    plan = plan_of("ns", found, recorded(found), 3, queues=("new",))
    assert (plan.missing, plan.faults, plan.replication) == (("ns.tasks.new",), (), 1)
    assert counts(plan)["commands"] == 6
    assert "tasks.old" in counts(plan)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"partitions": 7}, "has 7 partitions, not 6"),
        ({"id": "another"}, "was deleted and created again"),
        ({"replication": 0}, "has 0 replicas, not 1"),
        ({"configuration": {"cleanup.policy": "compact"}}, "has cleanup.policy=compact, not delete"),
    ],
)
def test_differences_are_reported_and_nothing_is_done(change: dict[str, Any], said: str) -> None:
    found = existing(plan_of("ns", {}, None, 1, partitions=6))
    made = recorded(found)
    old = found["ns.commands"]
    fields: dict[str, Any] = {
        name: getattr(old, name) for name in ("id", "partitions", "replication", "configuration")
    }
    fields |= {**change, "configuration": {**old.configuration, **change.get("configuration", {})}}
    (fault,) = plan_of("ns", found | {"ns.commands": Existing(**fields)}, made, 1).faults
    assert said in fault
    assert fault.startswith("ns.commands")


def test_a_deleted_topic_is_not_recreated_and_its_partitions_cannot_change() -> None:
    found = existing(plan_of("ns", {}, None, 1, partitions=6))
    made = recorded(found)
    lost = {name: each for name, each in found.items() if name != "ns.events"}
    (fault,) = plan_of("ns", lost, made, 1).faults
    assert "ns.events is missing: it was created with 6 partitions" in fault
    (fault,) = plan_of("ns", found, made, 1, partitions=12).faults
    assert "fixed at 6 (recorded)" in fault
    assert plan_of("ns", found, made, 1, partitions=6).faults == ()
    (fault,) = plan_of("ns", {}, None, 2, replication=3).faults
    assert "3 replicas need as many brokers" in fault


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        (Setting("a", "5", is_minimum=True), "5", True),
        (Setting("a", "5", is_minimum=True), "4", False),
        (Setting("a", "5", is_minimum=True), "-1", True),
        (Setting("a", "-1", is_minimum=True), "5", False),
        (Setting("a", "compact,delete"), "delete,compact", True),
        (Setting("a", "compact"), "compact,delete", False),
    ],
)
def test_a_setting_fits_when_nothing_is_lost_by_it(wanted: Setting, found: str, fits: bool) -> None:
    assert wanted.fits(found) is fits


def test_each_topic_is_kept_as_long_as_it_is_needed() -> None:
    kept = {each.part: (each.cleanup, each.retention_ms // 3_600_000) for each in topics_of(("q",))}
    day = 24
    assert kept == {
        "commands": ("delete", 30 * day),
        "events": ("compact", 0),
        "state": ("compact", 0),
        "replies": ("delete", 1),
        "cancellations": ("delete", 1),
        "dead-letters": ("delete", 90 * day),
        "ingest": ("delete", 30 * day),
        "audit": ("delete", 400 * day),
        "meta": ("compact", 0),
        "streams": ("delete", day),
        "tasks.q": ("delete", 30 * day),
    }


def test_facts_come_back_as_they_were_written() -> None:
    made = Made(3, {"commands": MadeTopic(6, "id")})
    facts = facts_of(made, "prod/shop") | facts_of_ids({"events/1/ab": 7})
    assert (made_of(facts), owner_of(facts), ids_of(facts)) == (made, "prod/shop", {"events/1/ab": 7})
    assert (made_of({}), owner_of({}), ids_of({"schema-id/x": b"x"})) == (None, "", {})
    assert "owner" not in facts_of(made)


def test_an_address_means_brokers_a_namespace_and_settings_that_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERDURE_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("PERDURE_KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("PERDURE_KAFKA_SASL_USERNAME", "")
    namespace, settings = parsed("kafka://a:9092,b:9092/shop?security.protocol=SASL_SSL&client.rack=")
    assert namespace == "shop"
    assert settings == {
        "bootstrap.servers": "a:9092,b:9092",
        "security.protocol": "SASL_SSL",
        "sasl.password": "secret",
        "client.rack": "",
    }
    assert address_of("a:9092", "shop", settings) == (
        "kafka://a:9092/shop?security.protocol=SASL_SSL&client.rack=&bootstrap.servers=a%3A9092%2Cb%3A9092"
    )
    assert settings_of_environment({"PERDURE_KAFKA_SSL_CA_LOCATION": "/ca", "OTHER": "x"}) == {
        "ssl.ca.location": "/ca"
    }
    for bad in (
        "kafka:///shop",
        "kafka://a:9092",
        "kafka://a:9092/",
        "kafka://u:p@a:9092/shop",
        "kafka://a/x.y",
        "kafka://a/x?y",
    ):
        with pytest.raises(UsageError):
            parsed(bad)


def test_lag_counts_records_after_the_last_command_taken() -> None:
    ends: dict[int, Any] = {
        0: (0, 10),
        1: (0, 4),
        2: (0, -1001),
        3: KafkaException(KafkaError(KafkaError._TIMED_OUT)),
    }

    def watermarks(place: TopicPartition, cached: bool) -> tuple[int, int]:
        assert cached
        if isinstance(ends[place.partition], Exception):
            raise ends[place.partition]
        return (int(ends[place.partition][0]), int(ends[place.partition][1]))

    consumer: Any = SimpleNamespace(get_watermark_offsets=watermarks)
    assert lag_of(consumer, "ns.commands", range(4), {0: 6, 1: 9, 2: 0, 3: 0}.__getitem__) == {0: 3, 1: 0}


def test_a_topic_that_refused_a_record_is_tried_again_after_a_while() -> None:
    def is_ours(topic: str) -> bool:
        return False

    def count_of(topic: str) -> int:
        return 3

    known: Any = SimpleNamespace(is_ours=is_ours, count_of=count_of)
    records = AuthorRecords(known)
    records.prepare({"shop.paid"})
    assert records.fault_of("shop.paid") is None
    records.on_delivered(KafkaError(KafkaError.REQUEST_TIMED_OUT), Found("shop.paid", 0, 0))
    assert records.fault_of("shop.paid") is None, "that is about the broker"
    records.on_delivered(KafkaError(KafkaError.POLICY_VIOLATION), Found("shop.paid", 0, 0))
    fault = records.fault_of("shop.paid")
    assert fault is not None
    assert fault[0] == "refused"
    since, why = records._refused["shop.paid"]
    records._refused["shop.paid"] = (since - REFUSED_FOR_S, why)
    assert records.fault_of("shop.paid") is None


# ---- a mirror


def test_a_mirror_reads_up_to_the_ends_and_keeps_what_came_early_for_the_next_round() -> None:
    place = ("ns.commands", 0)
    left = [
        [Found(*place, 5), Found(*place, 6), Found(*place, 8)],
        [Found(*place, 9), Found(*place, 12, error=EOF)],
    ]
    assigned: list[Any] = []

    def consume(limit: int, timeout_s: float) -> Any:
        return left.pop(0) if left else []

    consumer: Any = SimpleNamespace(assign=assigned.append, consume=consume)
    reader = BoundedReader(consumer, lambda: False)
    reader.read_from({place: 5})
    reader.read_from({place: 9})
    assert [[each.offset for each in places] for places in assigned] == [[5]], (
        "where it is, it goes on by itself"
    )
    written: list[int] = []

    def write(records: Any) -> None:
        written.extend(each.offset() for each in records)

    reader.until({place: 7}, write)
    assert written == [5, 6]
    reader.until({place: 12}, write)
    assert written == [5, 6, 8, 9]
    stopped = BoundedReader(consumer, lambda: True)
    with pytest.raises(KafkaException):
        stopped.until({place: 1}, write)


class Target:
    """A producer of the mirror."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.offsets: list[tuple[int, int]] = []

    def produce(
        self, topic: str, value: Any, key: Any, partition: int, *, headers: Any = None, timestamp: int = 0
    ) -> None:
        self.sent.append((topic, value, key, partition, headers, timestamp))

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], _group: Any, _timeout_s: float
    ) -> None:
        self.offsets += [(each.partition, each.offset) for each in offsets]

    def __getattr__(self, name: str) -> Any:
        def nothing(*_: Any) -> int:
            return 0

        return nothing


def test_records_of_a_mirror_have_the_offsets_of_the_source() -> None:
    target: Any = Target()
    place = ("ns.commands", 1)
    writer = ExactWriter(target, [])
    writer.positions[place] = 5
    writer.write(
        [
            Found(*place, 4, value=b"old"),
            Found(*place, 5, value=b"a"),
            Found(*place, 8, value=b"b", headers=[("h", b"1")]),
        ]
    )
    assert [each[1] for each in target.sent] == [b"a", None, None, b"b"]
    assert target.sent[-1] == ("ns.commands", b"b", None, 1, [("h", b"1")], 1_700)
    assert (writer.positions[place], writer.copied, writer.padding) == (9, 2, 2)
    failing = ExactWriter(target, [KafkaError(KafkaError.REQUEST_TIMED_OUT)])
    with pytest.raises(KafkaException):
        failing.flush()


def test_a_copy_records_its_position_including_records_it_left_out() -> None:
    target: Any = Target()
    group: Any = SimpleNamespace(consumer_group_metadata=lambda: "group")
    writer = CopyWriter(target, group, lambda record: record.key() == b"own")
    records: Any = [
        Found("ns.meta", 0, 3, key=b"k"),
        Found("ns.meta", 0, 4, key=b"own"),
        Found("ns.state", 2, 9, key=b"w"),
    ]
    writer.write(records)
    assert [each[2] for each in target.sent] == [b"k", b"w"]
    assert (target.offsets, writer.copied) == ([(0, 5), (2, 10)], 2)
