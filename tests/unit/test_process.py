"""The life of a process that serves: what is opened is drained within the grace that was given, and
closed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from perdure.errors import InfrastructureError
from perdure.runtime.process import GRACE_S, Process


class Engine:
    """Counts its batches."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes
        self.woken = threading.Event()

    def run_batch(self, timeout_s: float = 1.0) -> bool:
        self.notes.append(("batch", timeout_s))
        return self.woken.wait(timeout_s)


class Serving(Process):
    """Records the calls it gets, in order."""

    def __init__(self, *, has_engine: bool = False, fault: BaseException | None = None) -> None:
        super().__init__("engine")
        self.notes: list[Any] = []
        self.fault = fault
        self.may_drain = threading.Event()
        self.may_drain.set()
        self._engine = Engine(self.notes) if has_engine else None

    @property
    def engine(self) -> Any:
        return self._engine

    def _open(self) -> None:
        self.notes.append("open")
        if self.fault is not None:
            raise self.fault

    def _wake(self) -> None:
        self.notes.append("wake")
        if self._engine is not None:
            self._engine.woken.set()

    def _drain(self, grace_s: float) -> None:
        self.notes.append(("drain", grace_s))
        assert self.may_drain.wait(60)
        self.notes.append("drained")

    def _close(self) -> None:
        self.notes.append("close")


@pytest.mark.parametrize("grace_s", [0.0, 2.5, 600.0])
def test_attempts_have_the_grace_that_the_stop_gave(grace_s: float) -> None:
    process = Serving()
    process.start()
    process.stop(grace_s)
    assert process.notes == ["open", "wake", ("drain", grace_s), "drained", "close"]


def test_attempts_have_ten_seconds_by_default() -> None:
    with (process := Serving()):
        pass
    assert ("drain", GRACE_S) in process.notes
    assert GRACE_S == 10


def test_a_second_stop_changes_nothing() -> None:
    process = Serving()
    process.may_drain.clear()
    process.start()
    process.request_stop(2.5)
    process.request_stop(0.0)
    process.may_drain.set()
    process.stop(7.0)
    assert process.notes == ["open", "wake", ("drain", 2.5), "drained", "close"]


def test_the_engine_runs_until_the_last_reports_of_attempts_are_taken() -> None:
    process = Serving(has_engine=True)
    process.may_drain.clear()
    process.start()
    process.request_stop(2.5)
    while ("batch", 0.1) not in process.notes:
        process.engine.woken.wait(0.01)
    process.may_drain.set()
    process.stop()
    after = process.notes[process.notes.index("drained") :]
    assert after[-2:] == [("batch", 0.0), "close"]


def test_a_process_that_fails_to_open_is_closed_and_start_raises() -> None:
    process = Serving(fault=InfrastructureError("the disk is gone"))
    with pytest.raises(InfrastructureError, match="the disk is gone"):
        process.start()
    process.stop()
    assert process.notes[:2] == ["open", "close"]


def test_who_runs_it_on_its_own_thread_learns_why_it_ended() -> None:
    process = Serving(fault=InfrastructureError("the disk is gone"))
    with pytest.raises(InfrastructureError, match="the disk is gone"):
        process.run_forever()
    assert process.notes == ["open", "close"]


def test_a_stop_during_the_opening_is_not_an_error() -> None:
    process = Serving(fault=InfrastructureError("stopped while waiting for the broker"))
    process.request_stop()
    process.run_forever()
    assert process.notes == ["wake", "open", "close"]
