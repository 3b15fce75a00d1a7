"""The attempt that is running: what an activity may ask about itself."""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Never, cast

from msgspec import Struct

from perdure.model import runtime
from perdure.model.tokens import of_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from perdure.model.tasks import Task


class Info(Struct, frozen=True):
    """Facts about an attempt.

    Attributes:
        workflow_id: whose activity it is.
        run_id: the same.
        activity: its name.
        attempt: from 1.
        idempotency_key: the same over all attempts.
        queue: whose worker runs it; empty for a step, and in a test.
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
        heartbeat: is given the details of each `activity.heartbeat`, on the thread of the activity.
        last_heartbeat: details that the attempt before left.
        is_cancelled: set to ask a plain function to stop; its next `activity.heartbeat` raises.
        is_waiting: it is there for the next activity that is called (`testing.attempt`).
        task: what was dispatched; None when nothing was.
        encode: the payload of a result, for activities that keep it themselves.
        is_later: the function has asked for a token: what it returns is not the result.
    """

    info: Info | None = None
    heartbeat: Callable[[tuple[object, ...]], None] = _unheard
    last_heartbeat: tuple[Any, ...] = ()
    is_cancelled: bool = False
    is_waiting: bool = False
    task: Task | None = None
    encode: Callable[[Any], bytes] | None = None
    is_later: bool = False


_current: Final[ContextVar[Attempt | None]] = ContextVar("perdure_attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt of this context, if any."""
    return _current.get()


@contextmanager
def running(attempt: Attempt) -> Generator[None]:
    """Code inside is part of this attempt; threads that are given the context, too
    (`asyncio.to_thread`).
    """
    token = _current.set(attempt)
    try:
        yield
    finally:
        _current.reset(token)


def info() -> Info:
    """Facts about the attempt that is running.

    Raises:
        UsageError: none is; in a test `with testing.attempt():` makes one.
    """
    attempt = _current.get()
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
    """Optional: progress for the UI, and for the next attempt (`last_heartbeat`).

    Args:
        details: JSON values.

    Raises:
        asyncio.CancelledError: the activity was asked to stop (an async function is cancelled where
            it waits).
        UsageError: called in workflow code; or, as a PayloadError, the details are over the limit.
    """
    attempt = _current.get()
    if attempt is None:
        if runtime.current() is not None:
            raise runtime.misuse("activity.heartbeat is for activities; this is workflow code.")
        return
    if attempt.is_cancelled:
        raise CancelledError("the activity was asked to stop")
    attempt.heartbeat(details)


def last_heartbeat() -> tuple[Any, ...]:
    """The details of the last heartbeat of the attempt before; empty when there was none."""
    attempt = _current.get()
    return () if attempt is None else attempt.last_heartbeat


class Later:
    """The token of an attempt, from `complete_later`.

    Attributes:
        text: for those who are to answer. It is a secret.
        result: what the function returns then. It does not count; type checkers take it for a value
            of any type.
    """

    __slots__ = ("result", "text")

    result: Never

    def __init__(self, text: str) -> None:
        self.text = text
        self.result = cast("Never", None)


def complete_later(*, public: bool = False) -> Later:
    """Let somebody else give the result: anyone who has the text, by `client.resolve` or
    `client.fail`, HTTP, `perdure token`, or a record.

        @activity.defn(timeout="3 days")
        async def approve(order_id: str) -> Approval:
            later = activity.complete_later()
            await send_mail(order_id, later.text)
            return later.result

    The attempt stays open when the function has returned, for as long as its `timeout` says; what
    the function returns does not count. If the function raises, the attempt has failed, and the
    next one has another text.

    Args:
        public: the text is enough to answer over HTTP, without an API key.

    Raises:
        UsageError: no attempt is running here.
    """
    attempt = _current.get()
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
