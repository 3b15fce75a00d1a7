"""A log at DEBUG explains a run; at INFO nothing of a single run is written."""

from __future__ import annotations

import asyncio
import logging

import pytest

from perdure import activity, testing, workflow
from perdure.registry import Registry


@activity.defn(name="logged_weigh")
async def weigh() -> int:
    return 7


@workflow.defn
class Logged:
    @workflow.run
    async def main(self) -> int:
        return await weigh()


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    async def drive() -> None:
        async with testing.Environment(Registry.of([Logged], [weigh])) as env:
            await env.client.execute("logged-1", Logged.main)

    with caplog.at_level(level, "perdure"):
        asyncio.run(drive())
    return [record.getMessage() for record in caplog.records if record.name.startswith("perdure")]


def test_the_events_and_attempts_of_a_run_are_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, logging.DEBUG) == [
        "workflow logged-1, from event 1: WorkflowStarted, ActivityScheduled",
        "activity logged_weigh of workflow logged-1: attempt 1 completed",
        "workflow logged-1, from event 3: ActivityCompleted, WorkflowCompleted",
    ]


def test_a_run_that_goes_well_is_not_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, logging.INFO) == []
