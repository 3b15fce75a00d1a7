"""The client: starts, signals, queries and reads workflows of one platform."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack

from msgspec import json

from perdure import context, errors
from perdure.app import NO_APP
from perdure.authoring.targets import definition_for
from perdure.client.address import transport_of
from perdure.client.description import describe, run_of
from perdure.client.handle import Handle
from perdure.client.intercepted import InterceptedTransport
from perdure.client.jobs import Jobs
from perdure.client.listing import ListQuery
from perdure.client.read_your_writes import reached
from perdure.client.reading import state_of
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.client.schedules import Schedules
from perdure.client.start_options import encoded_options
from perdure.client.tokens import fail, resolve
from perdure.model import commands as cm
from perdure.model.duration import Duration
from perdure.model.limits import fault_of_id
from perdure.model.memo import encoded_memo
from perdure.model.runtime import misuse
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from datetime import datetime

    from perdure.app import App
    from perdure.client.address import Token
    from perdure.client.description import Description
    from perdure.client.listing import ListOptions
    from perdure.client.ports import Transport
    from perdure.client.position import Position
    from perdure.interceptor import Interceptor
    from perdure.model.events import EventRecord
    from perdure.model.failure import FailureInfo
    from perdure.model.payloads import AnyCodec, Payloads
    from perdure.model.states import Status, WorkflowState
    from perdure.workflow import RunRef

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

REQUEST_TIMEOUT_S = 15.0


class Client(Jobs, Schedules):
    """A client of one platform. Create one by `Client.connect`, and close it.

    Args:
        transport: carries requests.
        payloads: encodes and decodes values; must match that of workers and engines.
        interceptors: around its requests, outermost first.
    """

    def __init__(
        self, transport: Transport, *, payloads: Payloads, interceptors: Sequence[Interceptor] = ()
    ) -> None:
        self._transport = InterceptedTransport(transport, tuple(interceptors))
        self._payloads = payloads
        self._start_options: dict[str, Any] = {}
        """The fields of `StartWorkflow` that `options` has set."""

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        codec: AnyCodec | None = None,
        token: Token | None = None,
        interceptors: Sequence[Interceptor] = (),
        app: App = NO_APP,
    ) -> Connecting:
        """Connect to the platform at a URL; `await` it, or `async with` it.

        Args:
            url: `sqlite:///app.db` for the database of a `perdure dev`; `kafka://broker:9092/shop`;
                `https://perdure.shop.example`.
            codec: encrypts or compresses payloads.
            token: for the HTTP API: an API key or a token, or a function that returns the current
                one. By default PERDURE_TOKEN.
            interceptors: around the client's requests, outermost first; see `perdure.interceptor`.
            app: codec, interceptors and store of large payloads of an app, instead of one by one.

        Raises:
            errors.UsageError: the address is invalid.
            errors.InfrastructureError: the platform cannot be reached.
        """
        return Connecting(url, app.plus(codec, interceptors), token)

    def options(
        self,
        *,
        if_running: Literal["refuse", "attach", "terminate"] = "refuse",
        if_closed: Literal["start", "refuse", "after_failure"] = "start",
        delay: Duration | None = None,
        start_at: datetime | None = None,
        timeout: Duration | None = None,
        attributes: dict[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Client:
        """The same client, with options for the starts made through it.

        Args:
            if_running: what to do if a run with this workflow id is open: refuse, attach to it, or
                terminate it and start.
            if_closed: what to do if a run with this workflow id has closed: start another, refuse,
                or start only if it did not complete.
            delay: the time after which the code begins. The run exists immediately, with its id.
            start_at: when the code begins, instead of `delay`: a datetime with a time zone. The
                past means now.
            timeout: the longest that the code may take, from when it begins; then the status is
                `timed_out`.
            attributes: JSON values for finding it.
            memo: facts that the run keeps, by name: `workflow.memo` and `describe` read them; at
                most 8 KiB, encoded by the codec.
            request_id: repeated starts with the same request id act once; by default every call is
                a new request.

        Raises:
            errors.UsageError: an option is invalid. PayloadError: of the memo or the attributes,
                something cannot be encoded, or they are too large.
        """
        start_options = encoded_options(
            if_running=if_running,
            if_closed=if_closed,
            delay=delay,
            start_at=start_at,
            timeout=timeout,
            attributes=attributes,
            memo=encoded_memo(self._payloads, memo),
            request_id=request_id,
        )
        client = copy(self)
        client._start_options = start_options  # noqa: SLF001 - of our own copy
        return client

    async def start(
        self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[S, R]:
        """Start a run; returns when that is durable.

        Args:
            id: the workflow id.
            run: `Order.process`, or a function workflow.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            errors.WorkflowAlreadyStarted: the id is in use; see `options()`.
            errors.RequestRefused: the id or an argument is refused, or no engine knows the type.
            errors.EngineUnavailable: no engine answered in time.
        """
        definition = definition_for(run)
        payload = self._payloads.encode_arguments(
            definition.run_fn, args, kwargs, what=f"workflow {definition.name!r}"
        )
        run_id = await self._start(id, definition.name, payload)
        return Handle(self._transport, self._payloads, id, run_id, definition)

    async def execute(self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and wait for its result; raises as `start` and `Handle.result`."""
        handle = await self.start(id, run, *args, **kwargs)
        return await handle.result()

    def with_start(self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[S, R]:
        """A handle whose first signal starts the workflow if no run is open. Signal and start are
        one command, so one never happens without the other. Nothing is sent before that signal. If
        a run is open, it gets the signal and keeps its own arguments. If its start is delayed, it
        begins now, unless `options` delays this start, too.

        Args:
            id: the workflow id.
            run: `Order.process`, or a function workflow.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            errors.RequestRefused: the id or an argument is refused.
            errors.UsageError: `options(if_running="terminate")` cannot be combined with it.
        """
        _check_id(id)
        definition = definition_for(run)
        payload = self._payloads.encode_arguments(
            definition.run_fn, args, kwargs, what=f"workflow {definition.name!r}"
        )
        options = {**self._start_options}
        request_id: str = options.pop("request_id", "")
        if options.get("if_running") == "terminate":
            raise errors.UsageError(
                'with_start signals the open run; if_running="terminate" would end it first: use start() '
                "for that"
            )
        options["if_running"] = "attach"
        options["context"] = context.here()
        start = cm.StartWorkflow(id, request_id=request_id, type=definition.name, input=payload, **options)
        return Handle(self._transport, self._payloads, id, "", definition, start)

    def get(self, id: str, run: RunRef[S, P, R], /) -> Handle[S, R]:
        """A handle on the current or last run of a workflow id. Sends no request."""
        return Handle(self._transport, self._payloads, id, "", definition_for(run))

    async def start_by_name(self, id: str, type: str, args: Sequence[object] = ()) -> Handle[Any, Any]:
        """Start a run of a type that is not imported here; arguments are JSON values. Raises as
        `start`.
        """
        payload = self._payloads.encode(list(args), what=f"the arguments of workflow {type!r}")
        run_id = await self._start(id, type, payload)
        return Handle(self._transport, self._payloads, id, run_id, None)

    def get_by_name(self, id: str) -> Handle[Any, Any]:
        """A handle on a run of any type; values are JSON values."""
        return Handle(self._transport, self._payloads, id, "", None)

    async def resolve(self, text: str, value: object = None, /) -> None:
        """Answer a token of a workflow; returns when the answer is durable. Repeating the same
        answer is accepted and changes nothing.

        Args:
            text: the whole `token.text`.
            value: the value for the workflow's code; it must fit the type of the token.

        Raises:
            errors.TokenNotFound: no open run has such a token.
            errors.TokenClosed: the token has another answer, has expired, or its run has closed.
            errors.RequestRefused: the value does not fit, or the run is suspended.
            errors.EngineUnavailable: no engine answered in time.
        """
        await resolve(self._transport, self._payloads, text, value, REQUEST_TIMEOUT_S)

    async def fail(self, text: str, error: BaseException | str, /) -> None:
        """Answer a token with an exception: the workflow's code gets `errors.TokenFailed` with this
        `cause`. Raises as `resolve`.

        Args:
            text: the whole `token.text`.
            error: the reason why there is no value; a text becomes a `Failure`.
        """
        await fail(self._transport, self._payloads, text, error, REQUEST_TIMEOUT_S)

    async def state(
        self, id: str, *, after: Position | str | None = None, within: Duration = "10s"
    ) -> WorkflowState:
        """The public state of a workflow id.

        Args:
            id: the workflow id.
            after: wait until the read reflects this position of a write; by default, do not wait.
            within: how long to wait.

        Raises:
            errors.WorkflowNotFound: no workflow with this id was ever started.
            errors.ReadLags: reads still lag behind `after`.
        """
        if after is not None:
            await reached(self._transport, after, within)
        return await self._state(id)

    async def position(self, id: str) -> Position:
        """A position that reflects every completed write to a workflow id; pass it to `state(…,
        after=…)` in any process.
        """
        _check_id(id)
        return await self._transport.position(id)

    async def describe(self, id: str) -> Description:
        """Describe the current or last run of a workflow id.

        Raises:
            errors.WorkflowNotFound: no workflow with this id was ever started.
        """
        state = await self._state(id)
        view = None
        memo: dict[str, Any] | None = None if state.memo else {}
        with suppress(errors.ValueUnavailable):
            view = self._payloads.decode(state.view, Any, what="the view") if state.view else None
        with suppress(errors.ValueUnavailable):
            if state.memo:
                memo = self._payloads.decode(state.memo, dict[str, Any], what="the memo")
        attributes: dict[str, Any] = json.decode(state.attributes) if state.attributes else {}
        return await self._transport.read(
            lambda reader: describe(state, run_of(state, reader), view, attributes, self._opened, memo=memo)
        )

    async def history(self, id: str, run_id: str = "") -> list[EventRecord]:
        """The events of a run; of the current or last one by default. `perdure.codec.history` turns
        them into JSON and back.

        Raises:
            errors.WorkflowNotFound: there is no such run.
        """
        _check_id(id)
        wanted = run_id or (await self._state(id)).run_id
        records = await self._transport.read(lambda reader: reader.events(id, wanted))
        if not records:
            raise errors.WorkflowNotFound(f"workflow {id!r} has no run {run_id!r}")
        return records

    async def list(
        self, query: ListQuery | None = None, /, **options: Unpack[ListOptions]
    ) -> list[WorkflowState]:
        """Workflows by their last run, newest first unless asked for otherwise.

        Args:
            query: the page; or pass its filters one by one.
            options: see `ListOptions`.

        Raises:
            errors.RequestRefused: an option is invalid.
        """
        page = ListQuery.of(**options) if query is None else query
        return await self._transport.read(lambda reader: reader.list(page))

    async def counts(
        self,
        *,
        type: str | Sequence[str] | None = None,
        status: Status | str | Sequence[Status | str] | None = None,
    ) -> dict[tuple[str, str], int]:
        """Number of workflows by type and status.

        Args:
            type: count only this type, or these types.
            status: count only this status, or these statuses.

        Raises:
            errors.RequestRefused: there is no such status.
        """
        query = ListQuery.of(type=type, status=status)
        return await self._transport.read(lambda reader: reader.counts(query))

    def decode_view(self, state: WorkflowState, annotation: Any = Any) -> Any:
        """The view in a public state, by an annotation; None when there is none."""
        return self._payloads.decode(state.view, annotation, what="the view") if state.view else None

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _opened(self, failure: FailureInfo) -> FailureInfo:
        with suppress(errors.ValueUnavailable):
            return self._payloads.open_failure(failure)
        return failure

    async def _state(self, id: str) -> WorkflowState:
        _check_id(id)
        state = await state_of(self._transport, id)
        if state is None:
            raise errors.WorkflowNotFound(f"no workflow has the id {id!r}")
        return state

    async def _start(self, id: str, type: str, payload: bytes) -> str:
        options: dict[str, Any] = {
            "request_id": fresh_request_id(),
            "context": context.here(),
            **self._start_options,
        }
        command = cm.StartWorkflow(id, type=type, input=payload, **options)
        require_valid(command)
        return accepted(await self._transport.request(command, REQUEST_TIMEOUT_S)).run_id


def lent(client: Client) -> Client:
    """The same client for others: closing it leaves the given one open."""
    view = copy(client)
    view._transport = client._transport.borrowed()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return view


class Connecting:
    """Result of `Client.connect`: `await` it, or use `async with`."""

    __slots__ = ("_app", "_client", "_token", "_url")

    def __init__(self, url: str, app: App = NO_APP, token: Token | None = None) -> None:
        self._url = url
        self._token = token
        self._app = app
        self._client: Client | None = None

    async def _connect(self) -> Client:
        from perdure.codec.payloads import JsonPayloads

        payloads = JsonPayloads.of(self._app)
        transport = transport_of(self._url, self._token)
        self._client = Client(transport, payloads=payloads, interceptors=self._app.interceptors)
        return self._client

    if not TYPE_CHECKING:  # type checkers report such an attribute themselves

        def __getattr__(self, name: str) -> Any:
            if not hasattr(Client, name):
                raise AttributeError(f"'Connecting' object has no attribute {name!r}")
            raise misuse(
                f"Client.connect gives no client yet, so it has no {name!r}: write "
                "`async with Client.connect(…) as client`, or `client = await Client.connect(…)`."
            )

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        return await self._connect()

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._client.close()


def _check_id(id: str) -> None:
    if fault := fault_of_id(id):
        raise errors.RequestRefused(fault)
