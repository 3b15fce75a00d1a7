"""When an engine releases a run, its waiting clients are asked to repeat their requests
immediately, and not when it has lost patience."""

from __future__ import annotations

from perdure.core.machines.promise import CLOSED
from perdure.engine.waiters import Waiters
from perdure.model.commands import AwaitWorkflow
from perdure.model.replies import AskAgain


def waiting() -> Waiters:
    waiters = Waiters()
    waiters.add("run-1", CLOSED, AwaitWorkflow("order-1", "", "request-1", "ada"))
    waiters.add("run-1", CLOSED, AwaitWorkflow("order-1", "", "request-2", "bob"))
    waiters.add("run-2", CLOSED, AwaitWorkflow("order-2", "", "request-3", "ada"))
    return waiters


def test_only_waiters_of_lost_runs_are_released() -> None:
    away = waiting().release(lambda workflow_id: workflow_id == "order-1")
    assert away == [("ada", AskAgain("request-1")), ("bob", AskAgain("request-2"))]


def test_a_waiting_client_is_released_once() -> None:
    waiters = waiting()
    assert len(waiters.release(lambda _: True)) == 3
    assert waiters.release(lambda _: True) == []
