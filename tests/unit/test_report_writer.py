"""A report whose delivery fails is written again, until it is durable; one that cannot be written
does not hold up the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from perdure.adapters.kafka.status import Status
from perdure.adapters.kafka.worker.report_writer import ReportWriter, UnreadableTask
from perdure.codec.avro import COMMANDS, DEAD_LETTERS
from perdure.model import commands as cm
from perdure.model.dead_letters import DeadLetter
from perdure.model.failure import FailureInfo

NOT_THERE = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)


class FakeProducer:
    """Delivers at each flush, or fails to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.fails: list[KafkaError] = []
        self.refuses: list[KafkaError] = []
        self._pending: list[tuple[bytes, Callable[..., None]]] = []

    def produce(
        self, topic: str, value: bytes, key: Any, *, on_delivery: Callable[..., None], headers: Any
    ) -> None:
        if self.refuses:
            raise KafkaException(self.refuses.pop(0))
        self._pending.append((value, on_delivery))

    def flush(self, timeout_s: float) -> int:
        pending, self._pending = self._pending, []
        for value, told in pending:
            error = self.fails.pop(0) if self.fails else None
            if error is None:
                self.written.append(value)
            told(error, None)
        return 0

    def poll(self, timeout_s: float) -> int:
        return 0


class FakeClients:
    def __init__(self) -> None:
        self.producers = [FakeProducer()]
        self.made = 0
        self.framing = self

    def load_or_tell(self, told: Any) -> None: ...

    def topic(self, part: str) -> str:
        return f"t.{part}"

    def producer(self, *_: Any) -> FakeProducer:
        self.made += 1
        return self.producers[-1]


def report(number: int, **fields: Any) -> cm.AnyCommand:
    return cm.CompleteActivity(f"w-{number}", number=number, token=f"t-{number}", **fields)


class Writing:
    def __init__(self) -> None:
        self.clients = FakeClients()
        self.durable: list[Any] = []

        def ignore(message: str, /, **_: str | int) -> None:
            """A report that is not read."""

        self.status = Status(ignore)
        self.writer = ReportWriter(cast("Any", self.clients), self._durable, self.status)

    def _durable(self, items: Any) -> None:
        assert threading.current_thread().name == "perdure-reports"
        self.durable += items

    def write(self, *items: cm.AnyCommand) -> list[cm.AnyCommand]:
        """Write all reports, and return the contents of the topic."""
        self.writer.put(items)
        self.writer.start()
        assert self.writer.close(30), "the writer has ended, with all written"
        return [COMMANDS.decode(each, COMMANDS.header[1]) for each in self.clients.producers[-1].written]


@pytest.fixture
def writing() -> Writing:
    return Writing()


@pytest.mark.parametrize("failures", [1, 2, 7])
def test_a_failed_delivery_is_tried_again_until_it_is_durable(writing: Writing, failures: int) -> None:
    writing.clients.producers[-1].fails = [NOT_THERE] * failures
    reports = [report(number) for number in range(3)]
    found = writing.write(*reports)
    assert sorted(found, key=str) == sorted(reports, key=str), (
        "each once: those that were delivered are not written again"
    )
    assert writing.durable == reports, "reported in the end, and once"


def test_what_the_client_refuses_for_now_is_tried_again(writing: Writing) -> None:
    writing.clients.producers[-1].refuses = [NOT_THERE, NOT_THERE]
    assert writing.write(report(1), report(2), report(3)) == [report(3), report(1), report(2)]


def test_a_report_that_cannot_be_encoded_is_a_failed_attempt_and_the_others_are_written(
    writing: Writing,
) -> None:
    bad = cm.CompleteActivity("w-2", number=2, token="t-2", result=cast("Any", object()))
    found = writing.write(report(1), bad, report(3))
    assert [type(each) for each in found] == [cm.CompleteActivity, cm.FailActivity, cm.CompleteActivity]
    (failed,) = [each for each in found if isinstance(each, cm.FailActivity)]
    assert (failed.workflow_id, failed.token) == ("w-2", "t-2")
    assert "cannot be written" in failed.failure.message


def test_a_report_that_cannot_be_written_is_dropped_and_logged(writing: Writing) -> None:
    bad = cm.FailActivity("\ud800", number=2, token="t", failure=FailureInfo("builtins:ValueError"))
    assert writing.write(report(1), bad, report(3)) == [report(1), report(3)]
    assert len(writing.durable) == 3


TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


@pytest.mark.parametrize("where", ["refuses", "fails"])
def test_a_result_that_is_too_large_for_the_client_or_its_topic_is_a_failed_attempt(
    writing: Writing, where: str
) -> None:
    setattr(writing.clients.producers[-1], where, [TOO_LARGE])
    found = writing.write(report(1, result=b"large"), report(2))
    assert sorted(type(each).__name__ for each in found) == ["CompleteActivity", "FailActivity"]
    (failed,) = [each for each in found if isinstance(each, cm.FailActivity)]
    assert "larger than Kafka accepts" in failed.failure.message


@pytest.mark.parametrize("where", ["refuses", "fails"])
def test_a_task_that_is_too_large_for_its_dead_letter_holds_up_no_report(
    writing: Writing, where: str
) -> None:
    letter = DeadLetter(
        "ns.tasks.default",
        0,
        5,
        timestamp_ms=7,
        reason="undecodable",
        message="no task",
        found_at=7,
        key=bytes(2_000),
        value=bytes(2_000),
    )
    setattr(writing.clients.producers[-1], where, [TOO_LARGE])
    buried: Any = UnreadableTask(letter, "t")
    writing.writer.put([buried, report(2)])
    writing.writer.start()
    assert writing.writer.close(30)
    (kept,) = [each for each in writing.clients.producers[-1].written if b"no task" in each]
    found = DEAD_LETTERS.decode(kept, DEAD_LETTERS.header[1])
    assert (found.topic, found.offset, found.value, found.key) == ("ns.tasks.default", 5, None, None)
    assert len(writing.durable) == 2
