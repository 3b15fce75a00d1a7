"""Clients that wait for an answer get it once it is durable."""

from __future__ import annotations

from typing import Any

from perdure.core.machines.promise import CLOSED
from perdure.engine.outbox import BatchOutbox
from perdure.engine.waiters import Waiters
from perdure.model.commands import AwaitWorkflow
from perdure.model.events import WorkflowCompleted
from perdure.model.replies import Accepted, AskAgain, Closed
from tests.unit.core.driven import Driven


def answered(waiters: Waiters) -> list[tuple[str, str]]:
    steps: Any = None
    outbox = BatchOutbox(steps)
    run = Driven()
    run.record(WorkflowCompleted(b"1"))
    waiters.close(run.state, outbox)
    return [(reply_to, reply.request_id) for reply_to, reply in outbox.batch.replies]


def test_waiting_clients_are_answered_in_the_order_of_their_requests() -> None:
    waiters = Waiters()
    for client in ("b", "a"):
        waiters.add("run-1", CLOSED, AwaitWorkflow("order-1", request_id=f"r-{client}", reply_to=client))
    waiters.add("run-2", CLOSED, AwaitWorkflow("order-2", request_id="r-c", reply_to="c"))
    assert answered(waiters) == [("b", "r-b"), ("a", "r-a")]


def test_a_request_that_comes_twice_is_answered_once() -> None:
    waiters = Waiters()
    for _ in range(2):
        waiters.add("run-1", CLOSED, AwaitWorkflow("order-1", request_id="r", reply_to="a"))
    assert answered(waiters) == [("a", "r")]


def test_waiters_are_answered_again_after_an_aborted_batch_and_forgotten_after_a_commit() -> None:
    waiters = Waiters()
    waiters.add("run-1", CLOSED, AwaitWorkflow("order-1", request_id="r", reply_to="a"))
    assert answered(waiters) == answered(waiters) == [("a", "r")]
    waiters.forget("run-1")
    waiters.forget("run-1")
    assert answered(waiters) == []


# ---- answers about other subjects than the end of the run


def update(request_id: str, reply_to: str = "a") -> AwaitWorkflow:
    return AwaitWorkflow("order-1", "run-1", request_id, reply_to)


def outbox_of(waiters: Waiters) -> BatchOutbox:
    steps: Any = None
    return BatchOutbox(steps, waiters)


def test_an_answer_about_a_subject_reaches_those_who_wait_for_it_under_their_own_ids() -> None:
    waiters = Waiters()
    waiters.add("run-1", "update/1", update("r-1", "b"))
    waiters.add("run-1", "update/1", update("r-2", "a"))
    waiters.add("run-1", "update/2", update("r-3"))
    waiters.add("run-2", "update/1", update("r-4"))
    outbox = outbox_of(waiters)
    outbox.answered("run-1", "update/1", Accepted("", "run-1"))
    assert outbox.batch.replies == [("b", Accepted("r-1", "run-1")), ("a", Accepted("r-2", "run-1"))]


def test_an_answer_of_an_aborted_batch_is_given_again_and_one_of_a_committed_batch_is_not() -> None:
    waiters = Waiters()
    waiters.add("run-1", "update/1", update("r-1"))
    waiters.add("run-1", "update/2", update("r-2"))
    outbox = outbox_of(waiters)
    outbox.answered("run-1", "update/1", Accepted("", "run-1"))
    waiters.abort()
    waiters.settle()
    outbox.begin(2)
    outbox.answered("run-1", "update/1", Accepted("", "run-1"))
    assert len(outbox.batch.replies) == 1
    waiters.settle()
    outbox.begin(3)
    outbox.answered("run-1", "update/1", Accepted("", "run-1"))
    assert outbox.batch.replies == []
    assert len(waiters.release(lambda _: True)) == 1, "the other subject waits still"


def test_who_waits_for_something_else_asks_again_when_the_run_has_closed() -> None:
    waiters = Waiters()
    waiters.add("run-1", CLOSED, update("r-1"))
    waiters.add("run-1", "update/1", update("r-2"))
    waiters.add("run-1", "update/2", update("r-3"))
    outbox = outbox_of(waiters)
    outbox.answered("run-1", "update/2", Accepted("", "run-1"))
    run = Driven()
    run.record(WorkflowCompleted(b"1"))
    waiters.close(run.state, outbox)
    assert [type(reply) for _, reply in outbox.batch.replies] == [Accepted, Closed, AskAgain]
    assert [reply.request_id for _, reply in outbox.batch.replies] == ["r-3", "r-1", "r-2"]
