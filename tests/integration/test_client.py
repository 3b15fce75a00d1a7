"""What a client can ask for: starts with options, each request once, lists in pages, histories as
JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import testing, workflow
from perdure.codec.history import history_from_json, history_to_json
from perdure.core.run import fold
from perdure.errors import (
    Failure,
    RequestRefused,
    TimedOut,
    UsageError,
    WorkflowAlreadyStarted,
    WorkflowFailed,
)
from perdure.model import commands as cm
from perdure.model.events import SignalReceived
from perdure.registry import Registry


@workflow.defn
class Box:
    def __init__(self) -> None:
        self.texts: list[str] = []

    @workflow.run
    async def main(self, fails: bool = False) -> list[str]:
        await workflow.wait_until(lambda: "end" in self.texts)
        if fails:
            raise Failure("as was asked")
        return self.texts

    @workflow.signal
    def put(self, text: str) -> None:
        self.texts.append(text)

    @workflow.query
    def begun_at(self) -> datetime:
        return workflow.info().started_at


@workflow.defn
async def now() -> datetime:
    return workflow.now()


def on_the_platform(program: Callable[[testing.Environment], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with testing.Environment(Registry.of([Box, now], [], [])) as env:
            await program(env)

    asyncio.run(main())


def test_a_start_only_after_failure() -> None:
    async def program(env: testing.Environment) -> None:
        careful = env.client.options(if_closed="after_failure")
        runs: list[str] = []
        for fails in (True, True, False):
            box = await careful.start("box", Box.main, fails)
            with pytest.raises(WorkflowAlreadyStarted, match="is already running"):
                await careful.start("box", Box.main)
            runs.append(box.run_id)
            await box.signal(Box.put, "end")
            if fails:
                with pytest.raises(WorkflowFailed):
                    await box.result()
            else:
                await box.result()
        with pytest.raises(WorkflowAlreadyStarted, match="completed"):
            await careful.start("box", Box.main)
        with pytest.raises(WorkflowAlreadyStarted):
            await env.client.options(if_closed="refuse").start("box", Box.main)
        assert (await env.client.start("box", Box.main)).run_id not in runs

    on_the_platform(program)


def test_a_second_start_attaches_or_replaces_as_asked() -> None:
    async def program(env: testing.Environment) -> None:
        first = await env.client.start("box", Box.main)
        attached = await env.client.options(if_running="attach").start("box", Box.main)
        assert attached.run_id == first.run_id
        second = await env.client.options(if_running="terminate").start("box", Box.main)
        assert second.run_id != first.run_id
        with pytest.raises(WorkflowFailed, match="terminated"):
            await first.result()
        assert (await env.client.history("box", first.run_id))[0].run_id == first.run_id
        await second.signal(Box.put, "end")
        assert await second.result() == ["end"]

    on_the_platform(program)


def test_the_first_signal_through_with_start_starts_what_does_not_run() -> None:
    async def program(env: testing.Environment) -> None:
        first = env.client.with_start("box", Box.main)
        assert await env.client.list() == [], "nothing is asked until the signal"
        await first.signal(Box.put, "a")
        second = env.client.options(request_id="once").with_start("box", Box.main, True)
        await second.signal(Box.put, "b")
        again = env.client.options(request_id="once").with_start("box", Box.main, True)
        await again.signal(Box.put, "b")
        assert {second.run_id, again.run_id} == {first.run_id}
        await second.signal(Box.put, "end")
        assert await first.result() == ["a", "b", "end"], "the arguments are those of the start"
        await env.client.with_start("box", Box.main).signal_by_name("put", ["c"])
        assert (await env.client.state("box")).run_id != first.run_id
        with pytest.raises(RequestRefused, match="nothing"):
            await env.client.with_start("other", Box.main).signal_by_name("nothing")
        assert [state.workflow_id for state in await env.client.list()] == ["box"], (
            "no run without its signal"
        )
        with pytest.raises(UsageError, match=r"use start\(\) for that"):
            env.client.options(if_running="terminate").with_start("box", Box.main)

    on_the_platform(program)


def test_the_same_start_sent_twice_acts_once_also_after_a_crash_and_after_the_end() -> None:
    async def program(env: testing.Environment) -> None:
        box = await env.client.options(request_id="once").start("box", Box.main)
        await env.restart()
        again = await env.client.options(request_id="once").start("box", Box.main)
        await again.signal(Box.put, "end")
        await again.result()
        late = await env.client.options(request_id="once").start("box", Box.main)
        assert box.run_id == again.run_id == late.run_id
        assert await late.result() == ["end"]

    on_the_platform(program)


@pytest.mark.parametrize("kind", [cm.SignalWorkflow, cm.CancelWorkflow, cm.TerminateWorkflow])
def test_the_same_message_sent_twice_acts_once(kind: Any) -> None:
    async def program(env: testing.Environment) -> None:
        await env.client.start("box", Box.main)
        extra: dict[str, Any] = (
            {"name": "put", "input": b'["a"]'} if kind is cm.SignalWorkflow else {"reason": "enough"}
        )
        transport = env.client._transport
        replies = [await transport.request(kind("box", "", "once", **extra), 10) for _ in range(2)]
        await env.restart()
        replies.append(await env.client._transport.request(kind("box", "", "once", **extra), 10))
        assert [type(reply).__name__ for reply in replies] == ["Accepted"] * 3
        events = [event for record in await env.client.history("box") for event in record.events]
        assert sum(getattr(event, "request_id", "") == "once" for event in events) == 1

    on_the_platform(program)


def test_a_delayed_start_begins_later_and_keeps_the_signals_that_come_before() -> None:
    async def program(env: testing.Environment) -> None:
        begun = env.now()
        box = await env.client.options(delay="2 days").start("box", Box.main)
        await box.signal(Box.put, "early")
        await env.sleep("1 day")
        assert (await env.client.describe("box")).status == "running"
        await env.restart()
        box = env.client.get("box", Box.main)
        await box.signal(Box.put, "end")
        assert await box.result() == ["early", "end"]
        assert env.now() - begun == timedelta(days=2)

    on_the_platform(program)


def test_a_run_whose_time_is_up_has_timed_out() -> None:
    async def program(env: testing.Environment) -> None:
        begun = env.now()
        box = await env.client.options(timeout="3 hours").start("box", Box.main)
        with pytest.raises(WorkflowFailed) as caught:
            await box.result()
        assert isinstance(caught.value.cause, TimedOut)
        assert env.now() - begun == timedelta(hours=3)
        assert (await env.client.describe("box")).status == "timed_out"

    on_the_platform(program)


def test_attributes_are_kept_and_shown() -> None:
    async def program(env: testing.Environment) -> None:
        attributes = {"customer": "Ada", "tables": [3, 4], "vip": True}
        await env.client.options(attributes=attributes).start("box", Box.main)
        assert (await env.client.describe("box")).attributes == attributes

    on_the_platform(program)


def test_lists_are_filtered_and_come_in_pages() -> None:
    async def program(env: testing.Environment) -> None:
        middle = None
        for number in range(25):
            box = await env.client.start(f"box-{number:02}", Box.main)
            if number % 5 == 0:
                await box.terminate()
            if number == 12:
                middle = env.now()
            await env.sleep("1 hour")
        found: list[str] = []
        after = None
        while page := await env.client.list(status="running", limit=7, after=after):
            assert len(page) <= 7
            found += [state.workflow_id for state in page]
            after = page[-1]
        assert found == [f"box-{number:02}" for number in reversed(range(25)) if number % 5]
        assert middle is not None
        assert len(await env.client.list(started_after=middle)) == 13
        assert len(await env.client.list(started_before=middle)) == 12
        assert await env.client.list(type="now") == []
        with pytest.raises(UsageError, match="has no time zone"):
            await env.client.list(started_after=middle.replace(tzinfo=None))
        assert await env.client.list(started_after=datetime(2100, 1, 1, tzinfo=UTC)) == []

    on_the_platform(program)


def test_a_history_goes_out_as_json_and_comes_in_again() -> None:
    async def program(env: testing.Environment) -> None:
        box = await env.client.start("box", Box.main)
        await box.signal(Box.put, "ünï 🍕")
        await box.signal(Box.put, "end")
        await box.result()
        records = await env.client.history("box")
        again = history_from_json(history_to_json(records))
        assert again == records
        assert fold(again).status == "completed"
        assert sum(isinstance(event, SignalReceived) for record in again for event in record.events) == 2

    on_the_platform(program)
