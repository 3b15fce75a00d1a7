"""Watches the threads and loops that a process depends on.

Every thread of perdure is a `WatchedThread`: it ends when it is asked to, and then by returning.
One that raises has died. Its work is not done any more, so the process is not live; the command
line ends it with a message. Tasks that must continue for ever are watched by `watch_task`, loops
that may be blocked by a `Pulse`. `observability.health` reads all of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Protocol

_logger: Final = logging.getLogger("perdure.process")
_NO_ARGUMENTS: Final[Mapping[str, Any]] = MappingProxyType({})
_lock: Final = threading.Lock()
_dead: Final[dict[str, str]] = {}
_listeners: Final[list[Callable[[str], None]]] = []
_pulses: Final[list[Pulse]] = []


class Pulse(Protocol):
    """A loop that may hang."""

    @property
    def name(self) -> str:
        """The name of the loop."""
        ...

    @property
    def silent_s(self) -> float:
        """How long the loop has been overdue, seconds."""
        ...

    @property
    def trouble(self) -> str:
        """The current trouble, as text; empty: none."""
        ...


class WatchedThread(threading.Thread):
    """A daemon thread that ends only when it is asked to.

    Args:
        target: returns when it was asked to end. If it raises, the thread has died.
        name: for people; begins with "perdure-".
        args: of the target.
        kwargs: of the target.
    """

    def __init__(
        self,
        target: Callable[..., object],
        name: str,
        args: Sequence[Any] = (),
        *,
        kwargs: Mapping[str, Any] = _NO_ARGUMENTS,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = target
        self._work_args = args
        self._work_kwargs = kwargs

    def run(self) -> None:
        """Call the target."""
        try:
            self._work(*self._work_args, **self._work_kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: nobody else would notice
            died(f"thread {self.name}", error)
        finally:
            del self._work, self._work_args, self._work_kwargs


def watch_task(task: asyncio.Task[Any], name: str) -> None:
    """A task that ends only when it is cancelled.

    Args:
        task: it has died when it raises.
        name: for people.
    """

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            died(f"task {name}", error)

    task.add_done_callback(ended)


def died(name: str, error: BaseException) -> None:
    """Note that a thread or task that the process depends on has died.

    Args:
        name: of the thread or task.
        error: what ended it.
    """
    message = f"{name} has died of {type(error).__name__}: {error}"
    with _lock:
        _dead[name] = message
        listeners = list(_listeners)
    _logger.critical("%s; its work has stopped", message, exc_info=error)
    for listener in listeners:
        listener(message)


def dead() -> list[str]:
    """The threads and tasks that died, as text."""
    with _lock:
        return list(_dead.values())


def pulses() -> list[Pulse]:
    """The loops that are watched now."""
    with _lock:
        return list(_pulses)


def add_pulse(pulse: Pulse) -> None:
    """Watch a loop."""
    with _lock:
        _pulses.append(pulse)


def remove_pulse(pulse: Pulse) -> None:
    """Stop watching. Idempotent."""
    with _lock, suppress(ValueError):
        _pulses.remove(pulse)


def listen(listener: Callable[[str], None]) -> None:
    """Call a function with a message whenever something dies; on the thread that dies."""
    with _lock:
        _listeners.append(listener)


def forget() -> None:
    """Forget what has died and who listens: for tests."""
    with _lock:
        _dead.clear()
        _listeners.clear()
