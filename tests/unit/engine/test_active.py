"""The cache of runs: used runs stay, and public states outlive a run's time in memory."""

from __future__ import annotations

from typing import Any

from perdure.codec.payloads import JsonPayloads
from perdure.core.run import public_state
from perdure.engine.active import ActiveRuns
from perdure.model import events as ev
from perdure.model.states import Status, WorkflowState


class Store:
    """Open runs of any id; counts what is read.

    Args:
        reasons: of the public states, by workflow id.
    """

    def __init__(self, **reasons: str) -> None:
        self.reasons = reasons
        self.read: list[str] = []

    def state(self, workflow_id: str) -> WorkflowState | None:
        self.read.append(workflow_id)
        if workflow_id == "nobody":
            return None
        reason = self.reasons.get(workflow_id, "")
        return WorkflowState(
            workflow_id, "run-1", "Order", Status.RUNNING, 1, 1, 0, 1, b'"paid"', reason=reason
        )

    def events(self, workflow_id: str, run_id: str) -> list[ev.EventRecord]:
        return [
            ev.EventRecord(
                workflow_id, run_id, 1, 1, -1, -1, b"", [ev.WorkflowStarted("Order", b"[]", 311, 7)]
            )
        ]

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        return b"hash"


class Code:
    """Live code that may be forgotten."""

    def __init__(self) -> None:
        self.is_evicted = False

    def evict(self) -> None:
        self.is_evicted = True


def runs_of(store: Any, capacity: int) -> ActiveRuns:
    return ActiveRuns(store, {}, JsonPayloads(), capacity=capacity)


def found(runs: ActiveRuns, workflow_id: str) -> Any:
    active = runs.find(workflow_id)
    assert active is not None
    return active


def test_over_capacity_the_runs_that_were_not_used_for_longest_are_forgotten() -> None:
    store = Store()
    runs = runs_of(store, 2)
    for workflow_id in ("a", "b", "a", "c"):
        found(runs, workflow_id)
    assert len(runs) == 3, "not before the end of a batch"
    runs.trim()
    assert len(runs) == 2
    assert store.read == ["a", "b", "c"]
    for workflow_id in ("a", "c", "b"):
        found(runs, workflow_id)
    assert store.read == ["a", "b", "c", "b"], "b was forgotten"


def test_a_run_that_is_forgotten_is_evicted_and_found_again_as_it_was() -> None:
    runs = runs_of(Store(), 0)
    active = found(runs, "a")
    code: Any = Code()
    active.live = code
    runs.trim()
    assert code.is_evicted
    again = found(runs, "a")
    assert again is not active
    assert (again.view, again.state.last_hash, again.live) == (b'"paid"', b"hash", None)


def test_what_is_wrong_with_a_view_is_still_shown_when_the_run_is_found_again() -> None:
    active = found(runs_of(Store(a="the view could not be taken"), 1), "a")
    assert public_state(active.state, active.view, active.view_fault).reason == "the view could not be taken"


def test_code_is_that_of_its_run_not_of_its_workflow_id() -> None:
    runs = runs_of(Store(), 1)
    code: Any = Code()
    assert not runs.is_live("a", "run-1")
    found(runs, "a").live = code
    assert runs.is_live("a", "run-1")
    assert not runs.is_live("a", "run-2")


def test_a_run_is_dropped_only_while_it_is_the_one_that_is_cached() -> None:
    store = Store()
    runs = runs_of(store, 5)
    older = found(runs, "a")
    runs.drop_run("a", "an older run")
    runs.drop_run("b", older.state.run_id)
    assert len(runs) == 1
    runs.drop_run("a", older.state.run_id)
    assert len(runs) == 0


def test_of_a_workflow_that_never_was_started_nothing_is_kept() -> None:
    runs = runs_of(Store(), 5)
    assert runs.find("nobody") is None
    assert len(runs) == 0
