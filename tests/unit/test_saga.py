"""Compensations: newest first, on failure and cancellation, none stopped by another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure, UsageError
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

NOT_A_FUNCTION: Any = True
NO_INFO: Any = None


class Undone:
    """Compensations that note their order."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def plain(self, name: str) -> None:
        self.order.append(name)

    async def waiting(self, name: str) -> None:
        await asyncio.sleep(0)
        self.order.append(name)

    async def failing(self, name: str) -> None:
        self.order.append(name)
        raise ValueError(name)


def test_compensations_run_newest_first_and_one_that_fails_stops_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    undone = Undone()

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.plain, "1")
            saga.compensate(undone.failing, "2")
            saga.compensate(undone.waiting, name="3")
            raise Failure("original")

    with pytest.raises(Failure, match="original"):
        asyncio.run(code())
    assert undone.order == ["3", "2", "1"]
    assert [record.getMessage() for record in caplog.records] == [
        "the compensation failing failed; running the others"
    ]


@pytest.mark.parametrize(("is_replaying", "lines"), [(False, 1), (True, 0)])
def test_a_compensation_that_failed_is_logged_once_and_not_again_on_replay(
    is_replaying: bool, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    undone = Undone()

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.failing, "1")
            raise Failure("original")

    run = RunLoop("run-1")
    RunRuntime(run, 1, JsonPayloads(), NO_INFO)
    run.replaying = is_replaying
    task = run.create_task(code())
    run.run()
    assert undone.order == ["1"]
    assert isinstance(task.exception(), Failure)
    assert len(caplog.records) == lines


def test_nothing_is_compensated_when_all_goes_well() -> None:
    undone = Undone()

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.plain, "1")

    asyncio.run(code())
    assert undone.order == []


def test_compensations_run_on_cancellation() -> None:
    undone = Undone()

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.waiting, "1")
            await asyncio.Event().wait()

    async def main() -> bool:
        task = asyncio.create_task(code())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert undone.order == ["1"]


def test_a_cancellation_during_a_compensation_takes_effect_after_it() -> None:
    undone = Undone()
    going_on = asyncio.Event()

    async def slow() -> None:
        going_on.set()
        for _ in range(5):
            await asyncio.sleep(0)
        undone.order.append("slow")

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.plain, "1")
            saga.compensate(slow)
            raise Failure("original")

    async def main() -> bool:
        task = asyncio.create_task(code())
        await going_on.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert undone.order == ["slow", "1"]


class Suspended(BaseException):
    """Exceptions that the platform throws into code are not failures of the code."""


def test_nothing_is_compensated_when_the_platform_stops_the_code() -> None:
    undone = Undone()

    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(undone.plain, "1")
            raise Suspended

    with pytest.raises(Suspended):
        code().send(None)
    assert undone.order == []


def test_an_object_that_cannot_be_called_is_refused_as_a_compensation() -> None:
    async def code() -> None:
        async with workflow.saga() as saga:
            saga.compensate(NOT_A_FUNCTION)

    with pytest.raises(UsageError, match=r"test_saga\.py:\d+: compensate takes a function"):
        asyncio.run(code())
