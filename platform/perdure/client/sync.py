"""The client without asyncio: the same methods, but blocking.
`tests/integration/test_sync_client.py` checks that the two have the same methods.
"""

from __future__ import annotations

import asyncio
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from perdure.app import NO_APP
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from perdure.activity import Activity
    from perdure.app import App
    from perdure.builtin.schedule_times import Spec
    from perdure.client.activity_handle import ActivityHandle
    from perdure.client.address import Token
    from perdure.client.client import Client
    from perdure.client.description import Description
    from perdure.client.handle import Handle
    from perdure.client.listing import ListOptions, ListQuery
    from perdure.client.position import Position
    from perdure.client.schedules import Overlap, ScheduleDescription, ScheduleHandle
    from perdure.client.updates import UpdateHandle
    from perdure.interceptor import Interceptor
    from perdure.model.duration import Duration
    from perdure.model.events import EventRecord
    from perdure.model.options import ActivityOptions
    from perdure.model.payloads import AnyCodec
    from perdure.model.states import Status, WorkflowState
    from perdure.workflow import QueryRef, RunRef, SignalRef, UpdateRef, ViewRef

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R_co = TypeVar("R_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)


class LoopOfClient(Protocol):
    """The asyncio loop of a client, for callers in other threads."""

    @property
    def is_running(self) -> bool:
        """Whether coroutines can run on it."""
        ...

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result."""
        ...

    def stop(self) -> None:
        """The client is closed. Idempotent."""


class _LoopThread:
    """An asyncio loop in a thread, for callers that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = WatchedThread(target=self._loop.run_forever, name="perdure-client-loop")
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether `stop` was not called yet."""
        return self._thread.is_alive()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result. An interrupt while waiting cancels
        it.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class SyncUpdateHandle(Generic[T]):
    """`UpdateHandle`, without asyncio."""

    def __init__(self, handle: UpdateHandle[T], thread: LoopOfClient) -> None:
        self._handle = handle
        self._thread = thread

    @property
    def id(self) -> str:
        """See `UpdateHandle`."""
        return self._handle.id

    @property
    def workflow_id(self) -> str:
        """See `UpdateHandle`."""
        return self._handle.workflow_id

    @property
    def run_id(self) -> str:
        """See `UpdateHandle`."""
        return self._handle.run_id

    def result(self, timeout: Duration | None = None) -> T:
        """See `UpdateHandle.result`."""
        return self._thread.wait(self._handle.result(timeout))


class SyncActivityHandle:
    """`ActivityHandle`, without asyncio."""

    def __init__(self, handle: ActivityHandle, thread: LoopOfClient) -> None:
        self._handle = handle
        self._thread = thread
        self.number = handle.number

    def retry(
        self,
        reason: str = "",
        *,
        by: str = "",
        timeout: Duration | None = None,
        maximum_attempts: int | None = None,
        queue: str | None = None,
    ) -> None:
        """See `ActivityHandle.retry`."""
        again = self._handle.retry(
            reason, by=by, timeout=timeout, maximum_attempts=maximum_attempts, queue=queue
        )
        self._thread.wait(again)

    def complete(self, value: object = None, /, *, reason: str = "", by: str = "") -> None:
        """See `ActivityHandle.complete`."""
        self._thread.wait(self._handle.complete(value, reason=reason, by=by))

    def fail(self, error: BaseException | str, /, *, reason: str = "", by: str = "") -> None:
        """See `ActivityHandle.fail`."""
        self._thread.wait(self._handle.fail(error, reason=reason, by=by))


class SyncHandle(Generic[S_co, R_co]):
    """`Handle`, without asyncio."""

    def __init__(self, handle: Handle[S_co, R_co], thread: LoopOfClient) -> None:
        self._handle = handle
        self._thread = thread
        self.id = handle.id

    @property
    def run_id(self) -> str:
        """See `Handle`."""
        return self._handle.run_id

    def result(self, timeout: Duration | None = None) -> R_co:
        """See `Handle.result`."""
        return self._thread.wait(self._handle.result(timeout))

    def waits_for(self) -> str:
        """See `Handle.waits_for`."""
        return self._thread.wait(self._handle.waits_for())

    def signal(self, target: SignalRef[S_co, P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """See `Handle.signal`."""
        self._thread.wait(self._handle.signal(target, *args, **kwargs))

    def update(self, target: UpdateRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Handle.update`."""
        return self._thread.wait(self._handle.update(target, *args, **kwargs))

    def start_update(
        self, target: UpdateRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncUpdateHandle[T]:
        """See `Handle.start_update`."""
        return SyncUpdateHandle(
            self._thread.wait(self._handle.start_update(target, *args, **kwargs)), self._thread
        )

    def query(self, target: QueryRef[S_co, P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Handle.query`."""
        return self._thread.wait(self._handle.query(target, *args, **kwargs))

    def view(
        self, target: ViewRef[S_co, T], /, *, after: Position | str | None = None, within: Duration = "10s"
    ) -> T:
        """See `Handle.view`."""
        return self._thread.wait(self._handle.view(target, after=after, within=within))

    def position(self) -> Position:
        """See `Handle.position`."""
        return self._thread.wait(self._handle.position())

    def watch(self, target: ViewRef[S_co, T], /) -> Iterator[T]:
        """See `Handle.watch`."""
        views = self._handle.watch(target)
        end = object()
        while (value := self._thread.wait(_next(views, end))) is not end:
            yield value

    def stream(self, name: str, type: type[T], /, *, after: int = 0) -> Iterator[T]:
        """See `Handle.stream`."""
        values = self._handle.stream(name, type, after=after)
        end = object()
        while (value := self._thread.wait(_next(values, end))) is not end:
            yield value

    def cancel(self, reason: str = "") -> None:
        """See `Handle.cancel`."""
        self._thread.wait(self._handle.cancel(reason))

    def delete(self, reason: str = "") -> None:
        """See `Handle.delete`."""
        self._thread.wait(self._handle.delete(reason))

    def terminate(self, reason: str = "") -> None:
        """See `Handle.terminate`."""
        self._thread.wait(self._handle.terminate(reason))

    def pause(self, reason: str = "", *, by: str = "") -> None:
        """See `Handle.pause`."""
        self._thread.wait(self._handle.pause(reason, by=by))

    def unpause(self, reason: str = "", *, by: str = "") -> None:
        """See `Handle.unpause`."""
        self._thread.wait(self._handle.unpause(reason, by=by))

    def activity(self, number: int) -> SyncActivityHandle:
        """See `Handle.activity`."""
        return SyncActivityHandle(self._handle.activity(number), self._thread)

    def signal_by_name(self, name: str, args: Sequence[object] = ()) -> None:
        """See `Handle.signal_by_name`."""
        self._thread.wait(self._handle.signal_by_name(name, args))

    def update_by_name(self, name: str, args: Sequence[object] = ()) -> Any:
        """See `Handle.update_by_name`."""
        return self._thread.wait(self._handle.update_by_name(name, args))

    def query_by_name(self, name: str, args: Sequence[object] = ()) -> Any:
        """See `Handle.query_by_name`."""
        return self._thread.wait(self._handle.query_by_name(name, args))


class SyncScheduleHandle:
    """`ScheduleHandle`, without asyncio."""

    def __init__(self, handle: ScheduleHandle, thread: LoopOfClient) -> None:
        self._handle = handle
        self._thread = thread
        self.id = handle.id

    def pause(self, note: str = "") -> None:
        """See `ScheduleHandle.pause`."""
        self._thread.wait(self._handle.pause(note))

    def unpause(self, note: str = "") -> None:
        """See `ScheduleHandle.unpause`."""
        self._thread.wait(self._handle.unpause(note))

    def trigger(self) -> str:
        """See `ScheduleHandle.trigger`."""
        return self._thread.wait(self._handle.trigger())

    def backfill(self, first: datetime, last: datetime) -> int:
        """See `ScheduleHandle.backfill`."""
        return self._thread.wait(self._handle.backfill(first, last))

    def update(self, **changes: Any) -> None:
        """See `ScheduleHandle.update`."""
        self._thread.wait(self._handle.update(**changes))

    def replace(self, spec: Spec) -> None:
        """See `ScheduleHandle.replace`."""
        self._thread.wait(self._handle.replace(spec))

    def delete(self) -> None:
        """See `ScheduleHandle.delete`."""
        self._thread.wait(self._handle.delete())

    def describe(self) -> ScheduleDescription:
        """See `ScheduleHandle.describe`."""
        return self._thread.wait(self._handle.describe())


class SyncClient:
    """`Client`, without asyncio: `with SyncClient.connect("sqlite:///app.db") as client: …`."""

    def __init__(self, client: Client, thread: LoopOfClient) -> None:
        self._client = client
        self._thread = thread

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        codec: AnyCodec | None = None,
        token: Token | None = None,
        interceptors: Sequence[Interceptor] = (),
        app: App = NO_APP,
    ) -> SyncClient:
        """See `Client.connect`."""
        thread = _LoopThread()
        try:
            return cls(thread.wait(_connect(url, app.plus(codec, interceptors), token)), thread)
        except BaseException:
            thread.stop()
            raise

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
    ) -> SyncClient:
        """See `Client.options`."""
        client = self._client.options(
            if_running=if_running,
            if_closed=if_closed,
            delay=delay,
            start_at=start_at,
            timeout=timeout,
            attributes=attributes,
            memo=memo,
            request_id=request_id,
        )
        return SyncClient(client, self._thread)

    def start(self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[S, R]:
        """See `Client.start`."""
        return SyncHandle(self._thread.wait(self._client.start(id, run, *args, **kwargs)), self._thread)

    def execute(self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Client.execute`."""
        return self._thread.wait(self._client.execute(id, run, *args, **kwargs))

    def with_start(
        self, id: str, run: RunRef[S, P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncHandle[S, R]:
        """See `Client.with_start`."""
        return SyncHandle(self._client.with_start(id, run, *args, **kwargs), self._thread)

    @overload
    def submit(
        self, id: str, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncHandle[None, R]: ...
    @overload
    def submit(
        self, activity: Callable[[Unpack[Ts]], Coroutine[object, None, R]], /, *args: *Ts, id: str
    ) -> SyncHandle[None, R]: ...
    @overload
    def submit(
        self, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncHandle[None, R]: ...
    def submit(  # type: ignore[misc]
        self, first: Any, /, *args: Any, id: str = "", **kwargs: Any
    ) -> SyncHandle[None, Any]:
        """See `Client.submit`."""
        return SyncHandle(self._thread.wait(self._client.submit(first, *args, id=id, **kwargs)), self._thread)

    @overload
    def run(self, id: str, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(
        self, activity: Callable[[Unpack[Ts]], Coroutine[object, None, R]], /, *args: *Ts, id: str
    ) -> R: ...
    @overload
    def run(self, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, first: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """See `Client.run`."""
        return self._thread.wait(self._client.run(first, *args, **kwargs))

    def submit_by_name(
        self,
        activity: str,
        args: Sequence[object] = (),
        *,
        id: str = "",
        options: ActivityOptions | None = None,
    ) -> SyncHandle[None, Any]:
        """See `Client.submit_by_name`."""
        return SyncHandle(
            self._thread.wait(self._client.submit_by_name(activity, args, id=id, options=options)),
            self._thread,
        )

    def schedule(
        self,
        id: str,
        run: RunRef[Any, Any, Any] | str,
        /,
        *args: Any,
        cron: str = "",
        every: Duration | None = None,
        timezone: str = "UTC",
        exclude: Iterable[date | str] = (),
        jitter: Duration | None = None,
        overlap: Overlap = "skip",
        catch_up: Duration = "1 hour",
        timeout: Duration | None = None,
        paused: bool = False,
        note: str = "",
    ) -> SyncScheduleHandle:
        """See `Client.schedule`."""
        created = self._client.schedule(
            id,
            run,
            *args,
            cron=cron,
            every=every,
            timezone=timezone,
            exclude=exclude,
            jitter=jitter,
            overlap=overlap,
            catch_up=catch_up,
            timeout=timeout,
            paused=paused,
            note=note,
        )
        return SyncScheduleHandle(self._thread.wait(created), self._thread)

    def create_schedule(
        self, id: str, spec: Spec, *, paused: bool = False, note: str = ""
    ) -> SyncScheduleHandle:
        """See `Client.create_schedule`."""
        created = self._client.create_schedule(id, spec, paused=paused, note=note)
        return SyncScheduleHandle(self._thread.wait(created), self._thread)

    def get_schedule(self, id: str, /) -> SyncScheduleHandle:
        """See `Client.get_schedule`."""
        return SyncScheduleHandle(self._client.get_schedule(id), self._thread)

    def list_schedules(self) -> Sequence[ScheduleDescription]:
        """See `Client.list_schedules`."""
        return self._thread.wait(self._client.list_schedules())

    def get(self, id: str, run: RunRef[S, P, R], /) -> SyncHandle[S, R]:
        """See `Client.get`."""
        return SyncHandle(self._client.get(id, run), self._thread)

    def start_by_name(self, id: str, type: str, args: Sequence[object] = ()) -> SyncHandle[Any, Any]:
        """See `Client.start_by_name`."""
        return SyncHandle(self._thread.wait(self._client.start_by_name(id, type, args)), self._thread)

    def get_by_name(self, id: str) -> SyncHandle[Any, Any]:
        """See `Client.get_by_name`."""
        return SyncHandle(self._client.get_by_name(id), self._thread)

    def resolve(self, text: str, value: object = None, /) -> None:
        """See `Client.resolve`."""
        self._thread.wait(self._client.resolve(text, value))

    def fail(self, text: str, error: BaseException | str, /) -> None:
        """See `Client.fail`."""
        self._thread.wait(self._client.fail(text, error))

    def state(
        self, id: str, *, after: Position | str | None = None, within: Duration = "10s"
    ) -> WorkflowState:
        """See `Client.state`."""
        return self._thread.wait(self._client.state(id, after=after, within=within))

    def position(self, id: str) -> Position:
        """See `Client.position`."""
        return self._thread.wait(self._client.position(id))

    def describe(self, id: str) -> Description:
        """See `Client.describe`."""
        return self._thread.wait(self._client.describe(id))

    def history(self, id: str, run_id: str = "") -> list[EventRecord]:
        """See `Client.history`."""
        return self._thread.wait(self._client.history(id, run_id))

    def counts(
        self,
        *,
        type: str | Sequence[str] | None = None,
        status: Status | str | Sequence[Status | str] | None = None,
    ) -> dict[tuple[str, str], int]:
        """See `Client.counts`."""
        return self._thread.wait(self._client.counts(type=type, status=status))

    def decode_view(self, state: WorkflowState, annotation: Any = Any) -> Any:
        """See `Client.decode_view`."""
        return self._client.decode_view(state, annotation)

    def close(self) -> None:
        """See `Client.close`."""
        if self._thread.is_running:
            self._thread.wait(self._client.close())
            self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # last, since inside the class body its name hides the builtin
    def list(self, query: ListQuery | None = None, /, **options: Unpack[ListOptions]) -> list[WorkflowState]:
        """See `Client.list`."""
        return self._thread.wait(self._client.list(query, **options))


async def _connect(url: str, app: App, token: Token | None) -> Client:
    from perdure.client.client import Client

    return await Client.connect(url, token=token, app=app)


async def _next(views: Any, end: Any) -> Any:
    return await anext(views, end)
