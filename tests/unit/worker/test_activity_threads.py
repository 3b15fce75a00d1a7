"""Threads of sync activities are used again, given on, and ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.worker.activity_threads import ActivityThreads


def run(program: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def within_reason() -> Any:
        async with asyncio.timeout(20):
            return await program()

    return asyncio.run(within_reason())


def nothing() -> None:
    """It begins."""


def test_functions_that_run_one_after_the_other_share_a_thread() -> None:
    async def program() -> set[int]:
        threads = ActivityThreads(3)
        used = {await threads.run(threading.get_ident, nothing) for _ in range(5)}
        threads.close()
        return used

    assert len(run(program)) == 1


def test_a_thread_that_was_given_to_a_function_as_it_was_cancelled_is_given_to_the_next() -> None:
    async def program() -> str:
        loop: Any = asyncio.get_running_loop()
        threads = ActivityThreads(1)
        go_on = threading.Event()
        first = asyncio.create_task(threads.run(lambda: go_on.wait(20), nothing))
        await asyncio.sleep(0)
        second = asyncio.create_task(threads.run(lambda: "second", nothing))
        third = asyncio.create_task(threads.run(lambda: "third", nothing))
        while threads.waiting < 2:
            await asyncio.sleep(0)
        call = loop.call_soon_threadsafe

        def call_and_cancel(callback: Callable[..., object], *args: Any) -> None:
            call(lambda: (callback(*args), second.cancel()))

        loop.call_soon_threadsafe = call_and_cancel
        go_on.set()
        await first
        loop.call_soon_threadsafe = call
        answer = await third
        assert second.cancelled()
        assert threads.busy == 0
        threads.close()
        return answer

    assert run(program) == "third"


def test_a_thread_that_is_busy_at_the_close_ends_after_its_function() -> None:
    before = set(threading.enumerate())
    go_on = threading.Event()

    async def program() -> None:
        threads = ActivityThreads(1)
        running = asyncio.create_task(threads.run(lambda: go_on.wait(20), nothing))
        await asyncio.sleep(0)
        threads.close()
        go_on.set()
        await running

    run(program)
    ours = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name == "perdure-activity"
    ]
    for thread in ours:
        thread.join(20)
    assert not [thread for thread in ours if thread.is_alive()]
