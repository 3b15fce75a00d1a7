"""Reports of a worker: written until they are, and only then said to be durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from perdure.adapters.kafka.status import Status
from perdure.adapters.kafka.worker.report_writer import Item, ReportWriter, UnreadableTask
from perdure.codec.avro import COMMANDS, DEAD_LETTERS
from perdure.model.commands import CompleteActivity, FailActivity
from perdure.model.dead_letters import DeadLetter
from tests.unit.log.kafka.stand_ins import Recorder, Sent

PASSING = KafkaError(KafkaError.REQUEST_TIMED_OUT)
FATAL = KafkaError(KafkaError._FATAL)


class Refusing(Recorder):
    """It takes no value above 200 bytes."""

    def produce(self, topic: str, value: Any = None, *arguments: Any, **options: Any) -> None:
        if len(value) > 200:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        super().produce(topic, value, *arguments, **options)


@dataclass
class Desk:
    """A writer, its producers one after the other, and what it said was durable."""

    producers: list[Recorder]
    durable: list[Item] = field(default_factory=list[Item])
    made: list[Recorder] = field(default_factory=list[Recorder])
    when: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        left = iter(self.producers)

        def producer(_told: Any, _delivered: Any) -> Recorder:
            self.made.append(next(left))
            return self.made[-1]

        def topic(part: str) -> str:
            return f"ns.{part}"

        clients: Any = SimpleNamespace(
            topic=topic, producer=producer, framing=SimpleNamespace(load_or_tell=_unheard)
        )
        self.writer = ReportWriter(clients, self.told, Status(_unheard))

    def told(self, items: Sequence[Item]) -> None:
        self.durable.extend(items)

    def write(self, *items: Item) -> None:
        self.writer.start()
        self.writer.put(items)
        assert self.writer.close(20)


def report(number: int, result: bytes = b"1") -> CompleteActivity:
    return CompleteActivity(f"w-{number}", "run", number=number, token=f"t-{number}", result=result)


def keys(sent: list[Sent]) -> list[str]:
    return [each.key for each in sent]


def test_reports_have_their_workflow_as_key_and_keep_their_order() -> None:
    desk = Desk([Recorder()])
    desk.write(report(1), report(2))
    sent = desk.made[0].of("ns.commands")
    assert (keys(sent), [each.headers for each in sent]) == (["w-1", "w-2"], [[COMMANDS.header]] * 2)
    assert COMMANDS.decode(sent[1].value, COMMANDS.header[1]) == report(2)
    assert desk.durable == [report(1), report(2)]


def test_a_delivery_that_fails_is_tried_again_alone_and_nothing_is_durable_before() -> None:
    recorder = Recorder(faults=[None, PASSING, None, PASSING])
    desk = Desk([recorder])
    desk.write(report(1), report(2), report(3))
    assert keys(recorder.sent) == ["w-1", "w-2", "w-3", "w-2", "w-2"]
    assert desk.durable == [report(1), report(2), report(3)]


def test_reports_after_one_that_failed_are_not_held_up_by_it() -> None:
    recorder = Recorder(faults=[PASSING])
    desk = Desk([recorder])
    desk.writer.start()
    desk.writer.put([report(1)])
    desk.writer.put([report(2)])
    assert desk.writer.close(20)
    assert sorted(keys(recorder.sent)) == ["w-1", "w-1", "w-2"]
    assert [each.token for each in desk.durable if isinstance(each, CompleteActivity)] == ["t-1", "t-2"]


def test_a_producer_that_has_failed_for_good_is_replaced() -> None:
    desk = Desk([Recorder(faults=[FATAL]), Recorder()])
    desk.write(report(1))
    assert [keys(each.sent) for each in desk.made] == [["w-1"], ["w-1"]]
    assert desk.durable == [report(1)]


def test_a_result_that_kafka_does_not_take_becomes_a_failure_of_the_same_attempt() -> None:
    desk, large = Desk([Refusing()]), report(1, b"x" * 300)
    desk.write(large)
    (sent,) = desk.made[0].sent
    failed = COMMANDS.decode(sent.value, COMMANDS.header[1])
    assert isinstance(failed, FailActivity)
    assert (failed.workflow_id, failed.run_id, failed.number, failed.token) == ("w-1", "run", 1, "t-1")
    assert "larger than Kafka accepts" in failed.failure.message
    assert desk.durable == [large], "the attempt has ended"


def test_a_task_that_cannot_be_read_goes_to_the_dead_letters_under_its_own_key() -> None:
    letter = DeadLetter("ns.tasks.default", 0, 7, 1, "undecodable", "cut", 1, b"k", b"?")
    desk, buried = Desk([Recorder()]), UnreadableTask(letter, "t")
    desk.write(buried)
    (sent,) = desk.made[0].sent
    assert (sent.topic, sent.key, sent.headers) == ("ns.dead-letters", b"k", [DEAD_LETTERS.header])
    assert desk.durable == [buried]


def test_a_writer_that_never_began_is_closed_immediately() -> None:
    assert Desk([]).writer.close(20)


@pytest.mark.parametrize("is_given", [True, False])
def test_close_writes_what_is_left(is_given: bool) -> None:
    desk = Desk([Recorder()])
    if is_given:
        desk.writer.put([report(1)])
    desk.writer.start()
    assert desk.writer.close(20)
    assert not desk.writer.is_running
    assert desk.durable == ([report(1)] if is_given else [])


def _unheard(_message: str, /, **_where: str | int) -> None:
    pass
