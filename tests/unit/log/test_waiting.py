"""Futures that wait for replies: each gets its own answer, or the reason why there is none."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure.adapters.process.channel import Channel
from perdure.adapters.process.waiting import Waiting
from perdure.errors import EngineUnavailable, UsageError
from perdure.model.replies import Accepted
from tests.contract.samples import task


def test_every_future_of_a_request_gets_its_answer_and_no_other_does() -> None:
    async def wait() -> None:
        waiting = Waiting()
        first, second, other = waiting.add("a"), waiting.add("a"), waiting.add("b")
        first.cancel()
        threading.Thread(
            target=waiting.resolve_from_thread, args=([Accepted("a", "run"), Accepted("c", "run")],)
        ).start()
        assert await second == Accepted("a", "run")
        assert not other.done()
        waiting.remove("a", first)
        waiting.remove("a", second)
        waiting.remove("b", second)
        waiting.resolve([Accepted("b", "run")])
        assert await other == Accepted("b", "run"), "only what was added is removed"

    asyncio.run(wait())


def test_one_that_waits_no_more_leaves_the_others_of_its_request_waiting() -> None:
    async def wait() -> None:
        waiting = Waiting()
        first, second, third = (waiting.add("a") for _ in range(3))
        waiting.remove("a", second)
        waiting.remove("a", second)
        waiting.resolve([Accepted("a", "run")])
        assert (first.done(), second.done(), third.done()) == (True, False, True)

    asyncio.run(wait())


def test_waiting_futures_fail_when_the_engine_is_gone() -> None:
    async def wait() -> None:
        waiting = Waiting()
        done, future = waiting.add("a"), waiting.add("b")
        waiting.resolve([Accepted("a", "run")])
        threading.Thread(target=waiting.fail_from_thread, args=(EngineUnavailable("gone"),)).start()
        with pytest.raises(EngineUnavailable, match="gone"):
            await future
        assert await done == Accepted("a", "run")

    asyncio.run(wait())


def test_another_loop_may_wait_once_the_first_has_no_waiters() -> None:
    waiting = Waiting()

    async def begin() -> None:
        _ = waiting.add("a")

    async def one_more() -> None:
        future = waiting.add("b")
        waiting.resolve([Accepted("b", "run")])
        await future
        waiting.remove("b", future)

    asyncio.run(one_more())
    asyncio.run(one_more())
    asyncio.run(begin())
    with pytest.raises(UsageError, match="another asyncio loop"):
        asyncio.run(begin())


def test_subscribed_clients_are_notified_when_the_engine_stops() -> None:
    channel = Channel()
    told: list[str] = []
    channel.deliveries.subscribe_replies("a", lambda _: None, lambda: told.append("a"))
    channel.deliveries.subscribe_replies("b", lambda _: None, lambda: told.append("b"))
    channel.deliveries.subscribe_replies("c", lambda _: None)
    channel.deliveries.unsubscribe_replies("b")
    channel.end()
    assert (told, channel.has_ended) == (["a"], True)
    channel.begin()
    assert not channel.has_ended


def test_tasks_go_to_remaining_workers_and_every_worker_gets_cancellations() -> None:
    channel = Channel()
    first: list[int] = []
    second: list[int] = []
    stopped: list[str] = []

    def take_first(tasks: object) -> None:
        first.append(1)

    def broken(tasks: object) -> None:
        raise RuntimeError("no")

    channel.deliveries.subscribe_tasks(
        take_first, lambda tokens: stopped.extend(f"1{each}" for each in tokens)
    )
    channel.deliveries.subscribe_tasks(broken, None)
    channel.deliveries.subscribe_tasks(
        lambda _: second.append(1), lambda tokens: stopped.extend(f"2{each}" for each in tokens)
    )
    for number in range(4):
        channel.deliveries.deliver_tasks([task(number)])
    assert (len(first), len(second)) == (2, 2), "the task of the one that raised went to the next"
    channel.deliveries._deliver_cancelled(["t"])
    assert sorted(stopped) == ["1t", "2t"]
    channel.deliveries.unsubscribe_tasks(take_first)
    channel.deliveries.deliver_tasks([task(9)])
    assert (len(first), len(second)) == (2, 3)


def test_an_unreachable_worker_does_not_keep_cancellations_from_others() -> None:
    channel = Channel()
    stopped: list[str] = []

    def broken(tokens: object) -> None:
        raise RuntimeError("no")

    channel.deliveries.subscribe_tasks(lambda _: None, None)
    channel.deliveries.subscribe_tasks(lambda _: None, broken)
    channel.deliveries.subscribe_tasks(lambda _: None, stopped.extend)
    channel.deliveries._deliver_cancelled(["t"])
    channel.deliveries._deliver_cancelled(["u"])
    assert stopped == ["t", "u"]
