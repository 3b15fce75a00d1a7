"""Large answers hold memory only while they are sent, and the one that stands still makes room."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api import sending
from perdure.api.sending import SLICE, Budget, Large, answer


def test_the_response_that_is_stuck_longest_is_aborted_to_make_room() -> None:
    budget = Budget(100)
    first, second, third, fourth = (Large(b"x") for _ in range(4))
    for each in (first, second, third):
        budget.hold(each, 30)
    budget.moved(first)  # its reader continues, so the second one stands still the longest
    budget.hold(fourth, 30)
    assert [each._is_cut for each in (first, second, third, fourth)] == [False, True, False, False]
    assert budget.size == 90
    budget.free(second)
    assert budget.size == 90, "it was freed when it was cut"
    for each in (first, third, fourth):
        budget.free(each)
    assert budget.size == 0
    large = Large(b"x")
    budget.hold(large, 1_000)
    assert not large._is_cut, "one answer may be larger than the budget"


@pytest.mark.parametrize("size", [SLICE + 1, 2 * SLICE, 2 * SLICE + 1])
def test_a_large_answer_is_sent_whole_and_held_no_longer(size: int) -> None:
    budget = Budget()
    body = bytes(number % 251 for number in range(size))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        assert budget.size == size

    async def main() -> None:
        found = answer(body, 200, None, "application/json")
        assert isinstance(found, Large)
        app = SimpleNamespace(state=SimpleNamespace(answers=budget))
        await found({"type": "http", "app": app}, asyncio.Queue().get, send)

    asyncio.run(main())
    start, *parts = sent
    assert (b"content-length", b"%d" % size) in start["headers"]
    assert b"".join(each["body"] for each in parts) == body
    assert [each["more_body"] for each in parts] == [True] * (len(parts) - 1) + [False]
    assert budget.size == 0


def test_a_client_that_reads_nothing_for_too_long_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "STUCK_S", 0.01)
    budget, ended = Budget(), list[bool]()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def main() -> None:
        app = SimpleNamespace(state=SimpleNamespace(answers=budget))
        scope = {"type": "http", "app": app, "extensions": {sending.ABORT: lambda: ended.append(True)}}
        await answer(b"x" * (SLICE + 1), 200, None, "text/plain")(scope, asyncio.Queue().get, send)

    asyncio.run(main())
    assert ended == [True]
    assert budget.size == 0
