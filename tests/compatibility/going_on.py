"""What the present code must do with the runs of a release: read them, and bring each to its
end."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.errors import ClientError
from perdure.model.events import EventRecord
from perdure.model.states import WorkflowState
from perdure.registry import Registry
from perdure.system import SystemClock
from tests.compatibility.release import Left, Release
from tests.compatibility.scenarios import Ask, Scenario
from tests.simulation.invariants import assert_replays, check_history, was_suspended_last

HOUR_US: Final = 3_600_000_000
YEARS_US: Final = 20 * 365 * 24 * HOUR_US
PATIENCE_S: Final = 40.0


class MovedClock:
    """The clock of this machine, some time ahead or behind.

    Args:
        at: what it shows at first, microseconds since 1970.
    """

    def __init__(self, at: int) -> None:
        self._ahead_us = at - time.time_ns() // 1_000
        self._passed_us = 0

    def advance(self, microseconds: int) -> None:
        """Time passes on both clocks, of the day and monotonic. An engine sees it with its next
        command."""
        self._ahead_us += microseconds
        self._passed_us += microseconds

    @contextmanager
    def shown(self) -> Generator[None]:
        """Every engine of this process goes by it."""
        real_now, real_elapsed = SystemClock.now, SystemClock.elapsed

        def now(clock: SystemClock) -> int:
            return real_now(clock) + self._ahead_us

        def elapsed(clock: SystemClock) -> int:
            return real_elapsed(clock) + self._passed_us

        with patch.object(SystemClock, "now", now), patch.object(SystemClock, "elapsed", elapsed):
            yield


# ---- by a client


async def look(client: Client, release: Release, left: Left, changed: Registry) -> None:
    """Two hours later, with the code of the engine that was killed: all runs are there, open ones
    replay."""
    for scenario in release.scenarios:
        if scenario.is_due:
            await until(partial(_has_closed, client, scenario), f"{scenario.id} ends")
        for ask in scenario.unread:
            await until(partial(_knows, client, scenario, ask), f"{scenario.id} takes {ask}")
    for scenario in release.scenarios:
        state = await client.state(scenario.id)
        expected = scenario.ends if scenario.is_due else left.statuses[scenario.id]
        assert state.status == expected, (scenario.id, state.reason)
        assert state.type == scenario.type
        assert json.loads(state.attributes or b"{}") == scenario.options.get("attributes", {})
        description = await client.describe(scenario.id)
        assert scenario.unread or description.view == left.runs[scenario.id][-1].view, scenario.id
        for seen in left.runs[scenario.id]:
            records = await client.history(scenario.id, seen.run_id)
            check_history(records, is_of_this_version=False)
            found = names_of(records)
            assert found[: len(seen.events)] == seen.events, scenario.id
            is_open = seen is left.runs[scenario.id][-1] and not state.status.is_closed
            if not is_open and not scenario.is_due:
                assert found == seen.events, f"{scenario.id} was closed and has gone on"
            if is_open:
                replay(records, changed)
        if state.status.is_closed:
            assert_ended(scenario, state, left)


async def go_on(client: Client, clock: MovedClock, release: Release, *, is_one_process: bool) -> None:
    """With code that is repaired, until every run has ended; time passes when nothing else can
    happen."""
    for scenario in release.scenarios:
        if scenario.status == "suspended":
            await until(partial(_runs, client, scenario), f"{scenario.id} is resumed")
        for ask in scenario.goes_on:
            await asked(client, scenario.id, ask)
        if scenario.is_leased and is_one_process:
            await until(partial(_has_closed, client, scenario), f"{scenario.id} ends")
    early = [each for each in release.scenarios if not each.is_late]
    await _pass_time(client, clock, early, HOUR_US * 6)
    for scenario in release.scenarios:
        assert scenario.is_late != await _has_closed(client, scenario), f"{scenario.id} has ended early"
    await _pass_time(client, clock, release.scenarios, YEARS_US)


async def check_ends(client: Client, release: Release, left: Left) -> None:
    """Each run has ended as it must; nothing was added to those that had ended before."""
    for scenario in release.scenarios:
        assert_ended(scenario, await client.state(scenario.id), left)
        for seen in left.runs[scenario.id]:
            records = await client.history(scenario.id, seen.run_id)
            check_history(records, is_of_this_version=False)
            assert names_of(records)[: len(seen.events)] == seen.events, scenario.id


async def asked(client: Client, workflow_id: str, ask: Ask) -> None:
    """The requests of a scenario."""
    handle = client.get_by_name(workflow_id)
    match ask:
        case ["signal", name, *args]:
            await handle.signal_by_name(name, args)
        case ["cancel", reason]:
            await handle.cancel(reason)
        case ["terminate", reason]:
            await handle.terminate(reason)
        case _:
            raise AssertionError(f"{ask}: nobody knows how to ask that")


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it does not come true.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s"
        await asyncio.sleep(0.02)


async def _pass_time(client: Client, clock: MovedClock, scenarios: Sequence[Scenario], by_us: int) -> None:
    """Step by step, until all of these have ended. No time passes while a worker is to do
    something."""
    deadline = time.monotonic() + PATIENCE_S
    while still := [each for each in scenarios if not await _has_closed(client, each)]:
        assert time.monotonic() < deadline, f"{[await client.describe(each.id) for each in still]}"
        if not any([await _is_out(client, each) for each in still]):
            clock.advance(by_us)
            for each in still:
                await _shown_the_time(client, each.id)
        await asyncio.sleep(0.02)


async def _is_out(client: Client, scenario: Scenario) -> bool:
    """Whether an attempt is out that a worker will end."""
    activities = (await client.describe(scenario.id)).activities
    return not scenario.is_leased and any(each.doing != "backing off" for each in activities)


async def _shown_the_time(client: Client, workflow_id: str) -> None:
    """An engine looks at the clock with every command; a question that is refused changes
    nothing."""
    with suppress(ClientError):
        await client.get_by_name(workflow_id).query_by_name("nothing that it knows")


async def _has_closed(client: Client, scenario: Scenario) -> bool:
    return (await client.state(scenario.id)).status.is_closed


async def _runs(client: Client, scenario: Scenario) -> bool:
    return (await client.state(scenario.id)).status == "running"


async def _knows(client: Client, scenario: Scenario, ask: Ask) -> bool:
    records = await client.history(scenario.id)
    return any(getattr(event, "name", "") == ask[1] for record in records for event in record.events)


# ---- what came of it


def names_of(records: Sequence[EventRecord]) -> list[str]:
    """The types of all events."""
    return [type(event).__name__ for record in records for event in record.events]


def replay(records: Sequence[EventRecord], registry: Registry) -> None:
    """The code does what is recorded, unless it was found that it does not.

    Raises:
        ReplayError: it does not.
    """
    run_type = getattr(records[0].events[0], "type", "")
    if not was_suspended_last(records):
        assert_replays(records, registry.workflows[run_type], JsonPayloads())


def assert_ended(scenario: Scenario, state: WorkflowState, left: Left) -> None:
    """The last run of a workflow id has ended as it must."""
    assert state.status == scenario.ends, (scenario.id, state)
    wanted = left.runs[scenario.id][-1].view if scenario.result_is_view else scenario.result
    assert (json.loads(state.result) if state.result else None) == wanted, scenario.id
    assert scenario.failure in (state.failure.message if state.failure else ""), scenario.id


def assert_done_once(release: Release, book: Path) -> None:
    """The effects of activities, in the release's time and now."""
    lines = [line.split() for line in book.read_text().splitlines()]
    done = Counter((what, workflow_id) for what, workflow_id, _ in lines)
    wanted = Counter((what, scenario.id) for scenario in release.scenarios for what in scenario.work)
    assert done == wanted, (done - wanted, wanted - done)
    assert len({key for _, _, key in lines}) == len(lines), "no two have one idempotency key"


def assert_shipped_once(release: Release, keys: Sequence[Any]) -> None:
    """The keys of all records that workflow code has produced, in the release's time and now."""
    assert sorted(keys) == sorted(scenario.id.encode() for scenario in release.scenarios if scenario.ships)
