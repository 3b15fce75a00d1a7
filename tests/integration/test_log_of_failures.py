"""What fails is in the log: each attempt a warning, each run an error, with type, message and the
author's line; and the life-cycle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.embedded import Platform
from perdure.engine.failure_log import BURST, EVERY_S, AttemptLog, Sparse
from perdure.errors import Failure, WorkflowFailed
from perdure.model.failure import FailureInfo
from perdure.registry import Registry

HERE = Path(__file__).name


@activity.defn(retry=activity.Retry(first_interval="1s", coefficient=1.0))
async def missing(key: str, secret: str) -> str:
    return {"a": "1"}[key]


@activity.step(retry=activity.Retry(maximum_attempts=1))
def missing_step(key: str) -> str:
    return {"a": "1"}[key]


@workflow.defn(name="Fails")
async def fails(how: str) -> None:
    match how:
        case "raise":
            raise Failure("out\nof stock")
        case "step":
            await missing_step("x")
        case _:
            await missing("x", "card 4111")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    caplog.set_level(logging.DEBUG, "perdure")
    return lambda level: [each.getMessage() for each in caplog.records if each.levelno == level]


def in_the_environment(program: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.Environment(Registry.of([fails], [missing, missing_step])) as env:
            await program(env)

    asyncio.run(main())


Lines = Callable[[int], list[str]]


def line_of(fn: Any) -> int:
    return int(fn.__code__.co_firstlineno) + 2


def test_each_failed_attempt_is_a_warning_with_the_line_and_the_next_attempt(lines: Lines) -> None:
    async def program(env: testing.Environment) -> None:
        await env.client.start("order-1", fails, "activity")
        await env.sleep("1.5s")

    in_the_environment(program)
    first, second = lines(logging.WARNING)
    assert first.startswith("activity missing failed in attempt 1: KeyError: 'x' (")
    assert f"{HERE}:{line_of(missing.fn)})" in first
    assert first.endswith("next attempt at 2030-01-01 00:00:01+00:00")
    # the history refers to the first attempt, the line says it whole
    assert second.startswith("activity missing failed in attempt 2: KeyError: 'x' (")
    assert f"{HERE}:{line_of(missing.fn)})" in second
    assert "4111" not in first + second, "no arguments"


def test_a_failed_run_is_an_error_with_what_caused_it(lines: Lines) -> None:
    async def program(env: testing.Environment) -> None:
        for how in ("raise", "step"):
            with pytest.raises(WorkflowFailed):
                await env.client.execute(f"order-{how}", fails, how)

    in_the_environment(program)
    raised, from_step = lines(logging.ERROR)
    assert raised.startswith("workflow order-raise failed: Fails: Failure: out of stock (")
    assert HERE in raised
    assert "caused by KeyError: 'x'" in from_step
    assert lines(logging.WARNING)[0].endswith("no further attempt")


def test_many_failures_are_logged_in_a_few_lines_with_the_number_left_out(lines: Lines) -> None:
    now = [0.0]
    log = AttemptLog(logging.getLogger("perdure.test"))
    log._sparse = Sparse(BURST, EVERY_S, lambda: now[0])
    failure = FailureInfo("builtins:KeyError", "'x'")
    for number in range(1_000):
        log.failed("charge", failure, number, "later")
    log.failed("other", failure, 1, "later")
    assert len(lines(logging.WARNING)) == BURST + 1
    now[0] += EVERY_S
    log.failed("charge", failure, 1, "later")
    assert lines(logging.WARNING)[-1].endswith(
        f"({1_000 - BURST} more failed attempts of charge were not logged)"
    )


def test_a_batch_that_is_done_again_logs_a_failure_once(lines: Lines) -> None:
    from perdure.errors import CommitAborted

    async def program(env: testing.Environment) -> None:
        log: Any = env._wired.engine._log
        commit, aborts = log.commit, [1]

        def once_aborted(batch: Any) -> None:
            if aborts and any(
                type(event).__name__ == "WorkflowFailed"
                for record, _ in batch.events
                for event in record.events
            ):
                aborts.pop()
                raise CommitAborted("partitions moved")
            commit(batch)

        log.commit = once_aborted
        with pytest.raises(WorkflowFailed):
            await env.client.execute("order-1", fails, "raise")
        assert not aborts

    in_the_environment(program)
    assert len(lines(logging.ERROR)) == 1


def test_the_life_of_a_process_is_logged(lines: Lines, tmp_path: Path) -> None:
    with Platform(Registry.of([fails], [missing, missing_step]), f"sqlite:///{tmp_path}/app.db"):
        pass
    assert [line.partition(": ")[2].partition(";")[0] for line in lines(logging.INFO)] == [
        "started",
        "stopping",
        "drained",
        "stopped",
    ]
