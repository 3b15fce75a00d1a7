"""The port between workflow code and the replay loop."""

from __future__ import annotations

from asyncio.events import _get_running_loop  # the one asyncio needs itself; never raises, 30 ns
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from perdure.errors import UsageError
from perdure.model.commands import IfClosed
from perdure.model.source import calling_place

OnClose = Literal["cancel", "terminate", "abandon"]

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random
    from types import FrameType
    from uuid import UUID

    from perdure.model.dead_letters import RecordHeader
    from perdure.model.info import Info
    from perdure.model.options import ActivityOptions
    from perdure.model.payloads import AvroSchema


class ActivitySpec(Protocol):
    """An activity as a run knows it.

    Attributes:
        name: workers know it by.
        fn: whose signature the arguments fit.
        returns: the annotation of its result.
    """

    @property
    def name(self) -> str: ...
    @property
    def fn(self) -> Callable[..., Any]: ...
    @property
    def returns(self) -> Any: ...


class WorkflowSpec(Protocol):
    """A workflow type as a run knows it.

    Attributes:
        name: of the type.
        run_fn: whose signature the arguments fit.
        returns: the annotation of its result.
    """

    @property
    def name(self) -> str: ...
    @property
    def run_fn(self) -> Callable[..., Any]: ...
    @property
    def returns(self) -> Any: ...


class ChildOptions(NamedTuple):
    """How a child is started.

    Attributes:
        on_close: what becomes of it when the run closes.
        if_closed: what to do when a run with its id has ended.
        timeout_us: of the whole child, microseconds; 0: none.
    """

    on_close: OnClose = "cancel"
    if_closed: IfClosed = "start"
    timeout_us: int = 0


class Child:
    """A child as its parent's code sees it.

    Attributes:
        number: counts the run's children, from 1.
        workflow: its type.
        workflow_id: its address.
        on_close: as of `ChildOptions`.
        started: done when it has started, or was refused.
        ended: its result.
    """

    __slots__ = ("ended", "number", "on_close", "started", "workflow", "workflow_id")

    def __init__(
        self,
        number: int,
        workflow: WorkflowSpec,
        workflow_id: str,
        *,
        on_close: OnClose,
        started: Future[Any],
        ended: Future[Any],
    ) -> None:
        self.number = number
        self.workflow = workflow
        self.workflow_id = workflow_id
        self.on_close = on_close
        self.started = started
        self.ended = ended


class IssuedToken(NamedTuple):
    """A token as the code of its run sees it.

    Attributes:
        number: counts the run's tokens, from 1.
        text: for those who are to answer (`model.tokens`).
        answer: the value.
    """

    number: int
    text: str
    answer: Future[Any]


class ContinueAsNew(BaseException):
    """Ends the run, which another one continues; no `except Exception` stops it.

    Attributes:
        input: the arguments of the other run.
    """

    def __init__(self, input: bytes) -> None:
        super().__init__("the run continues as new")
        self.input = input


class WorkflowLoop:
    """The running event loop of a run is one of these; `replay.RunLoop` is the only implementation.

    Attributes:
        runtime: what the code of the run may ask.
    """

    __slots__ = ()

    runtime: WorkflowRuntime


