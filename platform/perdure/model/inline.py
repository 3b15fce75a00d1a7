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
    """Its signature is that of every inline step: no arguments are recorded, since the code that is
    replayed passes them again. It has the name that authors call, for messages that quote the call.
    """


class InlineStep:
    """A call of `workflow.step`. An `ActivitySpec` of which nothing outlives the code of its run.

    Args:
        name: given by the author.
        call: the function, with its arguments.
        written: the function as it is in the author's file.
        returns: the annotation of its result.
        reconcile: looks up the outcome of a call that was interrupted; None: nothing can.

    Attributes:
        is_async: the function is `async def`.
        faked_by: nothing: only what is registered can be faked.
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
        """Whose signature the recorded arguments fit."""
        return step


class InlineTask(NamedTuple):
    """One attempt of an inline step, ready to run.

    Attributes:
        task: of the attempt.
        step: its function.
        is_at_most_once: a timeout leaves its outcome unknown.
        is_unknown: an attempt before may have had its effect: ask `reconcile` first.
    """

    task: Task
    step: InlineStep
    is_at_most_once: bool = False
    is_unknown: bool = False
