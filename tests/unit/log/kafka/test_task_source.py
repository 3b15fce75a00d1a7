"""Tasks that a worker takes: which it runs, whose offsets it commits, and what happens when
partitions go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.padding import KEY
from perdure.adapters.kafka.status import Status
from perdure.adapters.kafka.worker import task_source as module
from perdure.adapters.kafka.worker.cancellations import CancellationTail
from perdure.adapters.kafka.worker.held_tasks import HeldTasks
from perdure.adapters.kafka.worker.report_writer import UnreadableTask
from perdure.adapters.kafka.worker.task_source import TaskSource, _Queue
from perdure.codec.avro import CANCELLATIONS, TASKS
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.tasks import Cancellation, Task
from tests.contract.samples import task
from tests.unit.log.kafka.stand_ins import EOF, Found, schema

TOPIC = "ns.tasks.default"
FAILED = KafkaError(KafkaError.REQUEST_TIMED_OUT)


class Consumer:
    """Commits the given offsets, or fails."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, int]] = []
        self.calls: list[str] = []
        self.error: KafkaError | None = None
        self.records: list[Any] = []
        self.consumed: list[int] = []

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        if self.error is not None:
            raise KafkaException(self.error)
        self.calls.append("commit" if not asynchronous else "commit later")
        self.committed += [(each.partition, each.offset) for each in offsets]

    def poll(self, _timeout_s: float) -> Any:
        return self.records.pop(0) if self.records else None

    def consume(self, limit: int, _timeout_s: float) -> list[Any]:
        self.consumed.append(limit)
        taken, self.records = self.records[:limit], self.records[limit:]
        return taken

    def subscribe(self, *_: Any, **__: Any) -> None: ...

    def memberid(self) -> str:
        return "member"

    def consumer_group_metadata(self) -> str:
        return "metadata"

    def __getattr__(self, name: str) -> Any:
        def note(_: Any) -> None:
            self.calls.append(name)

        return note


class Bench:
    """A queue without its thread; what it handed on."""

    def __init__(self, limit: int = 10) -> None:
        self.held, self.buried, self.delivered, self.released = (
            HeldTasks(),
            list[Any](),
            list[Task](),
            list[str](),
        )
        self.status = Status(_unheard)
        clients: Any = SimpleNamespace(topic=_topic)
        writer: Any = SimpleNamespace(put=self.buried.extend)
        self.queue = _Queue(
            clients,
            "default",
            self.held,
            writer=writer,
            deliver=self.delivered.extend,
            release=self._release,
            limit=limit,
            status=self.status,
        )
        self.made = Consumer()
        self.consumer = cast("Any", self.made)
        self.queue._consumer = self.consumer
        self.queue._member.subscribe(self.consumer, [TOPIC])
        self.queue._member._assign(self.consumer, [TopicPartition(TOPIC, 0)])
        self.made.calls.clear()

    def _release(self, tokens: Any) -> None:
        self.released += tokens
        self.held.drop(tokens)

    def take(self, *records: Any) -> list[int]:
        """The numbers of the tasks to run."""
        self.delivered.clear()
        self.queue._take(records)
        return [each.number for each in self.delivered]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module, "END_WITHIN_S", 0.01)
    monkeypatch.setattr(module, "LEASE_WITHIN_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_AFTER_S", 0.01)
    return Bench()


def found(offset: int, number: int = 0) -> Any:
    return Found(TOPIC, 0, offset, value=TASKS.encode(task(number or offset)), headers=schema(TASKS.header))


def test_a_task_that_comes_twice_is_run_once(bench: Bench) -> None:
    assert bench.take(found(5), found(6), found(7, 5)) == [5, 6]
    bench.held.end(["token-5-1"])
    assert bench.take(found(8, 5)) == []


def test_offsets_are_committed_up_to_the_first_task_that_has_not_ended(bench: Bench) -> None:
    bench.take(found(5), found(6))
    bench.held.end(["token-6-1"])
    bench.queue._commit(bench.consumer, is_synchronous=False)
    assert bench.made.committed == []
    bench.held.end(["token-5-1"])
    bench.queue._commit(bench.consumer, is_synchronous=False)
    assert bench.made.committed == [(0, 7)]


def test_a_commit_that_fails_is_made_again(bench: Bench) -> None:
    bench.take(found(5))
    bench.held.end(["token-5-1"])
    bench.made.error = FAILED
    bench.queue._commit(bench.consumer, is_synchronous=True)
    bench.made.error = None
    bench.queue._commit(bench.consumer, is_synchronous=True)
    assert bench.made.committed == [(0, 6)]
    bench.queue._on_committed(None, [SimpleNamespace(topic=TOPIC, partition=0, error=FAILED)])
    bench.queue._commit(bench.consumer, is_synchronous=True)
    assert bench.made.committed == [(0, 6), (0, 6)], "of one partition it learned later"
    bench.queue._on_committed(None, [SimpleNamespace(topic=TOPIC, partition=0, error=None)])
    bench.queue._commit(bench.consumer, is_synchronous=True)
    assert len(bench.made.committed) == 2


