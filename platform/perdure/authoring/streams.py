"""Streams, as workflow code and activities use them: values for readers while the run runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.authoring.attempt import current_attempt
from perdure.errors import UsageError
from perdure.model.limits import fault_of_id
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Stream(Generic[T]):
    """A stream that is written to.

    Attributes:
        name: readers ask for it by this name.
    """

    __slots__ = ("_write", "name")

    def __init__(self, name: str, write: Callable[[Any], None]) -> None:
        self.name = name
        self._write = write

    def write(self, value: T, /) -> None:
        """Write a value. It returns immediately.

        Raises:
            UsageError: the code only reads, or writes too much in one activation.
            PayloadError: the value cannot be encoded, or is larger than 1 MiB.
        """
        self._write(value)

    def __repr__(self) -> str:
        return f"<stream {self.name}>"


@overload
def workflow_stream(name: str, type: type[T], /) -> Stream[T]: ...
@overload
def workflow_stream(name: str, type: Any = ..., /) -> Stream[Any]: ...
def workflow_stream(name: str, type: Any = Any, /) -> Stream[Any]:
    """A stream of the run, for readers outside: `handle.stream(name, type)`, or server-sent events.

        out = workflow.stream("answer", Delta)
        out.write(Delta("Hello"))

    A value is written exactly once, together with what else the code does then, and it is not in
    the history: it costs a run nothing to write many, and it can be read for a day.

    Args:
        name: 1 to 255 bytes.
        type: of the values; JSON values by default.

    Raises:
        UsageError: this is not workflow code, it only reads, or the name is invalid.
    """
    runtime = current()
    if runtime is None:
        raise misuse(
            "workflow.stream is for workflow code; no run is being executed here. In an activity or step use "
            "activity.stream."
        )
    if runtime.is_read_only:
        raise misuse("workflow.stream is called in a query, a view or a condition. Those may only read.")
    if fault := fault_of_id(name, "name of a stream"):
        raise misuse(f"workflow.stream: {fault}.")
    streams = runtime.streams
    return Stream(name, lambda value: streams.write(name, type, value))


@overload
def activity_stream(name: str, type: type[T], /) -> Stream[T]: ...
@overload
def activity_stream(name: str, type: Any = ..., /) -> Stream[Any]: ...
def activity_stream(name: str, type: Any = Any, /) -> Stream[Any]:
    """Open a stream of the run in an activity or a step. These may run more than once, so each
    value names its attempt. Values of an attempt that another one has replaced are dropped.

    Outside of an attempt, as in a test, values are discarded.

    Args:
        name: 1 to 255 bytes.
        type: of the values; JSON values by default.

    Raises:
        UsageError: this is workflow code, or the name is invalid.
    """
    if current() is not None:
        raise misuse("activity.stream is for activities and steps; in workflow code use workflow.stream.")
    if fault := fault_of_id(name, "name of a stream"):
        raise UsageError(f"activity.stream: {fault}.")
    attempt = current_attempt()
    if attempt is None or attempt.open_stream is None:
        return Stream(name, lambda _: None)
    return Stream(name, attempt.open_stream(attempt, name, type))
