"""Actions that one event answers, for capabilities without a file of their own in `replay`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from perdure.errors import UsageError
from perdure.model import actions as ac
from perdure.model import events as ev

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven


def told(future: asyncio.Future[Any], event: ev.TimerFired) -> None:
    if not future.done():
        future.set_result(f"answer {event.number}")


def ask(driven: Driven, at: int = 5) -> Any:
    """Ask for any action that has a number and one event for an answer: here it is a timer."""
    return driven.runtime.ask(
        "ring", ac.StartTimer, at, answer=ev.TimerFired, settle=told, cancel=ac.CancelTimer
    )


def answer(driven: Driven, number: int) -> None:
    driven.runtime.awaited.apply(ev.TimerFired(number))
    driven.loop.run()


def test_each_answer_goes_to_the_action_of_its_number(driven: Driven) -> None:
    answers: list[str] = []

    async def program() -> None:
        first, second = ask(driven, 5), ask(driven, 6)
        answers.extend([await first, await second])

    driven.begin(program)
    assert driven.wanted() == [ac.StartTimer(1, 5), ac.StartTimer(2, 6)]
    answer(driven, 2)
    assert answers == []  # the first is awaited
    answer(driven, 1)
    assert answers == ["answer 1", "answer 2"]
    assert driven.wanted() == []


def test_a_wait_that_is_cancelled_asks_for_the_end_of_its_action(driven: Driven) -> None:
    async def program() -> Any:
        return await ask(driven)

    task = driven.begin(program)
    assert driven.wanted() == [ac.StartTimer(1, 5)]
    task.cancel()
    driven.loop.run()
    assert driven.wanted() == [ac.CancelTimer(1)]
    answer(driven, 1)  # it crossed the cancellation
    assert task.cancelled()


def test_a_wait_that_is_cancelled_in_its_activation_leaves_no_action(driven: Driven) -> None:
    async def program() -> Any:
        first = ask(driven)
        first.cancel()
        return await ask(driven)

    driven.begin(program)
    assert driven.wanted() == [ac.StartTimer(2, 5)]


def test_an_answer_without_a_wait_is_ignored(driven: Driven) -> None:
    answer(driven, 1)
    ask(driven)
    answer(driven, 2)
    assert driven.wanted() == [ac.StartTimer(1, 5)]


def test_what_only_reads_cannot_ask(driven: Driven) -> None:
    driven.loop.is_read_only = True
    with pytest.raises(UsageError, match="ring"):
        ask(driven)


def test_the_futures_of_an_evicted_run_are_released_once(driven: Driven) -> None:
    futures = [ask(driven), ask(driven)]
    assert driven.runtime.release() == futures
    assert driven.runtime.release() == []
