"""Who waits for a run to close is told, once that is durable."""

from __future__ import annotations

from typing import Any

from perdure.engine.outbox import BatchOutbox
from perdure.engine.waiters import Waiters
from perdure.model.commands import AwaitWorkflow
from perdure.model.events import WorkflowCompleted
from tests.unit.core.driven import Driven


def answered(waiters: Waiters) -> list[tuple[str, str]]:
    steps: Any = None
    outbox = BatchOutbox(steps)
    run = Driven()
    run.record(WorkflowCompleted(b"1"))
    waiters.answer(run.state, outbox)
    return [(reply_to, reply.request_id) for reply_to, reply in outbox.batch.replies]


def test_everybody_who_waits_is_told_in_the_order_they_came() -> None:
    waiters = Waiters()
    for client in ("b", "a"):
        waiters.add("run-1", AwaitWorkflow("order-1", request_id=f"r-{client}", reply_to=client))
    waiters.add("run-2", AwaitWorkflow("order-2", request_id="r-c", reply_to="c"))
    assert answered(waiters) == [("b", "r-b"), ("a", "r-a")]


def test_a_request_that_comes_twice_is_answered_once() -> None:
    waiters = Waiters()
    for _ in range(2):
        waiters.add("run-1", AwaitWorkflow("order-1", request_id="r", reply_to="a"))
    assert answered(waiters) == [("a", "r")]


def test_they_are_told_again_when_the_batch_was_aborted_and_forgotten_when_it_was_not() -> None:
    waiters = Waiters()
    waiters.add("run-1", AwaitWorkflow("order-1", request_id="r", reply_to="a"))
    assert answered(waiters) == answered(waiters) == [("a", "r")]
    waiters.forget("run-1")
    waiters.forget("run-1")
    assert answered(waiters) == []
