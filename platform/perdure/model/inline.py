"""Inline steps: functions that are run as steps of one run, without being registered."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.tasks import Task

OUTCOME_UNKNOWN: Final = "perdure.errors:OutcomeUnknown"
NOT_DONE: Final = "perdure.errors:NotDone"


def step() -> None:
    """Its signature stands for that of every inline step: no arguments are recorded, since replayed
    code passes them again. It is called `step` for messages that quote the call.
    """


class InlineStep:
    """A call of `workflow.step`: an `ActivitySpec` that exists only as long as the code of its run.

    Args:
        name: the name given in the call.
        call: the function, with its arguments.
        written: the function as it is in your file.
        returns: the annotation of its result.
        reconcile: looks up the outcome of an interrupted call; None: it cannot be looked up.

    Attributes:
        is_async: the function is `async def`.
        faked_by: always None: only registered functions can be faked.
    """

    __slots__ = ("call", "is_async", "name", "reconcile", "returns", "written")

    faked_by: Final = None

    def __init__(
        self,
        name: str,
        call: Callable[[], Any],
        written: Callable[..., Any],
        *,
        returns: Any,
        reconcile: Callable[[], Any] | None = None,
    ) -> None:
        self.name = name
        self.call = call
        self.returns = returns
        self.reconcile = reconcile
        self.written = written
        self.is_async = iscoroutinefunction(call)

    @property
    def fn(self) -> Callable[..., Any]:
        """The function whose signature the recorded arguments fit."""
        return step


class InlineTask(NamedTuple):
    """One attempt of an inline step, ready to run.

    Attributes:
        task: the attempt's task.
        step: its function.
        is_at_most_once: a timeout leaves its outcome unknown.
        is_unknown: a previous attempt may have taken effect: call `reconcile` first.
    """

    task: Task
    step: InlineStep
    is_at_most_once: bool = False
    is_unknown: bool = False