def test_an_invalid_task_becomes_a_complete_dead_letter_and_holds_its_offset_until_then(bench: Bench) -> None:
    bad = Found(TOPIC, 0, 5, key=b"k", value=b"?", headers=[("a", b"b")], at_ms=77)
    assert bench.take(Found(TOPIC, 0, 4, key=KEY), bad, found(6)) == [6]
    (buried,) = bench.buried
    letter = buried.letter
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms) == (TOPIC, 0, 5, 77)
    assert (letter.key, letter.value, letter.headers[0].name, letter.headers[0].value) == (
        b"k",
        b"?",
        "a",
        b"b",
    )
    assert letter.reason == "undecodable"
    assert bench.status.counts.dead_letters == 1
    bench.held.end(["token-6-1"])
    assert bench.held.due(TOPIC) == [], "its dead letter is not durable yet"
    bench.held.end([buried.token])
    assert bench.held.due(TOPIC) == [((TOPIC, 0), 7)]


def test_attempts_of_a_partition_that_goes_are_released_before_its_last_commit(bench: Bench) -> None:
    bench.take(found(5), found(6))
    bench.held.end(["token-5-1"])
    bench.queue._member._revoke(bench.consumer, [TopicPartition(TOPIC, 0)])
    assert bench.released == ["token-6-1"]
    assert (bench.made.committed, bench.made.calls) == ([(0, 6)], ["commit", "incremental_unassign"])
    assert bench.held.held([(TOPIC, 0)]) == []


def test_losing_a_partition_whose_tasks_have_ended_releases_nothing(bench: Bench) -> None:
    bench.take(found(5))
    bench.held.end(["token-5-1"])
    bench.queue._member._revoke(bench.consumer, [TopicPartition(TOPIC, 0)])
    assert (bench.released, bench.made.committed) == ([], [(0, 6)])


def test_a_partition_that_was_lost_is_not_committed(bench: Bench) -> None:
    bench.take(found(5))
    bench.held.end(["token-5-1"])
    bench.queue._member._lose(bench.consumer, [TopicPartition(TOPIC, 0)])
    bench.queue._commit(bench.consumer, is_synchronous=True)
    assert bench.made.committed == []


def test_a_worker_takes_what_there_is_room_for_and_is_paused_while_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAUSE_AFTER_S", 0.01)
    bench = Bench(limit=3)
    bench.take(found(5))
    bench.made.records = [found(6), found(7), found(8)]
    bench.queue._turn(bench.consumer)
    assert bench.made.consumed == [1], "one polled, one more"
    assert len(bench.held) == 3
    bench.made.records.clear()
    bench.queue._turn(bench.consumer)
    assert bench.made.calls == ["pause"]
    bench.held.end(["token-5-1"])
    bench.queue._turn(bench.consumer)
    assert bench.made.calls == ["pause", "resume"]


def test_a_partition_that_comes_to_a_full_worker_is_paused_with_the_others(bench: Bench) -> None:
    bench.queue._member._assign(bench.consumer, [TopicPartition(TOPIC, 1)])
    bench.queue._pause()
    bench.queue._member._assign(bench.consumer, [TopicPartition(TOPIC, 2)])
    assert bench.made.calls == ["incremental_assign", "resume", "pause", "incremental_assign", "pause"]


def test_a_queue_without_a_topic_says_how_to_make_it(bench: Bench) -> None:
    bench.take(Found(TOPIC, 0, 0, error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    assert "perdure topics apply --queue default" in bench.status.trouble


def test_what_a_report_does_to_its_task() -> None:
    """A start releases the offset; an end settles the token; a refusal does not, for the task comes
    again under it."""
    source = TaskSource.__new__(TaskSource)
    source._held = held = HeldTasks()
    held.gain([(TOPIC, 0)])
    for offset, token in enumerate(("done", "failed", "declined", "leased", "beating")):
        held.take((TOPIC, 0), offset, token)
    failure = FailureInfo("app:No", "no")
    source._on_durable(
        [
            cm.CompleteActivity("w", "r", number=1, token="done"),
            cm.FailActivity("w", "r", number=1, token="failed", failure=failure),
            cm.DeclineActivity("w", "r", number=1, token="declined", reason=""),
            cm.StartActivity("w", "r", number=1, token="leased", worker="me"),
            cm.HeartbeatActivity("w", "r", number=1, token="beating"),
        ]
    )
    assert held.held([(TOPIC, 0)]) == ["beating"]
    assert len(held) == 2, "what was leased and what beats still runs"
    again = [
        held.take((TOPIC, 0), 10 + n, token)
        for n, token in enumerate(("done", "failed", "declined", "leased"))
    ]
    assert again == [False, False, True, False]
    letter: Any = None
    held.take((TOPIC, 0), 20, "buried")
    source._on_durable([UnreadableTask(letter, "buried")])
    assert "buried" not in held.held([(TOPIC, 0)])


def test_cancellations_are_delivered_and_unreadable_ones_skipped() -> None:
    told: list[str] = []
    clients: Any = SimpleNamespace(topic=_topic)
    status = Status(_unheard)
    tail = CancellationTail(clients, told.extend, status)

    def cancellation(offset: int, *tokens: str) -> Any:
        value = CANCELLATIONS.encode(Cancellation(tokens))
        return Found("ns.cancellations", 0, offset, value=value, headers=schema(CANCELLATIONS.header))

    records: Any = [
        cancellation(0, "a", "b"),
        Found("ns.cancellations", 0, 1, error=EOF),
        cancellation(2, "c"),
    ]
    tail._take(records)
    assert (told, status.trouble) == (["a", "b", "c"], "")
    bad: Any = [Found("ns.cancellations", 0, 3, value=b"?"), cancellation(4, "d")]
    tail._take(bad)
    assert told == ["a", "b", "c", "d"]
    assert "cannot be read" in status.trouble


def _topic(part: str) -> str:
    return f"ns.{part}"


def _unheard(_message: str, /, **_where: str | int) -> None:
    pass
