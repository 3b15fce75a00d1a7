"""A call that does not come back is left behind; one that gets somewhere is waited for."""

from __future__ import annotations

import threading

import pytest

from perdure.adapters.kafka import bounded_calls as bounded
from perdure.adapters.kafka.bounded_calls import BoundedCalls, CallTimedOut


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "TURN_S", 0.02)


def test_a_call_is_made_in_a_thread_of_its_own_and_its_error_is_raised_here() -> None:
    calls = BoundedCalls(1)
    threads: list[int] = []
    calls.call(lambda: threads.append(threading.get_ident()))
    calls.call(lambda: threads.append(threading.get_ident()))
    assert threads[0] == threads[1] != threading.get_ident()

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        calls.call(fail)
    calls.call(lambda: None)
    calls.close()


def test_a_call_that_hangs_is_left_and_the_next_one_is_made() -> None:
    calls, let_go = BoundedCalls(0.1), threading.Event()
    with pytest.raises(CallTimedOut):
        calls.call(lambda: assert_true(let_go.wait(30)))
    done: list[bool] = []
    calls.call(lambda: done.append(True))
    assert done == [True]
    let_go.set()
    calls.close()


def test_a_call_that_makes_progress_is_waited_for() -> None:
    calls, steps = BoundedCalls(0.2), list[int]()

    def slowly() -> None:
        for step in range(10):
            threading.Event().wait(0.05)
            calls.beat()
            steps.append(step)

    calls.call(slowly)
    assert len(steps) == 10
    calls.close()


def assert_true(value: bool) -> None:
    assert value
