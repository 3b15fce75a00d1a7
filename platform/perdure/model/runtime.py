"""The port between workflow code and the replay loop."""

from __future__ import annotations

from asyncio.events import _get_running_loop  # the one asyncio needs itself; never raises, 30 ns
from typing import TYPE_CHECKING, Any, Protocol

from perdure.errors import UsageError
from perdure.model.source import calling_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random
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

    def suspend_for(self, error: BaseException) -> None:
        """Suspend the run when this activation ends, whatever the code makes of the error that is
        raised to it.
        """
        raise NotImplementedError

    def misuse(self, error: UsageError) -> UsageError:
        """A UsageError that names the source line; the run is also suspended for it."""
        return type(error)(f"{calling_place()}: {error}")

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
