"""The tree that `perdure.errors` draws is the tree that there is."""

from __future__ import annotations

import inspect
import re

import pytest

from perdure import errors
from perdure.errors import ActivityFailed, RemoteException, ReplayError, RetryAfter, WorkflowFailed

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
}


def drawn_tree() -> dict[str, str]:
    """Parent by class, as the docstring draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = re.match(r"((?:│   |    )*(?:├── |└── )?)(\w+)(?:\s{2,}\S.*)?$", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            if depth:
                parents[found[2]] = path[depth - 1]
    return parents


def test_every_error_is_drawn_under_its_base() -> None:
    assert drawn_tree() == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_every_error_says_who_must_act() -> None:
    assert all(kind.__doc__ for kind in CLASSES.values())


def test_time_outs_are_time_outs_of_python_too() -> None:
    assert issubclass(errors.ActivityTimedOut, TimeoutError)
    assert issubclass(errors.TimedOut, TimeoutError)


@pytest.mark.parametrize(
    "error", [WorkflowFailed("m", ValueError("x")), ActivityFailed("m", ValueError("x"), 2)]
)
def test_a_cause_is_shown_as_one(error: WorkflowFailed | ActivityFailed) -> None:
    assert error.__cause__ is error.cause
    assert str(error) == "m"


def test_a_replay_error_says_what_was_expected_and_what_was_found() -> None:
    error = ReplayError("r-1", 7, "ActivityScheduled charge", "started a timer")
    assert str(error).startswith(
        "run r-1, event 7: the history holds ActivityScheduled charge, but the code started a timer."
    )
    assert (error.run_id, error.event_id, error.expected, error.found) == (
        "r-1",
        7,
        "ActivityScheduled charge",
        "started a timer",
    )


def test_a_remote_exception_without_message_is_its_name() -> None:
    assert str(RemoteException("a.B", "")) == "a.B"
    assert str(RemoteException("a.B", "x")) == "a.B: x"


def test_a_delay_asked_for_keeps_its_message() -> None:
    error = RetryAfter("30s", "busy")
    assert (error.delay, str(error)) == ("30s", "busy")
