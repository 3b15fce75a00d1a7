"""The port between workflow code and the replay loop."""

from __future__ import annotations

from asyncio.events import (
    _get_running_loop,
)  # the function that asyncio uses itself; never raises, takes 30 ns
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

    from perdure.model.actions import Action, AnyAction
    from perdure.model.dead_letters import RecordHeader
    from perdure.model.events import Event
    from perdure.model.info import Info
    from perdure.model.options import ActivityOptions
    from perdure.model.payloads import AvroSchema

    Settle = Callable[[Future[Any], Any], object]
    """(future, event): gives the future of an action the value or the exception that the event
    stands for. The future may be done: the wait was cancelled."""


class ActivitySpec(Protocol):
    """An activity as a run knows it.

    Attributes:
        name: its name for workers.
        fn: the function whose signature the arguments fit.
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
        name: the type's name.
        run_fn: the function whose signature the arguments fit.
        returns: the annotation of its result.
    """

    @property
    def name(self) -> str: ...
    @property
    def run_fn(self) -> Callable[..., Any]: ...
    @property
    def returns(self) -> Any: ...


class ChildOptions(NamedTuple):
    """Options of a child's start.

    Attributes:
        on_close: what happens to it when the run closes.
        if_closed: what to do when the id belongs to a run that has ended.
        timeout_us: the longest that the child may run, microseconds; 0: no limit.
        start_at: when its code begins, microseconds since 1970; 0: immediately.
        summary: one line for people.
        memo: facts that the child keeps, by name; None: it has no memo.
    """

    on_close: OnClose = "cancel"
    if_closed: IfClosed = "start"
    timeout_us: int = 0
    start_at: int = 0
    summary: str = ""
    memo: Mapping[str, Any] | None = None


class Child:
    """A child as its parent's code sees it.

    Attributes:
        number: counts the run's children, from 1.
        workflow: its type.
        workflow_id: its address.
        on_close: as of `ChildOptions`.
        started: the future that is done when it has started, or was refused.
        ended: the future of its result.
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
        text: for those who can answer (`model.tokens`).
        answer: the future of its value.
        taken: called when the code gets the answer; None: it is not needed.
        is_new: whether this call has issued it; false: it was there under its name.
    """

    number: int
    text: str
    answer: Future[Any]
    taken: Callable[[], None] | None = None
    is_new: bool = True


class ContinueAsNew(BaseException):
    """Ends the run, which another one continues. It is not an `Exception`, so `except Exception`
    does not catch it.

    Attributes:
        input: the arguments of the next run.
    """

    def __init__(self, input: bytes) -> None:
        super().__init__("the run continues as new")
        self.input = input


class WorkflowLoop:
    """The running event loop of a run is one of these; `replay.RunLoop` is the only implementation.

    Attributes:
        runtime: the services for the run's code.
        summary: of the timers that are started now, one line for people; empty: they have none.
    """

    __slots__ = ()

    runtime: WorkflowRuntime
    summary: str


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
    """The definition of the run's type."""
    patches: Any
    """The patches of the code; `is_applied(id)` says whether the run takes the new branch."""
    streams: Any
    """The run's streams; `write(name, annotation, value)` writes to one."""
    tokens: Any
    """The run's tokens; `issue(annotation, timeout_us, is_public=, name=)` returns one, an
    `IssuedToken`."""
    compensations: Any
    """Of its sagas; `next` numbers one, and `retry`, `complete` and `fail` say what becomes of
    it."""
    main: Any
    """The task of the run itself."""
    notes: Any
    """Facts of the run for people: `memo()` returns its memo, `memo_value(name, annotation)` one
    value of it; `details` is the text about the run, and `set_details(text)` sets it."""
    handlers: Any
    """The running handlers; `are_finished` says whether there are none."""
    uses: dict[str, int]
    """The number of uses of each inline step's name."""

    def suspend_for(self, error: BaseException) -> None:
        """Suspend the run when this activation ends, even if the code swallows the error."""
        raise NotImplementedError

    def misuse(self, error: UsageError) -> UsageError:
        """Make a UsageError that names the source line; it also suspends the run."""
        return type(error)(f"{calling_place()}: {error}")

    def unawaited(self, what: str, name: str, frame: FrameType) -> bool:
        """Suspend the run if its code drops something that it should have awaited.

        Args:
            what: describes the dropped value in the message.
            name: the function that returned it.
            frame: the frame that drops it.

        Returns:
            Whether no warning is needed: the run is suspended because of it, or was evicted. False:
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
        """Schedule an activity, and return the future of its result.

        Raises:
            UsageError: the loop is read only, or the arguments cannot be encoded.
        """
        raise NotImplementedError

    def ask(
        self,
        what: str,
        action: type[AnyAction],
        *fields: Any,
        answer: type[Event],
        settle: Settle,
        cancel: type[Action] | None = None,
    ) -> Awaitable[Any]:
        """Ask for an action that one event answers later.

        Args:
            what: says what the code does, for a message: "send a message to a workflow".
            action: its class; its first field is a number, which counts the run's actions of this
                class from 1.
            fields: its other fields.
            answer: the class of the event, which has the same number.
            settle: ends the future.
            cancel: the class of the action that is asked for when the wait is cancelled; its only
                field is the number. None: the end of the wait asks for nothing.

        Returns:
            The future of the answer.

        Raises:
            UsageError: the loop is read only.
        """
        raise NotImplementedError

    def set_attributes(self, values: bytes) -> None:
        """Set attributes of the run.

        Args:
            values: JSON of an object: those that change; null removes one.

        Raises:
            UsageError: the loop is read only, or the attributes are over their limit.
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
        """Ask a child to stop; return whether it is still open."""
        raise NotImplementedError

    def send_message(
        self, what: str, workflow_id: str, name: str, payload: bytes, workflow: WorkflowSpec | None
    ) -> Awaitable[Any]:
        """Send a message to another workflow.

        Args:
            what: as of `model.events.MessageSent`.
            workflow_id: the addressed workflow.
            name: the signal's name, or the reason of a cancellation.
            payload: the arguments of a signal.
            workflow: the type whose result the answer is, if it is one.

        Returns:
            The future of the answer.

        Raises:
            UsageError: the loop is read only.
        """
        raise NotImplementedError

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
    ) -> bytes:
        """Encode the arguments of a call.

        Raises:
            UsageError: the arguments do not fit the function, or cannot be encoded.
        """
        raise NotImplementedError

    def wait_until(self, condition: Callable[[], Any], timeout_us: int | None) -> Awaitable[Any]:
        """Return a coroutine that waits for the condition. Its result is the first truthy value, or
        the last falsy one when `timeout_us` has passed.
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
            key: the record's key.
            value: the value to encode.
            headers: the record's headers; a content type is added.
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
        """A UUID from the run's own stream of random numbers."""
        raise NotImplementedError

    def random(self) -> Random:
        """The run's own stream of random numbers."""
        raise NotImplementedError

    def is_replaying(self) -> bool:
        """Whether recorded events are being replayed; loggers are silent then."""
        raise NotImplementedError


def misuse(message: str) -> UsageError:
    """Make a UsageError for a wrong call, for the caller to raise. In workflow code it suspends the
    run, even if it is caught.

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
    """The runtime of the run whose code this thread executes; None outside workflow code."""
    loop: Any = _get_running_loop()
    return loop.runtime if isinstance(loop, WorkflowLoop) else None
