"""Other workflows, as workflow code uses them: children, and handles on any workflow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from perdure.authoring.members import RunRef, SignalRef, UpdateRef
from perdure.authoring.targets import definition_for, member_for
from perdure.errors import UsageError
from perdure.model.duration import LATEST_US, microseconds, moment_us
from perdure.model.limits import fault_of_id, fault_of_names, fault_of_reason, fault_of_summary
from perdure.model.runtime import Child, ChildOptions, WorkflowRuntime, current, misuse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from perdure.authoring.workflow_type import Definition
    from perdure.model.commands import IfClosed
    from perdure.model.duration import Duration
    from perdure.model.runtime import OnClose

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)


class Handle(Generic[S_co, R_co]):
    """A handle on another workflow, for workflow code: a child, or any workflow by its id.

    Attributes:
        id: its workflow id.
    """

    __slots__ = ("_child", "_definition", "id")

    def __init__(self, id: str, definition: Definition, child: Child | None = None) -> None:
        self.id = id
        self._definition = definition
        self._child = child

    async def result(self) -> R_co:
        """Wait until it has ended; return its result.

        When the wait is cancelled, the other run continues.

        Raises:
            errors.ChildFailed: a child ended without a result; `cause` says why.
            errors.WorkflowFailed: a workflow that is not a child ended without a result.
            errors.WorkflowNotFound: no run has this id.
        """
        child = self._child
        runtime = _runtime("Handle.result")
        if child is not None and child.on_close != "abandon":
            return cast("R_co", await asyncio.shield(child.ended))
        return cast("R_co", await runtime.send_message("result", self.id, "", b"", self._definition))

    async def signal(self, target: SignalRef[S_co, P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send a signal; returns when the other workflow has recorded it.

        Raises:
            errors.WorkflowNotFound: no open run has this id.
            errors.RequestRefused: the other workflow has no such signal, or cannot read the
                arguments.
        """
        runtime = _runtime("Handle.signal")
        named = member_for(target, SignalRef, self._definition)
        payload = runtime.encode_arguments(named.fn, args, kwargs, f"signal {named.name!r}")
        await runtime.send_message("signal", self.id, named.name, payload, None)

    async def update(self, target: UpdateRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Send an update, and wait for its answer.

        Raises:
            errors.UpdateRejected: its validator said no.
            errors.UpdateFailed: its handler raised, or the other run ended; `cause` says why.
            errors.WorkflowNotFound: no open run has this id.
            errors.RequestRefused: the other workflow has no such update, or cannot read the
                arguments.
        """
        runtime = _runtime("Handle.update")
        named = member_for(target, UpdateRef, self._definition)
        payload = runtime.encode_arguments(named.fn, args, kwargs, f"update {named.name!r}")
        update_id = await runtime.send_message("update", self.id, named.name, payload, None)
        answer = await runtime.send_message("update_result", self.id, update_id, b"", _Answer(named))
        return cast("T", answer)

    async def cancel(self, reason: str = "") -> None:
        """Ask it to stop; returns when the request is recorded, not when it has stopped.

        Args:
            reason: for people; for a child it is always that its parent has cancelled it.

        Raises:
            errors.WorkflowNotFound: no open run has this id, and it is no child.
        """
        runtime = _runtime("Handle.cancel")
        if fault := fault_of_reason(reason):
            raise misuse(f"Handle.cancel: {fault}.")
        child = self._child
        if child is not None and child.on_close != "abandon":
            runtime.cancel_child(child)
            return
        await runtime.send_message("cancel", self.id, reason, b"", None)

    def __repr__(self) -> str:
        return f"<workflow {self.id!r} of type {self._definition.name!r}>"


class _Answer:
    """The answer to an update, decoded like a workflow's result."""

    def __init__(self, target: UpdateRef[Any, Any, Any]) -> None:
        self.name = target.name
        self.run_fn = target.fn
        self.returns = target.returns


class Children:
    """Starts children with options; see `options`."""

    __slots__ = ("_options",)

    def __init__(self, options: ChildOptions) -> None:
        self._options = options

    async def start(
        self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[S, R]:
        """Start a child, and wait until it has started. As `workflow.start`."""
        child, definition = self._started("start", id, run, args, kwargs)
        await asyncio.shield(child.started)
        return Handle(id, definition, child)

    async def execute(self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a child, and wait for its result. As `workflow.execute`."""
        child, definition = self._started("execute", id, run, args, kwargs)
        if child.on_close == "abandon":
            await asyncio.shield(child.started)
            return await Handle[S, R](id, definition, child).result()
        try:
            return cast("R", await asyncio.shield(child.ended))
        except asyncio.CancelledError:
            if not child.ended.done() and _runtime("execute").cancel_child(child):
                # A second cancellation ends this wait.
                await asyncio.wait((child.ended,))
            raise

    def _started(
        self, what: str, id: str, run: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Child, Definition]:
        runtime = _runtime(what)
        definition = definition_for(run)
        if fault := fault_of_id(id):
            raise misuse(f"workflow.{what}: {fault}.")
        return runtime.start_child(definition, id, args, kwargs, self._options), definition


_PLAIN = Children(ChildOptions())


async def start(id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[S, R]:
    """Start another workflow as a child of this one; returns when it has started.

    When this run closes, its open children are cancelled; `options(on_close=…)` says otherwise.

    Args:
        id: the child's workflow id; it must not be in use.
        run: its run, seen from its class (`Order.process`), or a function workflow.
        args: of the run.
        kwargs: of the run.

    Raises:
        errors.WorkflowAlreadyStarted: the id is in use.
        errors.RequestRefused: no engine knows the type, or it cannot read the arguments.
        UsageError: this is not workflow code, it only reads, or an argument is invalid.
    """
    return await _PLAIN.start(id, run, *args, **kwargs)


async def execute(id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Start another workflow as a child of this one, and return its result.

    If this call is cancelled, it cancels the child and waits until the child has ended; use
    `asyncio.shield` to keep the child running.

    Args:
        id: the child's workflow id; it must not be in use.
        run: its run, seen from its class (`Order.process`), or a function workflow.
        args: of the run.
        kwargs: of the run.

    Raises:
        errors.ChildFailed: it ended without a result; `cause` says why.
        errors.WorkflowAlreadyStarted: the id is in use.
        errors.RequestRefused: no engine knows the type, or it cannot read the arguments.
        UsageError: this is not workflow code, it only reads, or an argument is invalid.
    """
    return await _PLAIN.execute(id, run, *args, **kwargs)


def options(
    *,
    on_close: OnClose = "cancel",
    if_closed: IfClosed = "start",
    delay: Duration | None = None,
    start_at: datetime | None = None,
    timeout: Duration | None = None,
    summary: str = "",
    memo: Mapping[str, Any] | None = None,
) -> Children:
    """Options for children: `workflow.options(on_close="abandon").start(…)`.

    Args:
        on_close: what happens to the child when this run closes: `"cancel"` asks it to stop,
            `"terminate"` ends it, `"abandon"` lets it run.
        if_closed: what to do when the id belongs to a run that has ended: `"start"` another,
            `"refuse"`, or `"after_failure"`: start unless that run completed.
        delay: the time after which the code of the child begins, from this call on.
        start_at: when it begins, instead of `delay`: a datetime with a time zone.
        timeout: the longest that the child may run, from when its code begins; None: no limit.
        summary: one line for people, shown where this run waits for the child; at most 1 KiB.
        memo: facts that the child keeps, by name (`workflow.memo`); at most 8 KiB of JSON.

    Raises:
        UsageError: a value is invalid.
    """
    if on_close not in ("cancel", "terminate", "abandon"):
        raise misuse(f'workflow.options: on_close is "cancel", "terminate" or "abandon", not {on_close!r}.')
    if if_closed not in ("start", "refuse", "after_failure"):
        raise misuse(
            f'workflow.options: if_closed is "start", "refuse" or "after_failure", not {if_closed!r}.'
        )
    try:
        timeout_us = 0 if timeout is None else microseconds(timeout)
    except UsageError as error:
        raise misuse(f"workflow.options: timeout: {error}") from None
    if timeout is not None and not timeout_us:
        raise misuse("workflow.options: a timeout must be longer than 0.")
    if fault := fault_of_summary(summary) or fault_of_names(memo):
        raise misuse(f"workflow.options: {fault}.")
    return Children(
        ChildOptions(
            on_close, if_closed, timeout_us, start_at=_begins_at(delay, start_at), summary=summary, memo=memo
        )
    )


def _begins_at(delay: Duration | None, start_at: datetime | None) -> int:
    """When a child begins, microseconds since 1970; 0: immediately."""
    if delay is not None and start_at is not None:
        raise misuse("workflow.options: give delay or start_at, not both.")
    try:
        if start_at is not None:
            return moment_us(start_at, "start_at")
        delay_us = 0 if delay is None else microseconds(delay)
    except UsageError as error:
        raise misuse(f"workflow.options: {error}.") from None
    return min(_runtime("options").now_us() + delay_us, LATEST_US) if delay_us else 0


def get(id: str, run: RunRef[S, P, R], /) -> Handle[S, R]:
    """A handle on any workflow, to signal it, cancel it, or wait for its result.

    Args:
        id: its workflow id.
        run: its run, seen from its class (`Order.process`), or a function workflow.

    Raises:
        UsageError: the id is invalid, or `run` is not the run of a workflow.
    """
    definition = definition_for(run)
    if fault := fault_of_id(id):
        raise misuse(f"workflow.get: {fault}.")
    return Handle(id, definition)


def _runtime(what: str) -> WorkflowRuntime:
    runtime = current()
    if runtime is None:
        raise misuse(f"workflow.{what} is for workflow code; no run is being executed here.")
    if runtime.is_read_only:
        raise misuse(f"workflow.{what} is called in a query, a view or a condition. Those may only read.")
    return runtime
