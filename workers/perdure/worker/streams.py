"""Sends the values that attempts write to streams to the engine."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from perdure.authoring.attempt import outlet
from perdure.model.commands import WriteStream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from perdure.activity import Attempt
    from perdure.model.commands import AnyCommand
    from perdure.model.payloads import Payloads
    from perdure.model.tasks import Task


GATHER_S: Final = 0.005
"""Values within this time go in one command."""
GATHERED: Final = 500
GATHERED_BYTES: Final = 256 * 1024
"""More are sent immediately."""


class AttemptStreams:
    """The streams of one attempt. Any thread may write.

    Args:
        task: of the attempt.
        payloads: encodes values.
        submit: takes commands, from any thread.
        loop: on which they are sent a little later.
    """

    __slots__ = ("_counts", "_is_due", "_lock", "_loop", "_payloads", "_size", "_submit", "_task", "_waiting")

    def __init__(
        self,
        task: Task,
        payloads: Payloads,
        submit: Callable[[Sequence[AnyCommand]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._task = task
        self._payloads = payloads
        self._submit = submit
        self._loop = loop
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, list[bytes]] = {}
        self._size = 0
        self._is_due = False

    def open(self, name: str, annotation: Any) -> Callable[[Any], None]:
        """Return the function that writes a value to the stream of this name."""

        def write(value: Any) -> None:
            payload = self._payloads.encode(value, annotation, what=f"the value for stream {name!r}")
            with self._lock:
                self._waiting.setdefault(name, []).append(payload)
                self._size += len(payload)
                is_full = self._size >= GATHERED_BYTES or len(self._waiting[name]) >= GATHERED
                is_first, self._is_due = not self._is_due, True
            if is_first:
                self._loop.call_soon_threadsafe(self._loop.call_later, GATHER_S, self._later)
            if is_full:
                self.flush()

        return write

    def _later(self) -> None:
        with self._lock:
            self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Send what waits; before the attempt reports."""
        with self._lock:  # also around the submit: the order is that of the numbers
            waiting, self._waiting = self._waiting, {}
            self._size = 0
            commands: list[AnyCommand] = []
            for name, values in waiting.items():
                first = self._counts.get(name, 0) + 1
                self._counts[name] = first + len(values) - 1
                task = self._task
                commands.append(
                    WriteStream(
                        task.workflow_id,
                        task.run_id,
                        number=task.number,
                        token=task.token,
                        name=name,
                        first=first,
                        values=tuple(values),
                    )
                )
            if commands:
                self._submit(commands)


def opener(
    payloads: Payloads, loop: Callable[[], asyncio.AbstractEventLoop]
) -> Callable[[Attempt, str, Any], Callable[[Any], None]]:
    """Return the function that opens streams of attempts, made once for all of them; an attempt
    that opens none costs nothing.

    Args:
        payloads: encodes values.
        loop: returns the loop that the attempts run on.
    """

    def opened(attempt: Attempt, name: str, annotation: Any) -> Callable[[Any], None]:
        if attempt.streams is None:
            task, here = attempt.task, outlet.get()
            if task is None or here is None:  # nobody takes commands here
                return lambda _: None
            attempt.streams = AttemptStreams(task, payloads, here.submit, loop())
        write: Callable[[Any], None] = attempt.streams.open(name, annotation)
        return write

    return opened
