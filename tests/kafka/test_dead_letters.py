"""What cannot be taken becomes a dead letter or goes where it belongs; no partition stops, no
record vanishes."""

from __future__ import annotations

import pytest

from perdure.codec.avro import COMMANDS, HEADER, TASKS
from perdure.codec.frames import FRAMED, frame
from perdure.engine.ports import Batch
from perdure.model.commands import SignalWorkflow
from perdure.model.dead_letters import RecordHeader
from perdure.model.tasks import Task
from tests.kafka.namespace import Namespace, signals
from tests.kafka.tally import Tally

GOOD = SignalWorkflow("w-0", name="good")


@pytest.fixture
def tally(namespace: Namespace) -> Tally:
    tally = namespace.tally()
    tally.until(lambda: len(tally.owned) == 4)
    return tally


BAD: dict[str, tuple[bytes | None, list[tuple[str, bytes]], str]] = {
    "garbage": (b"\x07\x07", [COMMANDS.header], "undecodable"),
    "empty": (b"", [COMMANDS.header], "undecodable"),
    "no header": (COMMANDS.encode(GOOD), [], "undecodable"),
    "unknown schema": (b"x", [(HEADER, b"commands/99/ffffffffffffffff")], "unknown_schema"),
    "foreign record": (
        TASKS.encode(Task("w", "r", 1, 1, "t", "n", "q", b"", 1, "k", 1)),
        [TASKS.header],
        "unknown_schema",
    ),
    "tombstone": (None, [COMMANDS.header], "undecodable"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_place(
    namespace: Namespace, tally: Tally, what: str
) -> None:
    value, headers, reason = BAD[what]
    namespace.send_numbers(3, workflows=1)
    place = namespace.place_of("w-0")
    namespace.put(value, b"any key", place, [*headers, ("trace", b"1")])
    namespace.flush()
    namespace.send_numbers(3, workflows=1)
    tally.until(lambda: tally.handled == 6 and tally.log.status.counts.dead_letters == 1)
    [letter] = namespace.dead_letters()
    assert (letter.topic, letter.partition, letter.offset) == (f"{namespace.name}.commands", place, 3)
    assert (letter.reason, letter.key, letter.value) == (reason, b"any key", value)
    assert RecordHeader("trace", b"1") in letter.headers
    assert letter.timestamp_ms > 0
    assert letter.message
    assert any(f"offset 3: {letter.message}" in line for line in namespace.said)
    assert namespace.committed()[place] == 7
    namespace.audit().assert_exactly_once()


def test_a_dead_letter_alone_is_committed_without_any_command(namespace: Namespace, tally: Tally) -> None:
    namespace.put(b"garbage", None, 2)
    namespace.flush()
    tally.until(lambda: tally.log.status.counts.dead_letters == 1)
    assert namespace.committed()[2] == 1
    assert [letter.key for letter in namespace.dead_letters()] == [None]


def test_a_command_on_the_wrong_partition_goes_to_the_right_one_once(
    namespace: Namespace, tally: Tally
) -> None:
    for i, command in enumerate(signals([f"{n}" for n in range(40)], 10)):
        assert isinstance(command, SignalWorkflow)
        namespace.sent.append(command.name)
        namespace.put(COMMANDS.encode(command), command.workflow_id, i % 4, [COMMANDS.header])
    namespace.flush()
    tally.until(lambda: tally.handled == 40)
    assert tally.log.status.counts.rerouted == sum(
        namespace.place_of(f"w-{i % 10}") != i % 4 for i in range(40)
    )
    assert namespace.dead_letters() == []
    audit = namespace.audit()
    assert (audit.missing, audit.twice, audit.gaps) == ([], [], [])


def test_a_command_that_is_moved_keeps_its_bytes_and_its_headers(namespace: Namespace, tally: Tally) -> None:
    """Its own schema header above all: another version, or a frame, is how it is read."""
    value, header = frame(7) + COMMANDS.encode(GOOD), (HEADER, COMMANDS.header[1] + FRAMED)
    wrong, right = (namespace.place_of("w-0") + 1) % 4, namespace.place_of("w-0")
    headers = [("trace", b"1"), header, ("trace", b"2")]
    namespace.sent.append("good")
    namespace.put(value, b"any key", wrong, headers)
    namespace.flush()
    tally.until(lambda: tally.handled == 1)
    (moved,) = [each for each in namespace.read("commands") if each.partition() == right]
    assert (moved.value(), moved.key(), moved.headers()) == (value, b"w-0", headers)
    assert namespace.dead_letters() == []


def test_a_command_without_a_key_is_taken_on_the_partition_of_its_workflow(
    namespace: Namespace, tally: Tally
) -> None:
    namespace.put(COMMANDS.encode(GOOD), None, namespace.place_of("w-0"), [COMMANDS.header])
    namespace.put(COMMANDS.encode(GOOD), None, (namespace.place_of("w-0") + 1) % 4, [COMMANDS.header])
    namespace.flush()
    tally.until(lambda: tally.handled == 2)
    assert tally.log.status.counts.rerouted == 1


def test_what_a_batch_causes_may_be_too_large_for_a_record_then_commands_are_done_one_by_one(
    namespace: Namespace, tally: Tally
) -> None:
    namespace.configure("events", **{"max.message.bytes": "20000"})
    names = [f"{n}" for n in range(30)]
    namespace.send(signals(names, 1, input=bytes(5_000)))
    tally.until(lambda: tally.handled == 30)
    assert 1 <= tally.aborted <= 2, (
        "a refused record may cost the next transaction, too: its sequence number is missing"
    )
    assert namespace.dead_letters() == []
    namespace.audit().assert_exactly_once()


def test_a_command_whose_effect_is_too_large_is_a_dead_letter_and_others_are_handled(
    namespace: Namespace, tally: Tally
) -> None:
    namespace.configure("events", **{"max.message.bytes": "20000"})
    namespace.send(signals(["a", "b"], 1))
    namespace.sent.append("large")
    large = SignalWorkflow("w-0", name="large", input=bytes(30_000))
    namespace.put(COMMANDS.encode(large), "w-0", namespace.place_of("w-0"), [COMMANDS.header])
    namespace.send(signals(["c", "d"], 1))
    tally.until(lambda: tally.handled == 4 and tally.log.status.counts.dead_letters == 1)
    [letter] = namespace.dead_letters()
    assert (letter.reason, letter.value) == ("oversized", COMMANDS.encode(large))
    assert namespace.audit().missing == ["large"]
    assert namespace.audit().gaps == []


def test_a_dead_letter_that_is_itself_too_large_keeps_its_place_without_the_value(
    namespace: Namespace, tally: Tally
) -> None:
    namespace.configure("dead-letters", **{"max.message.bytes": "10000"})
    namespace.put(bytes(20_000), b"key", 1)
    namespace.flush()
    tally.until(lambda: tally.log.status.counts.dead_letters == 1)
    [letter] = namespace.dead_letters()
    assert (letter.partition, letter.offset, letter.value) == (1, 0, None)
    assert "too large to be stored here" in letter.message


def test_tasks_of_a_queue_that_has_no_topic_are_dead_letters_and_the_batch_is_committed(
    namespace: Namespace, tally: Tally
) -> None:
    task = Task("w-0", "run", 1, 1, "token", "charge", "nobody-made-it", b"[]", 1, "key", 1)
    namespace.send_numbers(1, workflows=1)
    taken = tally.log.take(10, 10)
    batch = tally.batch_of(taken)
    batch.tasks["run", 1] = task
    tally.log.commit(batch)
    [letter] = namespace.dead_letters()
    assert (letter.topic, letter.reason) == (f"{namespace.name}.tasks.nobody-made-it", "no_topic")
    assert TASKS.decode(letter.value or b"", TASKS.header[1]) == task


def test_a_reply_to_a_partition_that_does_not_exist_is_dropped_and_counted(
    namespace: Namespace, tally: Tally
) -> None:
    namespace.send(signals(["a"], 1, reply_to="kafka:77:forged", request_id="1"))
    namespace.send(signals(["b"], 1, reply_to="kafka:1:real", request_id="2"))
    namespace.send(signals(["c"], 1, reply_to="nonsense", request_id="3"))
    tally.until(lambda: tally.handled == 3)
    assert tally.log.status.counts.undeliverable == 1
    assert [each.key() for each in namespace.read("replies")] == [b"kafka:1:real"]


def test_commands_of_this_process_for_partitions_of_others_are_sent_there(
    namespace: Namespace, tally: Tally
) -> None:
    peer = namespace.tally()
    while not peer.owned or len(tally.owned) + len(peer.owned) != 4:
        tally.step(0.02)
        peer.step(0.02)
    commands = signals([f"{n}" for n in range(40)], 10)
    namespace.sent += [command.name for command in commands if isinstance(command, SignalWorkflow)]
    tally.log.submit(commands)
    while tally.handled + peer.handled < 40:
        tally.step(0.02)
        peer.step(0.02)
    assert tally.log.status.counts.forwarded == peer.handled > 0
    audit = namespace.audit()
    assert (audit.missing, audit.twice, audit.gaps) == ([], [], [])


def test_offsets_of_an_empty_batch_are_committed_when_idle(namespace: Namespace, tally: Tally) -> None:
    namespace.send_numbers(10)
    taken = 0
    while taken < 10:
        taken += len(tally.log.take(100, 1))
        tally.log.commit(Batch())
    assert sum(namespace.committed().values()) < 10
    tally.until(lambda: not tally.log._uncommitted)
    assert sum(namespace.committed().values()) == 10
    assert tally.step(0.1) == []
