"""Other workflows, as the code of a run sees them: its children, and the targets of its
messages.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model import events as ev
from perdure.model.actions import CancelChild, SendMessage, StartChild
from perdure.model.failure import described
from perdure.model.memo import encoded_memo
from perdure.model.refusals import error_of
from perdure.model.runtime import Child
from perdure.model.states import Status
from perdure.replay.futures import InertFuture, reject
from perdure.replay.recorded_values import unreadable
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.model.failure import FailureInfo
    from perdure.model.payloads import Payloads
    from perdure.model.runtime import ChildOptions, WorkflowSpec
    from perdure.replay.awaited import Awaited
    from perdure.replay.futures import RunFuture
    from perdure.replay.loop import RunLoop


class OtherRuns:
    """Children and messages of one run.

    Args:
        loop: of the run.
        payloads: encodes arguments and decodes results.
        awaited: the messages whose answers the code awaits, and other actions.
    """

    __slots__ = ("_awaited", "_children", "_count", "_loop", "_payloads")

    def __init__(self, loop: RunLoop, payloads: Payloads, awaited: Awaited) -> None:
        self._loop = loop
        self._payloads = payloads
        self._awaited = awaited
        self._count = 0
        self._children: dict[int, Child] = {}

    # ---- asked by workflow code

    def start(
        self,
        workflow: WorkflowSpec,
        workflow_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ChildOptions,
    ) -> Child:
        """Start a child. See `WorkflowRuntime`."""
        loop = self._loop
        loop.refuse_if_read_only("start a child workflow")
        if loop.is_evicted:
            inert = InertFuture(loop, 0)
            return Child(0, workflow, workflow_id, on_close="abandon", started=inert, ended=inert)
        what = f"workflow {workflow.name!r}"
        try:
            payload = self._payloads.encode_arguments(workflow.run_fn, args, kwargs, what=what)
            memo = encoded_memo(self._payloads, options.memo)
        except errors.UsageError as error:
            raise loop.misuse(error) from None
        self._count = number = self._count + 1
        loop.actions.items.append(
            StartChild(
                number,
                workflow_id,
                workflow.name,
                payload,
                on_close=options.on_close,
                if_closed=options.if_closed,
                timeout_us=options.timeout_us,
                start_at=options.start_at,
                summary=options.summary,
                memo=memo,
            )
        )
        child = self._children[number] = Child(
            number,
            workflow,
            workflow_id,
            on_close=options.on_close,
            started=loop.create_future(),
            ended=loop.create_future(),
        )
        return child

    def cancel(self, child: Child) -> bool:
        """Ask a child to stop; return whether it is still open. See `WorkflowRuntime`."""
        self._loop.refuse_if_read_only("cancel a child workflow")
        if child.number not in self._children:
            return False
        actions = self._loop.actions
        if actions.withdraw(StartChild, child.number):  # it was started in this activation
            del self._children[child.number]
            _fail(child, errors.ChildFailed(*_cancelled(child, "it was not started"), child.workflow_id))
            return False
        actions.items.append(CancelChild(child.number))
        return True

    def send(
        self, what: str, workflow_id: str, name: str, payload: bytes, workflow: WorkflowSpec | None
    ) -> RunFuture:
        """Send a message, and return the future of its answer. See `WorkflowRuntime`."""

        def settle(future: Any, event: ev.MessageAnswered) -> None:
            self._settle(future, event, what, workflow_id=workflow_id, workflow=workflow)

        return self._awaited.ask(
            "send a message to a workflow",
            SendMessage,
            what,
            workflow_id,
            name,
            payload,
            answer=ev.MessageAnswered,
            settle=settle,
        )

    # ---- what has become of them

    def apply(self, event: Any) -> None:
        """Apply an event of a child: resolve or reject the future that waits for it."""
        child = self._children.get(event.number)
        if child is None:
            return
        if type(event) is ev.ChildStarted:
            _resolve(child.started, event.run_id)
            if child.on_close == "abandon":
                del self._children[event.number]
            return
        del self._children[event.number]
        match event:
            case ev.ChildRefused():
                _fail(child, error_of(event.code, event.message))
            case ev.ChildCompleted():
                self._decode(child.ended, event.result, child.workflow, child.workflow_id)
            case ev.ChildCancelled():
                _reject(child.ended, errors.ChildFailed(*_cancelled(child, event.reason), child.workflow_id))
            case _:
                ended = self._ended(child.workflow_id, event.status, event.failure, event.reason)
                _reject(child.ended, errors.ChildFailed(*ended, child.workflow_id))

    def _settle(
        self,
        future: Any,
        event: ev.MessageAnswered,
        what: str,
        *,
        workflow_id: str,
        workflow: WorkflowSpec | None,
    ) -> None:
        match event.outcome:
            case "accepted":  # an update is known by the id of the message
                _resolve(future, f"{self._loop.run_id}/message/{event.number}")
            case "refused":
                _reject(future, error_of(event.code, event.message))
            case Status.COMPLETED:
                self._decode(future, event.result, workflow, workflow_id)
            case status:
                said, cause = self._ended(workflow_id, status, event.failure, event.message)
                if what == "update_result":
                    _reject(future, errors.UpdateFailed(f"an update of {said}", cause))
                else:
                    _reject(future, errors.WorkflowFailed(said, cause))

    def _ended(
        self, workflow_id: str, status: str, failure: FailureInfo | None, reason: str
    ) -> tuple[str, BaseException]:
        """The message and the cause for a run that ended without a result."""
        failure = self._payloads.open_failure(failure) if failure else None
        match status:
            case Status.CANCELLED:
                cause: BaseException = errors.Cancelled(reason or "cancelled")
            case Status.TERMINATED:
                cause = errors.Terminated(reason or "terminated")
            case Status.TIMED_OUT:
                cause = errors.TimedOut("the run's timeout expired")
            case _:
                cause = self._payloads.decode_failure(failure) if failure else errors.Failure("failed")
        said = described(failure) if failure else str(cause)
        return f"workflow {workflow_id!r} {status.replace('_', ' ')}: {said}", cause

    def _decode(
        self, future: asyncio.Future[Any], result: bytes, workflow: WorkflowSpec | None, workflow_id: str
    ) -> None:
        annotation = Any if workflow is None else workflow.returns
        what = f"the result of workflow {workflow_id!r}"
        try:
            value = self._payloads.decode(result, annotation, what=what)
        except SUSPENDING:
            raise
        except BaseException as error:
            raise unreadable(error, what) from error
        _resolve(future, value)

    def release(self) -> list[Any]:
        """Return the awaited futures of an evicted run, for `eviction`."""
        futures: list[Any] = []
        for child in self._children.values():
            futures += (child.started, child.ended)
        self._children.clear()
        return futures


def _cancelled(child: Child, reason: str) -> tuple[str, errors.Cancelled]:
    return f"workflow {child.workflow_id!r} cancelled: {reason}", errors.Cancelled(reason or "cancelled")


def _fail(child: Child, error: BaseException) -> None:
    _reject(child.started, error)
    _reject(child.ended, error)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _reject(future: Any, error: BaseException) -> None:
    if not future.done():
        reject(future, error)
        future.exception()  # mark as retrieved: a child that is never awaited may fail without a log line