class WorkflowRuntime:
    """The runtime of workflow code; `replay.RunRuntime` is the only implementation."""

    __slots__ = ()

    @property
    def is_read_only(self) -> bool:
        """True while a query, a view, a validator or a condition is evaluated: nothing may be
        scheduled.
        """
        raise NotImplementedError

    records: int
    """Number of records the run has produced."""
    definition: Any
    """Of the run's type."""
    patches: Any
    """Of its code; `is_applied(id)` says whether it takes the new branch."""
    tokens: Any
    """That it has issued; `issue(annotation, timeout_us, is_public=)` issues another, an
    `IssuedToken`."""
    main: Any
    """The task of the run itself."""
    handlers: Any
    """Of its signals; `are_finished` says whether none is under way."""
    uses: dict[str, int]
    """How often each name of an inline step was used."""

    def suspend_for(self, error: BaseException) -> None:
        """Suspend the run when this activation ends, whatever the code makes of the error that is
        raised to it.
        """
        raise NotImplementedError

    def misuse(self, error: UsageError) -> UsageError:
        """A UsageError that names the source line; the run is also suspended for it."""
        return type(error)(f"{calling_place()}: {error}")

    def unawaited(self, what: str, name: str, frame: FrameType) -> bool:
        """Suspend the run if its code drops something that it should have awaited.

        Args:
            what: it is, for the message.
            name: of the function that was called for it.
            frame: that drops it.

        Returns:
            Whether there is nothing to warn of: the run is suspended for it, or is no more. False:
                an exception drops it, or it was created elsewhere.
        """
        return False

    def schedule_activity(
        self,
        activity: ActivitySpec,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ActivityOptions,
    ) -> Awaitable[Any]:
        """Schedule it now; the future of its result.

        Raises:
            UsageError: the loop is read only, or the arguments cannot be encoded.
        """
        raise NotImplementedError

    def start_child(
        self,
        workflow: WorkflowSpec,
        workflow_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ChildOptions,
    ) -> Child:
        """Start another workflow as a child of the run.

        Raises:
            UsageError: the loop is read only, or the arguments cannot be encoded.
        """
        raise NotImplementedError

    def cancel_child(self, child: Child) -> bool:
        """Ask a child to stop; whether its end is still to come."""
        raise NotImplementedError

    def send_message(
        self, what: str, workflow_id: str, name: str, payload: bytes, workflow: WorkflowSpec | None
    ) -> Awaitable[Any]:
        """Send a message to another workflow.

        Args:
            what: as of `model.events.MessageSent`.
            workflow_id: whom it is for.
            name: of the signal; or the reason of a cancellation.
            payload: the arguments of a signal.
            workflow: whose result the answer is, if it is one.

        Returns:
            The future of the answer.

        Raises:
            UsageError: the loop is read only.
        """
        raise NotImplementedError

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
    ) -> bytes:
        """The payload of a call.

        Raises:
            UsageError: they do not fit the function, or cannot be encoded.
        """
        raise NotImplementedError

    def wait_until(self, condition: Callable[[], Any], timeout_us: int | None) -> Awaitable[Any]:
        """A coroutine of what the condition returned once truthy; of its last falsy value when
        `timeout_us` has passed.
        """
        raise NotImplementedError

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: object,
        headers: list[RecordHeader],
        avro: AvroSchema | None,
    ) -> None:
        """Write a record to one of your topics, in the transaction that records it.

        Args:
            topic: its name.
            key: of the record.
            value: to be encoded.
            headers: of the record; one is added, of the content's type.
            avro: encode it by this schema; None: JSON.

        Raises:
            UsageError: the loop is read only, or the value cannot be encoded.
        """
        raise NotImplementedError

    def info(self) -> Info:
        """Facts about the run."""
        raise NotImplementedError

    def now_us(self) -> int:
        """The time of the event that is being handled, microseconds since 1970."""
        raise NotImplementedError

    def uuid4(self) -> UUID:
        """From the run's own stream of random numbers."""
        raise NotImplementedError

    def random(self) -> Random:
        """The run's own stream of random numbers."""
        raise NotImplementedError

    def is_replaying(self) -> bool:
        """Whether recorded events are being repeated: loggers are silent then."""
        raise NotImplementedError


def misuse(message: str) -> UsageError:
    """A UsageError for a wrong call, to be raised; in workflow code it suspends the run, even if it
    is caught.

    Args:
        message: what is wrong and what to do; your line is put before it.
    """
    runtime = current()
    return (
        UsageError(f"{calling_place()}: {message}")
        if runtime is None
        else runtime.misuse(UsageError(message))
    )


def current() -> WorkflowRuntime | None:
    """The run that this thread is executing the code of, or None outside workflow code."""
    loop: Any = _get_running_loop()
    return loop.runtime if isinstance(loop, WorkflowLoop) else None
