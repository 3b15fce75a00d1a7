"""The services that workflow code gets from its run."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model.actions import StartTimer
from perdure.model.runtime import WorkflowLoop, WorkflowRuntime
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class FrozenLoop(asyncio.SelectorEventLoop, WorkflowLoop, WorkflowRuntime):
    """A run at noon."""

    reads_only = False

    @property
    def is_read_only(self) -> bool:
        return self.reads_only

    @property
    def runtime(self) -> WorkflowRuntime:  # type: ignore[override]  # a stand-in for both
        return self

    replaying = False

    def info(self) -> workflow.Info:
        return workflow.Info("w", "r", "Order", NOON, 3)

    def now_us(self) -> int:
        return int(NOON.timestamp()) * 1_000_000 + 7

    def uuid4(self) -> UUID:
        return UUID(int=4)

    def random(self) -> Random:
        return Random(1)

    def is_replaying(self) -> bool:
        return self.replaying

    def wait_until(self, condition: Callable[[], Any], timeout_us: int | None) -> Awaitable[Any]:
        async def answer() -> Any:
            return condition(), timeout_us

        return answer()


@pytest.fixture
def loop() -> Iterator[FrozenLoop]:
    loop = FrozenLoop()
    yield loop
    loop.close()


async def ask_info() -> object:
    return workflow.info()


async def ask_now() -> object:
    return workflow.now()


async def ask_uuid() -> object:
    return workflow.uuid4()


async def ask_random() -> object:
    return workflow.random().random()


async def ask_wait() -> object:
    return await workflow.wait_until(lambda: "yes")


async def ask_wait_for_a_minute() -> object:
    return await workflow.wait_until(lambda: "yes", timeout="1m")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (ask_info, workflow.Info("w", "r", "Order", NOON, 3)),
        (ask_now, NOON + timedelta(microseconds=7)),
        (ask_uuid, UUID(int=4)),
        (ask_random, Random(1).random()),
        (ask_wait, ("yes", None)),
        (ask_wait_for_a_minute, ("yes", 60_000_000)),
    ],
)
def test_workflow_code_can_ask_its_run_for_facts(
    code: Callable[[], Any], answer: object, loop: FrozenLoop
) -> None:
    assert loop.run_until_complete(code()) == answer


async def sleep() -> None:
    await workflow.sleep("1s")


async def time_out() -> None:
    async with workflow.timeout("1s"):
        pass


@pytest.mark.parametrize("code", [ask_info, ask_now, ask_uuid, ask_random, ask_wait, sleep, time_out])
def test_outside_a_run_asking_is_refused_at_its_line(code: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match=r"test_workflow_code\.py:\d+: .*is for workflow code"):
        asyncio.run(code())


@pytest.mark.parametrize("code", [ask_uuid, ask_random, ask_wait, sleep, time_out])
def test_code_that_only_reads_may_not_change_the_run(code: Callable[[], Any], loop: FrozenLoop) -> None:
    loop.reads_only = True
    with pytest.raises(UsageError, match=r"test_workflow_code\.py:\d+: .*only read"):
        loop.run_until_complete(code())


def test_code_that_only_reads_may_ask_for_the_time(loop: FrozenLoop) -> None:
    loop.reads_only = True
    assert loop.run_until_complete(ask_now()) == NOON + timedelta(microseconds=7)


def test_a_sleep_until_a_time_without_zone_is_refused(loop: FrozenLoop) -> None:
    async def code() -> None:
        await workflow.sleep(datetime(2031, 1, 1))

    with pytest.raises(UsageError, match="give the datetime a time zone"):
        loop.run_until_complete(code())


def test_a_sleep_until_a_past_time_ends_immediately(loop: FrozenLoop) -> None:
    async def code() -> None:
        await workflow.sleep(NOON - timedelta(days=1))

    loop.run_until_complete(code())


async def sleeps(until: datetime) -> None:
    await workflow.sleep(until)


async def has_until(until: datetime) -> None:
    async with workflow.timeout(until):
        await asyncio.Event().wait()


@pytest.mark.parametrize("code", [sleeps, has_until])
def test_a_moment_is_reached_when_the_clock_of_the_run_says_so(code: Callable[[datetime], Any]) -> None:
    run = RunLoop("r")
    RunRuntime(run, 1, JsonPayloads(), lambda: workflow.Info("w", "r", "Order", NOON, 3))
    run.now = int(NOON.timestamp()) * 1_000_000
    task = run.create_task(code(NOON + timedelta(hours=3)))
    run.run()
    assert not task.done()
    assert run.actions.items[0] == StartTimer(1, run.now + 3 * 3_600_000_000)


async def sleeps_long() -> None:
    await workflow.sleep("520000 weeks")


async def waits_long() -> None:
    await workflow.wait_until(lambda: False, timeout="520000 weeks")


@pytest.mark.parametrize("code", [sleeps_long, waits_long])
def test_what_is_to_last_longer_than_the_calendar_ends_with_it(code: Callable[[], Any]) -> None:
    run = RunLoop("r")
    RunRuntime(run, 1, JsonPayloads(), lambda: workflow.Info("w", "r", "Order", NOON, 3))
    run.now = int(NOON.timestamp()) * 1_000_000
    task = run.create_task(code())
    run.run()
    assert not task.done()
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert run.actions.items == [StartTimer(1, int(end.timestamp()) * 1_000_000)]


def test_a_timeout_ends_its_block(loop: FrozenLoop) -> None:
    async def code() -> None:
        async with workflow.timeout("1ms"):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(code())


def test_a_condition_that_is_not_a_function_is_refused(loop: FrozenLoop) -> None:
    async def code() -> None:
        await workflow.wait_until(NOT_A_FUNCTION)

    with pytest.raises(UsageError, match="takes a function"):
        loop.run_until_complete(code())


NOT_A_FUNCTION: Any = True


def test_the_logger_names_the_run_and_is_silent_while_replaying(
    loop: FrozenLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def code() -> None:
        workflow.logger.info("first", extra={"more": 1})
        loop.replaying = True
        workflow.logger.error("second")

    with caplog.at_level(logging.INFO):
        loop.run_until_complete(code())
        workflow.logger.info("outside")
    assert [record.getMessage() for record in caplog.records] == ["first", "outside"]
    assert vars(caplog.records[0]).items() >= {"workflow_id": "w", "run_id": "r", "more": 1}.items()


def test_importing_workflow_loads_nothing_heavy() -> None:
    heavy = {
        "random",
        "sqlite3",
        "typer",
        "rich",
        "pydantic",
        "secrets",
        "http",
        "zipfile",
        "xml",
        "unittest",
        "hypothesis",
    }
    code = f"import sys, perdure.workflow; print(*sorted({heavy!r} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == []
