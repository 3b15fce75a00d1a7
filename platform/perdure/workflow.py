"""Workflows: plain async Python that outlives the machine it runs on.

    @workflow.defn
    class Order:
        @workflow.run
        async def process(self, product_id: str) -> None: ...

        @workflow.signal
        def picked_up(self) -> None: ...

Time, chance and order come from the history: use `workflow.now`, `workflow.random`,
`workflow.uuid4`, and put what touches the world into activities. Plain asyncio works: sleep,
gather, wait_for, timeout, TaskGroup, shield, locks, queues.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from perdure.activity import Duration
from perdure.authoring.attributes import set_attributes
from perdure.authoring.changes import all_handlers_finished, continue_as_new, patched
from perdure.authoring.definition import DEFINED, Decorator, definition_of, defn
from perdure.authoring.mapping import map  # noqa: A004 - as it is called
from perdure.authoring.members import (
    Query,
    QueryRef,
    Run,
    RunRef,
    Signal,
    SignalRef,
    Update,
    UpdateRef,
    View,
    ViewRef,
    on_signal,
    query,
    run,
    signal,
    update,
    view,
)
from perdure.authoring.notes import details, memo
from perdure.authoring.others import Children, Handle, execute, get, options, start
from perdure.authoring.produce import Avro, produce
from perdure.authoring.retry import Retry
from perdure.authoring.saga import FailedCompensation, Saga
from perdure.authoring.sleeping import SummarisedWait, Timeout
from perdure.authoring.sleeping import sleep as summarised_sleep
from perdure.authoring.step import step
from perdure.authoring.streams import Stream
from perdure.authoring.streams import workflow_stream as stream
from perdure.authoring.tokens import Token, token
from perdure.authoring.trigger import Trigger, trigger
from perdure.authoring.unawaited import WaitCall
from perdure.authoring.workflow_type import Definition
from perdure.errors import UsageError
from perdure.model.duration import microseconds
from perdure.model.info import Info
from perdure.model.limits import fault_of_summary
from perdure.model.retention import Retention
from perdure.model.runtime import WorkflowRuntime, current, misuse

if TYPE_CHECKING:
    from random import Random
    from uuid import UUID

__all__ = [
    "DEFINED",
    "Avro",
    "Children",
    "Decorator",
    "Definition",
    "Duration",
    "FailedCompensation",
    "Handle",
    "Info",
    "Query",
    "QueryRef",
    "Retention",
    "Run",
    "RunRef",
    "Saga",
    "Signal",
    "SignalRef",
    "Stream",
    "Token",
    "Trigger",
    "Update",
    "UpdateRef",
    "View",
    "ViewRef",
    "all_handlers_finished",
    "continue_as_new",
    "definition_of",
    "defn",
    "details",
    "execute",
    "get",
    "info",
    "logger",
    "map",
    "memo",
    "now",
    "on_signal",
    "options",
    "patched",
    "produce",
    "query",
    "random",
    "run",
    "saga",
    "set_attributes",
    "signal",
    "sleep",
    "start",
    "step",
    "stream",
    "timeout",
    "token",
    "trigger",
    "update",
    "uuid4",
    "view",
    "wait_until",
]

T = TypeVar("T")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def info() -> Info:
    """Facts about the run that this code is part of.

    Raises:
        UsageError: this is not workflow code.
    """
    return _runtime("info").info()


def now() -> datetime:
    """The time of the event that is being handled, with time zone UTC; on replay the same again."""
    return _EPOCH + timedelta(microseconds=_runtime("now").now_us())


def uuid4() -> UUID:
    """A random UUID; on replay the same again."""
    return _runtime("uuid4", changes=True).uuid4()


def random() -> Random:
    """The run's own stream of random numbers; on replay the same again."""
    return _runtime("random", changes=True).random()


@overload
async def wait_until(condition: Callable[[], T | None], /) -> T: ...
@overload
async def wait_until(
    condition: Callable[[], T | None],
    /,
    *,
    timeout: Duration,  # noqa: ASYNC109  ours is durable
    summary: str = "",
) -> T | None: ...
def wait_until(condition: Any, /, *, timeout: Any = None, summary: Any = "") -> Any:
    """Wait until the condition returns something truthy.

    Args:
        condition: a plain function of the workflow's state that changes nothing; looked at after
            each change.
        timeout: how long at most; a negative `timedelta` is over immediately.
        summary: of the timer of the timeout, one line for people, at most 1 KiB.

    Returns:
        What the condition returned; something falsy when the time was up (it does not raise: look
        at the result).

    Raises:
        UsageError: this is not workflow code, it only reads, or an argument is invalid.
    """
    runtime = _runtime("wait_until", changes=True)
    if not callable(condition):
        raise misuse(
            f"workflow.wait_until takes a function: wait_until(lambda: self.done), not {condition!r}."
        )
    timeout_us = None if timeout is None else _microseconds("wait_until", timeout)
    if summary == "":
        return WaitCall(runtime.wait_until(condition, timeout_us))
    if timeout_us is None:
        raise misuse(
            "workflow.wait_until: summary is that of a timer, and without a timeout there is none; use "
            "workflow.details to say what the run waits for."
        )
    said = _summary("wait_until", summary)
    return SummarisedWait(runtime.wait_until(condition, timeout_us), said)


def sleep(until: Duration | datetime, /, *, summary: str = "") -> Coroutine[Any, Any, None]:
    """A durable sleep, of any length.

    Args:
        until: how long, or until when (with a time zone). A negative `timedelta`, or a time in the
            past, is over immediately.
        summary: of its timer, one line for people, at most 1 KiB.

    Raises:
        UsageError: this is not workflow code, or it only reads; or an argument is invalid.
    """
    seconds = _seconds("sleep", until)
    return asyncio.sleep(seconds) if summary == "" else summarised_sleep(seconds, _summary("sleep", summary))


def timeout(delay: Duration | datetime, /, *, summary: str = "") -> AbstractAsyncContextManager[None]:
    """`asyncio.timeout`, which takes a Duration, or a datetime with a time zone.

    Args:
        delay: how long, or until when.
        summary: of its timer, one line for people, at most 1 KiB.

    Raises:
        UsageError: this is not workflow code, or it only reads; or an argument is invalid.
    """
    seconds = _seconds("timeout", delay)
    made = asyncio.timeout(seconds) if summary == "" else Timeout(seconds, _summary("timeout", summary))
    return cast("AbstractAsyncContextManager[None]", made)


def saga(*, parallel: bool = False, retry: Retry | None = None) -> Saga:
    """Compensations for what is done in a block.

    On failure or cancellation they run, newest first, shielded from cancellation; one that fails
    does not stop the rest. Then the exception continues, with a note of each compensation that
    failed; `perdure workflow show` names those, and those that run.

    Args:
        parallel: all at the same time, instead of one after another.
        retry: when a compensation that failed is called again; None: it is called once. An activity
            has attempts of its own before it fails. `saga.options(retry=…)` says it for one.

    Raises:
        UsageError: `retry` is invalid.
    """
    return Saga(parallel=parallel, retry=retry)


class _WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """Silent while replaying; adds the run."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's own name
        runtime = current()
        return (runtime is None or not runtime.is_replaying()) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        runtime = current()
        if runtime is not None:
            facts = runtime.info()
            run_of = {"workflow_id": facts.workflow_id, "run_id": facts.run_id}
            kwargs = {**kwargs, "extra": {**run_of, **(kwargs.get("extra") or {})}}
        return msg, kwargs


logger: Final = _WorkflowLogger(logging.getLogger("perdure.workflow"))
"""For workflow code: silent while recorded events are repeated; records carry `workflow_id` and
`run_id`."""


def _runtime(what: str, *, changes: bool = False) -> WorkflowRuntime:
    runtime = current()
    if runtime is None:
        raise misuse(f"workflow.{what} is for workflow code; no run is being executed here.")
    if changes and runtime.is_read_only:
        raise misuse(f"workflow.{what} is called in a query, a view or a condition. Those may only read.")
    return runtime


def _seconds(what: str, delay: Duration | datetime) -> float:
    runtime = _runtime(what, changes=True)
    if not isinstance(delay, datetime):
        return _microseconds(what, delay) / 1_000_000
    if delay.tzinfo is None:
        raise misuse(f"workflow.{what} until {delay!r}: give the datetime a time zone, such as UTC.")
    return (delay - _EPOCH) / timedelta(seconds=1) - runtime.now_us() / 1_000_000


def _summary(what: str, summary: Any) -> str:
    if fault := fault_of_summary(summary):
        raise misuse(f"workflow.{what}: {fault}.")
    return str(summary)


def _microseconds(what: str, duration: Duration) -> int:
    """Microseconds until the end. A negative `timedelta` ends immediately, as in asyncio."""
    if isinstance(duration, timedelta) and duration < timedelta(0):
        return 0
    try:
        return microseconds(duration)
    except UsageError as error:
        raise misuse(f"workflow.{what}: {error}") from None
