"""`testing.replay`: recorded histories in a test of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import activity, testing, workflow
from perdure.codec.history import history_to_json
from perdure.errors import ReplayError, UsageError
from perdure.model.events import EventRecord
from perdure.registry import Registry


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@workflow.defn(name="greeting")
async def today(name: str) -> str:
    await workflow.sleep("1 hour")
    return await greet(name)


@workflow.defn(name="greeting")
async def without_the_nap(name: str) -> str:
    return await greet(name)


@workflow.defn(name="greeting")
async def with_a_mistake(name: str) -> str:
    greet(name)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    return name


HERE = Registry.of([today], [greet])


def recorded() -> list[EventRecord]:
    async def main() -> list[EventRecord]:
        async with testing.Environment(HERE) as env:
            await env.client.execute("g", today, "Ada")
            return await env.client.history("g")

    return asyncio.run(main())


def test_the_code_that_made_a_history_replays_it_from_records_text_or_a_file(tmp_path: Path) -> None:
    records = recorded()
    text = history_to_json(records)
    file = tmp_path / "g.json"
    file.write_text(text, encoding="utf-8")
    for given in (records, text, file):
        testing.replay(given, HERE)


def test_code_that_does_something_else_is_found_out_with_the_event() -> None:
    with pytest.raises(ReplayError, match=r"event 2: .*timer 1 started"):
        testing.replay(recorded(), Registry.of([without_the_nap], [greet]))


def test_a_mistake_in_the_code_is_raised() -> None:
    with pytest.raises(UsageError, match="was never awaited"):
        testing.replay(recorded(), Registry.of([with_a_mistake], [greet]))


@pytest.mark.parametrize("given", ["", "[]", "{}", "nothing", []])
def test_what_is_no_history_is_refused(given: str | list[EventRecord]) -> None:
    with pytest.raises(UsageError, match=r"history"):
        testing.replay(given, HERE)


def test_a_file_or_a_type_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.json"):
        testing.replay(tmp_path / "absent.json", HERE)
    with pytest.raises(UsageError, match="no workflow type 'greeting'"):
        testing.replay(recorded(), Registry.of([], [greet]))
