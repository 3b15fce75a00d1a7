"""The current attempt, and what an activity can learn about itself."""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Never, Protocol, cast

from msgspec import Struct

from perdure.model import runtime
from perdure.model.tokens import of_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from perdure.model.commands import AnyCommand
    from perdure.model.tasks import Task


class Info(Struct, frozen=True):
    """Facts about an attempt.

    Attributes:
        workflow_id: the workflow that called the activity.
        run_id: its run.
        activity: the name of the activity.
        attempt: from 1.
        idempotency_key: the same for all attempts.
        queue: the task queue; empty for a step, and in a test.
        workflow_type: the name of the workflow's type; empty in a test.
        scheduled_us: when the activity was scheduled, microseconds since 1970; 0 in a test.
    """

    workflow_id: str
    run_id: str
    activity: str
    attempt: int
    idempotency_key: str
    queue: str = ""
    workflow_type: str = ""
    scheduled_us: int = 0

    @property
    def scheduled_at(self) -> datetime:
        """When the activity was scheduled, in UTC; the same for all attempts."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.scheduled_us)


def _unheard(_details: tuple[object, ...]) -> None:
    """Ignore heartbeats of a function that is called directly."""


class Attempt(Struct, eq=False):
    """One try of an activity, as seen by its runner: the worker, the engine (a step), a test.

    Attributes:
        info: None when the function was simply called.
        heartbeat: called with the details of each `activity.heartbeat`, on the activity's thread.
        last_heartbeat: the details that the previous attempt sent last.
        is_cancelled: set to ask a plain function to stop; its next `activity.heartbeat` raises.
        is_waiting: reserved for the next activity that the test calls (`testing.attempt`).
        task: the dispatched task; None outside a worker or engine.
        open_stream: opens a stream to write to, given this attempt, the stream's name and the type
            of its values; None outside a worker or engine.
        streams: the open streams; None when none was opened.
        encode: the payload of a result, for activities that keep it themselves.
        is_later: the function called `complete_later`, so its return value is not the result.
    """

    info: Info | None = None
    heartbeat: Callable[[tuple[object, ...]], None] = _unheard
    last_heartbeat: tuple[Any, ...] = ()
    is_cancelled: bool = False
    is_waiting: bool = False
    task: Task | None = None
    encode: Callable[[Any], bytes] | None = None
    open_stream: Callable[[Attempt, str, Any], Callable[[Any], None]] | None = None
    streams: Any = None
    is_later: bool = False


class Clients(Protocol):
    """Gives attempts the client of their process."""

    def of_async(self) -> Any:
        """For code on the loop of the attempts."""
        ...

    def of_sync(self) -> Any:
        """For code in a thread."""
        ...


class Outlet(Struct, eq=False):
    """The way out of the attempts of one worker, or of the steps of one engine.

    Attributes:
        submit: takes commands, from any thread.
        clients: of the process; None where it has none.
    """

    submit: Callable[[Sequence[AnyCommand]], None]
    clients: Clients | None = None


outlet: Final[ContextVar[Outlet | None]] = ContextVar("perdure_outlet", default=None)
"""Of the attempts that run in this context."""
current: Final[ContextVar[Attempt | None]] = ContextVar("perdure_attempt", default=None)
"""The attempt that is running in this context."""


def current_attempt() -> Attempt | None:
    """The attempt of this context, if any."""
    return current.get()


@contextmanager
def running(attempt: Attempt) -> Generator[None]:
    """Make this the current attempt of the code inside, and of threads that get its context
    (`asyncio.to_thread`).
    """
    token = current.set(attempt)
    try:
        yield
    finally:
        current.reset(token)


def info() -> Info:
    """Facts about the attempt that is running.

    Raises:
        UsageError: no attempt is running; in a test, `with testing.attempt():` makes one.
    """
    attempt = current.get()
    if attempt is None or attempt.info is None:
        raise runtime.misuse(
            "no activity attempt is running here. "
            "Call this in the body of an activity; in a test, inside `with testing.attempt():`."
        )
    return attempt.info


def idempotency_key() -> str:
    """`info().idempotency_key`: call it in the body, never as a default argument."""
    return info().idempotency_key


def heartbeat(*details: object) -> None:
    """Report progress to the UI and to the next attempt (`last_heartbeat`). Optional: the worker
    keeps the lease without it.

    Args:
        details: JSON values.

    Raises:
        asyncio.CancelledError: the activity was asked to stop (an async function is cancelled where
            it waits).
        UsageError: called in workflow code; or, as a PayloadError, the details are over the limit.
    """
    attempt = current.get()
    if attempt is None:
        if runtime.current() is not None:
            raise runtime.misuse("activity.heartbeat is for activities; this is workflow code.")
        return
    if attempt.is_cancelled:
        raise CancelledError("the activity was asked to stop")
    attempt.heartbeat(details)


def clients_here(what: str) -> Clients:
    """The source of clients for the attempt of this context.

    Raises:
        UsageError: no attempt is running here, or nothing gives it a client.
    """
    attempt, here = current.get(), outlet.get()
    if runtime.current() is not None:
        raise runtime.misuse(
            f"{what} is for activities; this is workflow code: use workflow.execute, workflow.start and "
            "workflow.get."
        )
    if attempt is None or attempt.info is None:
        raise runtime.misuse(
            f"{what} is for the body of an activity, and no attempt is running here; elsewhere use "
            "Client.connect(url)."
        )
    if here is None or here.clients is None:
        raise runtime.misuse(
            f"{what}: this attempt was made by a test, and has no platform; run the activity in "
            "`testing.Environment`, or use `testing.attempt(client=env.client)`."
        )
    return here.clients


def last_heartbeat() -> tuple[Any, ...]:
    """The details that the previous attempt sent last; empty if there were none."""
    attempt = current.get()
    return () if attempt is None else attempt.last_heartbeat


class Later:
    """The token of an attempt, from `complete_later`.

    Attributes:
        text: send it to those who can answer. It is a secret.
        result: return it from the function. It is a placeholder that type checkers accept as a
            value of any type.
    """

    __slots__ = ("result", "text")

    result: Never

    def __init__(self, text: str) -> None:
        self.text = text
        self.result = cast("Never", None)


def complete_later(*, public: bool = False) -> Later:
    """Let the result come from outside: from anyone who has the token's text, by `client.resolve`
    or `client.fail`, HTTP, `perdure token`, or a record.

        @activity.defn(timeout="3 days")
        async def approve(order_id: str) -> Approval:
            later = activity.complete_later()
            await send_mail(order_id, later.text)
            return later.result

    After the function has returned, the attempt stays open for the rest of its `timeout`; the
    return value is ignored. If the function raises, the attempt fails, and the next attempt gets
    another text.

    Args:
        public: anyone with the text can answer over HTTP, without an API key.

    Raises:
        UsageError: no attempt is running here.
    """
    attempt = current.get()
    if attempt is None or attempt.info is None:
        raise runtime.misuse(
            "activity.complete_later is for the body of an activity, and no attempt is running here; in a "
            "test, call the activity inside `with testing.attempt():`."
        )
    attempt.is_later = True
    task = attempt.task
    if task is None:  # of a test: nothing waits for an answer
        info = attempt.info
        address = of_attempt(info.workflow_id or "test", info.run_id or "test", 1, "test", is_public=public)
    else:
        address = of_attempt(task.workflow_id, task.run_id, task.number, task.token, is_public=bool(public))
    return Later(address.text)
