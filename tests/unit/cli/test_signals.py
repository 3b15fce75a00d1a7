"""What a signal does at whatever place it finds the main thread."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from perdure.cli.lifecycle import processes
from perdure.cli.lifecycle.signals import on_signals, stop_on_signal
from perdure.runtime.interrupts import interrupt_as_stop

THREADING = threading.__file__
WAIT_S = 20.0


@pytest.fixture(autouse=True)
def handlers() -> Generator[None]:
    """The handlers of before are back after each test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def by_command(handle: Callable[[], None]) -> Generator[None]:
    stop_on_signal(handle)
    yield


@contextmanager
def by_several(handle: Callable[[], None]) -> Generator[None]:
    on_signals(lambda _: handle())
    yield


@contextmanager
def by_a_program_of_yours(handle: Callable[[], None]) -> Generator[None]:
    with pytest.raises(KeyboardInterrupt), interrupt_as_stop(handle):
        yield


INSTALLED = pytest.mark.parametrize("installed", [by_command, by_several, by_a_program_of_yours])
Installed = Callable[[Callable[[], None]], AbstractContextManager[None]]


@INSTALLED
def test_a_handler_enters_no_lock_so_the_main_thread_may_hold_any(installed: Installed) -> None:
    stopped = threading.Event()
    entered: list[str] = []

    def seen(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == THREADING:
            entered.append(frame.f_code.co_qualname)

    with installed(stopped.set):
        sys.setprofile(seen)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            sys.setprofile(None)
        assert stopped.wait(WAIT_S), "the stop is asked for, on another thread"
    assert entered == []


@INSTALLED
def test_a_signal_stops_a_main_thread_that_holds_the_lock_of_the_event_that_is_set(
    installed: Installed,
) -> None:
    stopped = threading.Event()
    with installed(stopped.set):
        with stopped._cond:  # type: ignore[attr-defined]  # as inside stopped.wait()
            signal.raise_signal(signal.SIGINT)
        assert stopped.wait(WAIT_S)


def test_two_sigterms_stop_once() -> None:
    stops: list[int] = []
    stopped = threading.Event()

    def stop() -> None:
        stops.append(1)
        stopped.set()

    is_signalled = stop_on_signal(stop)
    assert not is_signalled()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert is_signalled()
    assert stopped.wait(WAIT_S)
    assert stops == [1]


def test_a_second_signal_kills_engines_that_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        """A process that takes its grace, and a signal in the meantime."""

        def __init__(self) -> None:
            self.got: list[int] = []
            self.killed = threading.Event()
            self.returncode: int | None = None

        def poll(self) -> int | None:
            if not self.got:
                signal.raise_signal(signal.SIGTERM)
            return self.returncode

        def send_signal(self, number: int) -> None:
            self.got.append(number)
            signal.raise_signal(signal.SIGINT)

        def kill(self) -> None:
            self.killed.set()

        def wait(self) -> None:
            assert self.killed.wait(WAIT_S)

    engine = Engine()

    def start(*_: Any, **__: Any) -> Engine:
        return engine

    monkeypatch.setattr("perdure.cli.lifecycle.processes.subprocess.Popen", start)
    monkeypatch.setattr(sys, "argv", ["perdure", "engine", str(Path("app.py"))])
    with pytest.raises(SystemExit):
        processes.run_several(1, "", None)
    assert signal.SIGTERM in engine.got
