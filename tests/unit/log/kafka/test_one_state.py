"""One state is read from its partition; nothing else of the partition is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from perdure.adapters.kafka.client import one_state as single
from perdure.adapters.kafka.client.one_state import one_state
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState
from tests.contract.samples import state
from tests.unit.log.kafka.stand_ins import EOF, Found, schema


class Topic:
    """A partition, handed out record by record; afterwards nothing comes."""

    def __init__(self, *records: Any) -> None:
        self.records = list(records)
        self.is_closed = False

    def topic(self, part: str) -> str:
        return f"ns.{part}"

    def tail(self, on_error: Any, wait_ms: int = 0) -> Topic:
        return self

    def assign(self, places: list[Any]) -> None:
        (place,) = places
        assert (place.topic, place.partition, place.offset) == ("ns.state", 3, 0)

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        return [self.records.pop(0)] if self.records else []

    def close(self) -> None:
        self.is_closed = True


def read(topic: Any, end: int) -> WorkflowState | None:
    found = one_state(topic, "a", 3, end)
    assert topic.is_closed
    return found


def put(each: WorkflowState, offset: int) -> Any:
    key = each.workflow_id.encode()
    return Found("ns.state", 3, offset, key=key, value=STATE.encode(each), headers=schema(STATE.header))


def ended(offset: int) -> Any:
    return Found("ns.state", 3, offset, error=EOF)


def test_the_last_state_before_the_end_counts() -> None:
    done = state("a", status=Status.COMPLETED)
    assert read(Topic(put(state("a"), 0), put(state("b"), 1), put(done, 4), put(state("b"), 5)), 6) == done


def test_a_workflow_that_is_not_there_or_was_deleted_has_no_state() -> None:
    assert read(Topic(put(state("b"), 0)), 1) is None
    assert read(Topic(put(state("a"), 0), Found("ns.state", 3, 1, key=b"a")), 2) is None
    assert read(Topic(), 0) is None


def test_markers_at_the_end_are_passed() -> None:
    assert read(Topic(put(state("a"), 0), ended(3)), 3) == state("a")


def test_an_open_transaction_is_waited_for_and_then_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "OPEN_S", 0.0)
    late = put(state("a", status=Status.COMPLETED), 1)
    assert read(Topic(put(state("a"), 0), ended(1), late), 2) == state("a", status=Status.COMPLETED)
    assert read(Topic(put(state("a"), 0), ended(1)), 2) == state("a")


def test_a_slow_broker_is_not_taken_for_an_open_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "OPEN_S", 0.0)
    slow = Topic(put(state("a"), 0))
    answers: Iterator[list[Any]] = iter([[], [], slow.records])

    def consume(*_: object) -> list[Any]:
        return next(answers)

    monkeypatch.setattr(slow, "consume", consume)
    assert read(slow, 1) == state("a")


def test_a_state_that_cannot_be_read_says_so() -> None:
    bad = Found("ns.state", 3, 0, key=b"a", value=b"?", headers=[("perdure-schema", b"state/9/ab")])
    found = read(Topic(bad), 1)
    assert found is not None
    assert "is unknown" in found.reason


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "STILL_S", 0.0)
    with pytest.raises(InfrastructureError, match=r"states in ns\.state cannot be read"):
        read(Topic(), 1)
    away = Found("ns.state", 3, 0, error=KafkaError(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(InfrastructureError, match=r"states in ns\.state cannot be read"):
        read(Topic(away), 1)
