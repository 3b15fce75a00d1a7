"""The records of one transaction: where each of them goes, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.adapters.kafka.engine.batch_writer import BatchWriter
from perdure.adapters.kafka.engine.pending_commands import DeadLettered, Forwarded, Padding, Rerouted
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.status import Status
from perdure.codec.avro import CANCELLATIONS, COMMANDS, DEAD_LETTERS, EVENTS, REPLIES, STATE, TASKS
from perdure.engine.ports import Batch
from perdure.model.commands import SignalWorkflow
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.events import EventRecord, RecordProduced, SignalReceived
from perdure.model.replies import Accepted, Refused
from tests.contract.samples import state, task, tasks
from tests.unit.log.kafka.stand_ins import Found, Recorder, layout

said: list[str] = []


@pytest.fixture
def status() -> Status:
    said.clear()

    def report(message: str, /, **_where: str | int) -> None:
        said.append(message)

    return Status(report)


def written(batch: Batch, status: Status, **counts: int) -> tuple[BatchWriter, Recorder]:
    writer, recorder = BatchWriter(layout(**counts), status), Recorder()
    made: Any = recorder
    writer.prepare(batch)
    writer.write(made, batch)
    return writer, recorder


def event(workflow_id: str, first: int, partition: int) -> tuple[EventRecord, bytes]:
    record = EventRecord(workflow_id, "run", first, 1, partition, 7, b"", [SignalReceived("go", b"[]")])
    return record, EVENTS.encode(record)


def letters(recorder: Recorder) -> list[DeadLetter]:
    return [
        DEAD_LETTERS.decode(each.value, dict(each.headers)["perdure-schema"])
        for each in recorder.of("ns.dead-letters")
    ]


def test_events_are_on_the_partition_of_their_command_or_of_the_timers_workflow(
    status: Status,
) -> None:
    batch = Batch(1, events=[event("w", 3, 2), event("w/1", 1, -1), event("w", 4, 2)])
    _, recorder = written(batch, status)
    assert [(each.key, each.partition) for each in recorder.of("ns.events")] == [
        ("w/run/3", 2),
        ("w/1/run/1", partition_of(b"w/1", 4)),
        ("w/run/4", 2),
    ]
    assert {tuple(each.headers) for each in recorder.sent} == {(EVENTS.header,)}


def test_the_store_gets_the_offset_after_the_last_event_of_each_partition(status: Status) -> None:
    batch = Batch(1, events=[event("a", 1, 0), event("b", 1, 1), event("a", 2, 0)])
    writer, recorder = written(batch, status)
    recorder.flush()
    assert writer.ends == {0: 104, 1: 103}, "offsets 101 to 103 were given"
    writer.prepare(Batch(2))
    assert writer.ends == {}


def test_commands_for_workflows_go_to_their_partitions_in_their_order(status: Status) -> None:
    sent = [SignalWorkflow(f"w/{number % 5}", "run-1", name=f"{number}") for number in range(20)]
    _, recorder = written(Batch(1, commands=list(sent)), status)
    records = recorder.of("ns.commands")
    assert [COMMANDS.decode(each.value, dict(each.headers)["perdure-schema"]) for each in records] == sent
    assert [(each.key, each.partition) for each in records] == [
        (each.workflow_id, partition_of(each.workflow_id.encode(), 4)) for each in sent
    ]
    assert len({each.partition for each in records}) > 1


def test_states_have_their_workflow_id_as_key(status: Status) -> None:
    batch = Batch(1, states={"w": state("w")})
    _, recorder = written(batch, status)
    (sent,) = recorder.sent
    assert (sent.topic, sent.key, sent.partition) == ("ns.state", "w", -1)
    assert STATE.decode(sent.value, STATE.header[1]) == state("w")


def test_replies_go_to_the_partition_that_the_caller_tails_and_those_to_nowhere_are_counted(
    status: Status,
) -> None:
    replies: list[Any] = [(f"kafka:{n}:me", Accepted(f"r{n}", "run")) for n in (0, 1, 2)]
    _, recorder = written(Batch(1, replies=[*replies, ("local:me", Accepted("here", "run"))]), status)
    assert [(each.topic, each.key, each.partition) for each in recorder.sent] == [
        ("ns.replies", "kafka:0:me", 0),
        ("ns.replies", "kafka:1:me", 1),
    ]
    assert REPLIES.decode(recorder.sent[1].value, REPLIES.header[1]) == Accepted("r1", "run")
    assert status.counts.undeliverable == 1


def test_tasks_of_a_queue_touch_one_partition_a_transaction_and_another_one_the_next(status: Status) -> None:
    writer, recorder = BatchWriter(layout(tasks_default=3), status), Recorder()
    made: Any = recorder
    for at in (1, 2, 3):
        batch = tasks(task(1, at=at), task(2, at=at), task(3, queue="", at=at))
        writer.prepare(batch)
        writer.write(made, batch)
    places = [each.partition for each in recorder.sent]
    assert places[::2] == places[1::2]
    assert sorted(places[::2]) == [0, 1, 2]
    assert {each.topic for each in recorder.sent} == {"ns.tasks.default"}
    assert TASKS.decode(recorder.sent[0].value, TASKS.header[1]) == task(1)


def test_a_task_without_a_topic_is_a_dead_letter_that_can_be_read_again(status: Status) -> None:
    _, recorder = written(tasks(task(1, queue="rare")), status)
    (letter,) = letters(recorder)
    assert (letter.topic, letter.reason, letter.offset) == ("ns.tasks.rare", "no_topic", -1)
    assert [(each.name, each.value) for each in letter.headers] == [TASKS.header]
    assert TASKS.decode(letter.value or b"", TASKS.header[1]) == task(1, queue="rare")
    assert status.counts.undeliverable == 1


def test_cancellations_are_sent_in_one_record_if_the_topic_exists(status: Status) -> None:
    _, recorder = written(Batch(1, cancelled=["a", "b"]), status)
    (sent,) = recorder.sent
    assert (sent.topic, CANCELLATIONS.decode(sent.value, CANCELLATIONS.header[1]).tokens) == (
        "ns.cancellations",
        ("a", "b"),
    )
    _, recorder = written(Batch(1, cancelled=["a"]), status, cancellations=0)
    assert recorder.sent == []


def test_a_produced_record_is_written_unchanged(status: Status) -> None:
    headers = (RecordHeader("trace", b"7"), RecordHeader("none", None))
    keyed, bare = (
        RecordProduced(1, "shop.paid", b"k", b"v", headers),
        RecordProduced(2, "shop.paid", None, None),
    )
    _, recorder = written(Batch(1, records=[("w", keyed), ("w", bare)]), status)
    first, second = recorder.of("shop.paid")
    assert (first.key, first.value, first.partition, first.headers) == (
        b"k",
        b"v",
        -1,
        [("trace", b"7"), ("none", None)],
    )
    assert (second.key, second.value, second.headers) == (None, None, [])
    assert 0 <= second.partition < 3, "one partition a transaction, for records that have no key"


@pytest.mark.parametrize(("topic", "reason"), [("ns.events", "forbidden"), ("nowhere", "no_topic")])
def test_a_produced_record_that_its_topic_rejects_is_a_complete_dead_letter(
    status: Status, topic: str, reason: str
) -> None:
    produced = RecordProduced(1, topic, b"k", b"v", (RecordHeader("trace", b"7"),))
    _, recorder = written(Batch(1, records=[("w", produced)]), status)
    assert recorder.of(topic) == []
    (letter,) = letters(recorder)
    assert (letter.topic, letter.reason, letter.key, letter.value) == (topic, reason, b"k", b"v")
    assert letter.headers == (RecordHeader("trace", b"7"),)
    assert "'w'" in letter.message


def test_a_command_that_a_trigger_led_to_and_was_refused_names_the_record(status: Status) -> None:
    refused: Any = [
        ("dead-letter:shop.orders/2/41", Refused("r", "not_found", "nobody is there")),
        ("dead-letter:shop.orders/2/42", Refused("r", "already_started", "it runs")),
        ("dead-letter:shop.orders/2/43", Accepted("r", "run")),
    ]
    _, recorder = written(Batch(1, replies=refused), status)
    (letter,) = letters(recorder)
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("shop.orders", 2, 41, "refused")
    assert "nobody is there" in letter.message


def test_what_was_put_aside_is_written_where_it_belongs(status: Status) -> None:
    command = SignalWorkflow("w", name="go")
    theirs = [("perdure-schema", b"commands/1/older"), ("trace", b"7")]
    misplaced = Found("ns.commands", 0, 5, key=b"wrong", value=b"as it was", headers=theirs)
    bad = Found("ns.commands", 1, 6, key=b"k", value=b"?", headers=[("a", b"b")], at_ms=77)
    asides: Any = [
        (Rerouted("w", 3), 0, 5, misplaced),
        (Forwarded(command, 2), -1, -1, None),
        (DeadLettered("undecodable", "cut"), 1, 6, bad),
        (DeadLettered("oversized", "large", is_cut=True), 1, 7, bad),
        (Padding(), 1, 8, bad),
    ]
    writer, recorder = BatchWriter(layout(), status), Recorder()
    made: Any = recorder
    writer.write_asides(made, asides)
    moved, sent = recorder.of("ns.commands")
    assert (moved.key, moved.partition, moved.value, moved.headers) == ("w", 3, b"as it was", theirs)
    assert (sent.key, sent.partition, sent.headers) == (b"w", 2, [COMMANDS.header])
    assert COMMANDS.decode(sent.value, COMMANDS.header[1]) == command
    kept, cut = letters(recorder)
    assert (kept.topic, kept.partition, kept.offset, kept.timestamp_ms) == ("ns.commands", 1, 6, 77)
    assert (kept.reason, kept.message, kept.key, kept.value) == ("undecodable", "cut", b"k", b"?")
    assert kept.headers == (RecordHeader("a", b"b"),)
    assert (cut.offset, cut.value, cut.key) == (7, None, b"k")
    assert len(recorder.sent) == 4, "padding is written nowhere"
    writer.count(asides)
    counts = status.counts
    assert (counts.rerouted, counts.forwarded, counts.dead_letters) == (1, 1, 2)
    assert "partition 1, offset 6" in said[0]
