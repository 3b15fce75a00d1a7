"""A handle on one workflow, for clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

from msgspec.structs import replace

from perdure import errors
from perdure.authoring.targets import member_for
from perdure.client.activity_handle import ActivityHandle
from perdure.client.read_your_writes import reached
from perdure.client.reading import state_of
from perdure.client.replies import accepted, answered, result_of
from perdure.client.request_ids import fresh_request_id
from perdure.client.streams import StreamReader
from perdure.client.updates import UpdateHandle, begun
from perdure.client.waits import NO_ENGINE, SUSPENDED, waits_for
from perdure.model import commands as cm
from perdure.model.duration import argument_us
from perdure.model.limits import fault_of_id
from perdure.model.replies import AskAgain, Closed
from perdure.model.validation import require_valid
from perdure.workflow import QueryRef, SignalRef, UpdateRef, ViewRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from perdure.client.ports import Transport
    from perdure.client.position import Position
    from perdure.model.duration import Duration
    from perdure.model.payloads import Payloads
    from perdure.model.states import WorkflowState
    from perdure.workflow import Definition

_logger: Final = logging.getLogger("perdure.client")
P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)

REQUEST_TIMEOUT_S: Final = 15.0
WARN_S: Final = 10.0
"""After this time, an awaited result that needs an operator is logged."""
WATCH_S: Final = 0.05
"""Seconds between two polls of `watch`."""


class Handle(Generic[S_co, R_co]):
    """A handle on one workflow: on the run that this client started, or on the current run.

    Attributes:
        id: the workflow id.
        run_id: the run; empty: the current one.
    """

    def __init__(
        self,
        transport: Transport,
        payloads: Payloads,
        id: str,
        run_id: str,
        definition: Definition | None,
        start: cm.StartWorkflow | None = None,
    ) -> None:
        self.id = id
        self.run_id = run_id
        self._transport = transport
        self._payloads = payloads
        self._definition = definition
        self._start = start
        """The start to be sent with the first signal."""

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109 - authors pass durations
        """Wait for the run to close, and return its result.

        If the run has not closed after ten seconds, a problem that an operator must solve is
        logged: the run is suspended, or no engine answers.

        Args:
            timeout: how long to wait; None: for ever. The run continues in any case.

        Raises:
            errors.NotClosed: the run has not closed in time; the message says what it waits for.
            errors.WorkflowFailed: the run ended without a result; `cause` says why.
            errors.WorkflowNotFound: no run has this id.
            errors.EngineUnavailable: no engine is running, or it stopped.
        """
        self._check_id()
        annotation = self._definition.returns if self._definition is not None else Any
        closed = await self._closed() if self._transport.is_reader_near else None
        if closed is None:
            reply = await self._awaited(None if timeout is None else argument_us("timeout", timeout) / 1e6)
            if not isinstance(reply, Closed):
                # it closed, and another run followed, before the request arrived
                closed = await self._closed()
                if closed is None:
                    accepted(reply)
                    raise errors.InfrastructureError(f"the engine answered with {type(reply).__name__}")
            else:
                closed = reply
        result: R_co = result_of(closed, self._payloads, annotation, self.id)
        return result

    async def signal(self, target: SignalRef[S_co, P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send a signal; returns when it is durable, not when it is handled.

        Raises:
            errors.WorkflowNotFound: no open run has this id.
            errors.RequestRefused: an argument is refused.
            errors.EngineUnavailable: no engine answered in time.
        """
        named = member_for(target, SignalRef, self._definition)
        payload = self._payloads.encode_arguments(named.fn, args, kwargs, what=f"signal {named.name!r}")
        await self._signal(named.name, payload)

    async def update(self, target: UpdateRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Send an update, and wait for its answer.

        Raises:
            errors.UpdateRejected: its validator rejected it; nothing was recorded.
            errors.UpdateFailed: its handler raised, or the run ended; `cause` says why.
            errors.WorkflowNotFound: no open run has this id.
            errors.RequestRefused: an argument is refused.
            errors.EngineUnavailable: no engine answered in time.
        """
        begun_: UpdateHandle[T] = await self._begin_update(target, args, kwargs, is_awaited=True)
        return await begun_.result()

    async def start_update(
        self, target: UpdateRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> UpdateHandle[T]:
        """Send an update; returns when it is accepted and durable. Raises as `update`, except
        `UpdateFailed`.
        """
        return await self._begin_update(target, args, kwargs, is_awaited=False)

    async def query(self, target: QueryRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Query the live run; a closed run answers from its final state.

        Raises:
            errors.WorkflowNotFound: no run has this id.
            errors.QueryFailed: the query raised.
            errors.EngineUnavailable: no engine answered in time.
        """
        target = member_for(target, QueryRef, self._definition)
        what = f"query {target.name!r}"
        payload = self._payloads.encode_arguments(target.fn, args, kwargs, what=what)
        reply = await self._request(
            cm.QueryWorkflow(self.id, self.run_id, fresh_request_id(), name=target.name, input=payload)
        )
        value: T = answered(reply, self._payloads, target.returns, what)
        return value

    async def view(
        self, target: ViewRef[S_co, T], /, *, after: Position | str | None = None, within: Duration = "10s"
    ) -> T:
        """The stored view. It can be read at any time, without an engine, also after the run has
        closed.

        Args:
            target: `Order.status`.
            after: wait until the read reflects this position of a write (`position`); by default,
                do not wait.
            within: how long to wait.

        Raises:
            errors.WorkflowNotFound: no run has this id, or it has no view yet.
            errors.ReadLags: reads still lag behind `after`.
        """
        target = member_for(target, ViewRef, self._definition)
        if after is not None:
            await reached(self._transport, after, within)
        state = await self._state()
        if not state.view:
            raise errors.WorkflowNotFound(
                f"workflow {self.id!r} has no view yet: {state.reason or 'its code has not run'}"
            )
        value: T = self._payloads.decode(state.view, target.returns, what=f"the view {target.name!r}")
        return value

    async def position(self) -> Position:
        """A position that reflects every completed write to this workflow; pass it to `view(…,
        after=…)` in any process.
        """
        self._check_id()
        return await self._transport.position(self.id)

    async def watch(self, target: ViewRef[S_co, T], /) -> AsyncIterator[T]:
        """Yield the view, now and after each change, until the run has closed.

        Raises:
            errors.WorkflowNotFound: no run has this id.
        """
        target = member_for(target, ViewRef, self._definition)
        seen = b""
        while True:
            state = await self._state()
            if state.view and state.view != seen:
                seen = state.view
                value: T = self._payloads.decode(state.view, target.returns, what=f"the view {target.name!r}")
                yield value
            elif state.status.is_closed:
                return
            else:
                await asyncio.sleep(WATCH_S)

    def stream(self, name: str, type: type[T], /, *, after: int = 0) -> StreamReader[T]:
        """The values that the run writes to a stream: those that are there, then those that come,
        until it has closed.

            async for delta in handle.stream("answer", Delta): ...

        Args:
            name: of the stream.
            type: of its values.
            after: the `offset` of a value: those after it; all by default.

        Raises, while it is read:
            errors.WorkflowNotFound: no run has this id.
        """
        self._check_id()
        return StreamReader(self._transport, self._payloads, self.id, name, type, after)

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to end: its code gets an `asyncio.CancelledError` and may clean up. Raises as
        `signal`.
        """
        accepted(
            await self._request(cm.CancelWorkflow(self.id, self.run_id, fresh_request_id(), reason=reason))
        )

    async def terminate(self, reason: str = "") -> None:
        """End the run; none of its code runs. Raises as `signal`."""
        accepted(
            await self._request(cm.TerminateWorkflow(self.id, self.run_id, fresh_request_id(), reason=reason))
        )

    async def delete(self, reason: str = "") -> None:
        """Remove the closed run with all its records; with no run id, every run of the workflow.

        Raises:
            errors.WorkflowNotFound: there is no such run.
            errors.RequestRefused: the run is open.
            errors.EngineUnavailable: no engine answered in time.
        """
        accepted(
            await self._request(cm.DeleteWorkflow(self.id, self.run_id, fresh_request_id(), reason=reason))
        )

    async def pause(self, reason: str = "", *, by: str = "") -> None:
        """Stop running the code of the run, until `unpause`. Signals, updates and results are
        recorded, timers and retries hold, queries and views answer from the last state.

        Args:
            reason: why; recorded, and part of the public state.
            by: who asks; likewise.

        Raises:
            errors.WorkflowNotFound: the run is not open.
            errors.RequestRefused: it is paused already, or suspended.
        """
        command = cm.PauseWorkflow(self.id, self.run_id, fresh_request_id(), by=by, reason=reason)
        accepted(await self._request(command))

    async def unpause(self, reason: str = "", *, by: str = "") -> None:
        """Let a paused run continue: its code sees what it has missed, timers that were due fire,
        and activities that have paused it are retried. Raises as `pause`.
        """
        command = cm.UnpauseWorkflow(self.id, self.run_id, fresh_request_id(), by=by, reason=reason)
        accepted(await self._request(command))

    def activity(self, number: int) -> ActivityHandle:
        """An open activity of the run, to retry it, to give it a result, or to let it fail."""
        self._check_id()
        return ActivityHandle(
            self._transport,
            self._payloads,
            self.id,
            run_id=self.run_id,
            number=number,
            timeout_s=REQUEST_TIMEOUT_S,
        )

    async def signal_by_name(self, name: str, args: Sequence[object] = ()) -> None:
        """Send a signal of a type that is not imported here; arguments are JSON values. Raises as
        `signal`.
        """
        await self._signal(name, self._payloads.encode(list(args), what=f"the arguments of signal {name!r}"))

    async def update_by_name(self, name: str, args: Sequence[object] = ()) -> Any:
        """Update a run of a type that is not imported here; values are JSON values. Raises as
        `update`.
        """
        payload = self._payloads.encode(list(args), what=f"the arguments of update {name!r}")
        return await (await self._update(name, payload, Any, is_awaited=True)).result()

    async def query_by_name(self, name: str, args: Sequence[object] = ()) -> Any:
        """Query a run of a type that is not imported here; values are JSON values. Raises as
        `query`.
        """
        payload = self._payloads.encode(list(args), what=f"the arguments of query {name!r}")
        reply = await self._request(
            cm.QueryWorkflow(self.id, self.run_id, fresh_request_id(), name=name, input=payload)
        )
        return answered(reply, self._payloads, Any, f"query {name!r}")

    async def waits_for(self) -> str:
        """Describe the run's waits in one sentence; empty when it has closed."""
        return await waits_for(self._transport, self.id, self.run_id)

    async def _awaited(self, timeout_s: float | None) -> Any:
        warning = asyncio.get_running_loop().call_later(WARN_S, self._warn)
        limit = None if timeout_s is None else asyncio.timeout(timeout_s)
        try:
            if limit is None:
                return await self._end()
            async with limit:
                return await self._end()
        except TimeoutError:
            if limit is None or not limit.expired():
                raise
            raise errors.NotClosed(
                f"workflow {self.id!r} has not ended after {timeout_s:g} s: {await self.waits_for()}"
            ) from None
        finally:
            warning.cancel()

    async def _end(self) -> Any:
        """The reply that says how the run has ended."""
        while True:
            command = cm.AwaitWorkflow(self.id, self.run_id, fresh_request_id())
            reply = await self._transport.request(command, float("inf"))
            if not isinstance(reply, AskAgain):
                return reply

    def _warn(self) -> None:
        self._warning = asyncio.get_running_loop().create_task(self._say_what_is_wrong())

    async def _say_what_is_wrong(self) -> None:
        with contextlib.suppress(errors.ClientError, errors.InfrastructureError):
            if (why := await self.waits_for()) and why.startswith((SUSPENDED, NO_ENGINE)):
                _logger.warning("the result of workflow %s is awaited: %s", self.id, why)

    async def _signal(self, name: str, payload: bytes) -> None:
        if (start := self._start) is not None:
            request_id = start.request_id or fresh_request_id()
            command = replace(start, request_id=request_id, signal_name=name, signal_input=payload)
            require_valid(command)
            self.run_id = accepted(await self._transport.request(command, REQUEST_TIMEOUT_S)).run_id
            self._start = None
            return
        signal = cm.SignalWorkflow(self.id, self.run_id, fresh_request_id(), name=name, input=payload)
        require_valid(signal)
        accepted(await self._transport.request(signal, REQUEST_TIMEOUT_S))

    async def _begin_update(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_awaited: bool
    ) -> UpdateHandle[Any]:
        named = member_for(target, UpdateRef, self._definition)
        payload = self._payloads.encode_arguments(named.fn, args, kwargs, what=f"update {named.name!r}")
        return await self._update(named.name, payload, named.returns, is_awaited=is_awaited)

    async def _update(
        self, name: str, payload: bytes, returns: Any, *, is_awaited: bool
    ) -> UpdateHandle[Any]:
        start, self._start = self._start, None
        request_id = (start.request_id if start is not None else "") or fresh_request_id()
        command = cm.UpdateWorkflow(self.id, self.run_id, request_id, name=name, input=payload)
        try:
            begun_ = await begun(
                self._transport, self._payloads, command, returns, start, is_awaited=is_awaited
            )
        except BaseException:
            self._start = start
            raise
        if start is not None:
            self.run_id = begun_.run_id
        return begun_

    def _check_id(self) -> None:
        if fault := fault_of_id(self.id):
            raise errors.RequestRefused(fault)

    async def _request(self, command: cm.Request) -> Any:
        require_valid(command)
        return await self._transport.request(command, REQUEST_TIMEOUT_S)

    async def _state(self) -> WorkflowState:
        self._check_id()
        state = await state_of(self._transport, self.id)
        if state is None:
            raise errors.WorkflowNotFound(f"no workflow has the id {self.id!r}")
        return state

    async def _closed(self) -> Closed | None:
        """The end of the run, if the materialised state shows it."""
        state = await state_of(self._transport, self.id)
        if state is None or not state.status.is_closed or self.run_id not in ("", state.run_id):
            return None
        return Closed("", state.run_id, state.status, state.result, state.failure, state.reason)
