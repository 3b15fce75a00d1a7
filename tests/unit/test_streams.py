"""Streams: written by workflow code once, by attempts at least once, read while the run runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure import activity, testing, workflow
from perdure.cli.app import app
from perdure.client import SyncClient
from perdure.embedded import Platform
from perdure.errors import QueryFailed, UsageError, WorkflowNotFound
from perdure.registry import Registry


@dataclass
class Delta:
    text: str


@activity.defn(retry=activity.Retry(first_interval="1s"))
async def think(question: str) -> str:
    out = activity.stream("answer", Delta)
    for word in question.split():
        out.write(Delta(word))
    if question.startswith("twice") and activity.info().attempt == 1:
        raise ConnectionError("lost")
    return "done"


@activity.step
def think_in_a_thread(count: int) -> int:
    out = activity.stream("numbers", int)
    for number in range(count):
        out.write(number)
    return count


@workflow.defn
class Chat:
    def __init__(self) -> None:
        self.asked: list[str] = []

    @workflow.run
    async def process(self, turns: int) -> int:
        out = workflow.stream("answer", Delta)
        for turn in range(turns):
            await workflow.wait_until(lambda turn=turn: len(self.asked) > turn)  # type: ignore[misc]
            out.write(Delta(f"turn {turn}"))
            await think(self.asked[turn])
        workflow.stream("other").write({"turns": turns})
        return turns

    @workflow.signal
    def ask(self, question: str) -> None:
        self.asked.append(question)

    @workflow.query
    def misuses(self) -> str:
        return workflow.stream("answer").name


@workflow.defn
async def floods(count: int) -> None:
    out = workflow.stream("all", int)
    for number in range(count):
        out.write(number)


@workflow.defn
async def counts(count: int) -> int:
    return await think_in_a_thread(count)


REGISTRY = Registry.of([Chat, floods, counts], [think, think_in_a_thread])


def played(scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY) as env:
            await scenario(env)

    asyncio.run(main())


def test_values_come_in_order_and_end_with_the_run() -> None:
    async def scenario(env: testing.Environment) -> None:
        chat = await env.client.start("c", Chat.process, 2)
        await chat.signal(Chat.ask, "how are you")
        await chat.signal(Chat.ask, "and now")
        await chat.result()
        reader = chat.stream("answer", Delta)
        assert [each.text async for each in reader] == [
            "turn 0", "how", "are", "you", "turn 1", "and", "now",
        ]  # fmt: skip
        assert (reader.number, reader.attempt, reader.run_id) == (2, 1, chat.run_id)
        assert [each async for each in chat.stream("other", dict[str, int])] == [{"turns": 2}]
        assert [each async for each in chat.stream("nothing", int)] == []

    played(scenario)


def test_one_reads_on_after_an_offset() -> None:
    async def scenario(env: testing.Environment) -> None:
        chat = await env.client.start("c", Chat.process, 1)
        await chat.signal(Chat.ask, "a b c")
        await chat.result()
        reader = chat.stream("answer", Delta)
        assert (await anext(reader)).text == "turn 0"
        assert (await anext(reader)).text == "a"
        rest = chat.stream("answer", Delta, after=reader.offset)
        assert [each.text async for each in rest] == ["b", "c"]

    played(scenario)


def test_an_attempt_that_is_repeated_writes_again_and_says_so() -> None:
    async def scenario(env: testing.Environment) -> None:
        chat = await env.client.start("c", Chat.process, 1)
        await chat.signal(Chat.ask, "twice it")
        await env.sleep("1 minute")
        await chat.result()
        reader = chat.stream("answer", Delta)
        assert [(each.text, reader.attempt, reader.number) async for each in reader] == [
            ("turn 0", 0, 1), ("twice", 1, 1), ("it", 1, 2), ("twice", 2, 1), ("it", 2, 2),
        ]  # fmt: skip

    played(scenario)


def test_a_reader_waits_for_what_comes() -> None:
    async def scenario(env: testing.Environment) -> None:
        chat = await env.client.start("c", Chat.process, 1)
        reader = chat.stream("answer", Delta)
        first = asyncio.ensure_future(anext(reader))
        await chat.signal(Chat.ask, "hello")
        assert (await asyncio.wait_for(first, 20)).text == "turn 0"
        assert [each.text async for each in reader] == ["hello"]

    played(scenario)


def test_nothing_of_it_is_in_the_history() -> None:
    async def scenario(env: testing.Environment) -> None:
        await env.client.execute("f", floods, 1_000)
        records = await env.client.history("f")
        assert [type(event).__name__ for record in records for event in record.events] == [
            "WorkflowStarted",
            "WorkflowCompleted",
        ]

    played(scenario)


def test_too_much_in_one_activation_is_refused() -> None:
    async def scenario(env: testing.Environment) -> None:
        await env.client.start("f", floods, 20_000)
        assert "more than 10000 values" in (await env.client.state("f")).reason

    played(scenario)


def test_misuse_is_named() -> None:
    async def scenario(env: testing.Environment) -> None:
        chat = await env.client.start("c", Chat.process, 1)
        with pytest.raises(QueryFailed, match="Those may only read"):
            await chat.query(Chat.misuses)
        with pytest.raises(WorkflowNotFound):
            await anext(env.client.get("nobody", Chat.process).stream("answer", Delta))

    played(scenario)
    with pytest.raises(UsageError, match="In an activity or step use"):
        workflow.stream("answer", Delta)
    with pytest.raises(UsageError, match="name of a stream"):
        activity.stream("")
    activity.stream("answer", Delta).write(Delta("in a test it goes nowhere"))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_on_one_machine_a_thread_writes_many_and_another_client_reads_them(
    where: str, tmp_path: Path
) -> None:
    async def main(platform: Platform) -> None:
        client = platform.client()
        run = await client.start("n", counts, 2_000)
        assert [each async for each in run.stream("numbers", int)] == list(range(2_000))
        assert await run.result() == 2_000

    url = "memory://" if where == "memory" else f"sqlite:///{tmp_path}/app.db"
    with Platform(REGISTRY, url) as platform:
        asyncio.run(main(platform))
    if where == "file":
        printed = CliRunner().invoke(
            app, ["workflow", "stream", "n", "numbers", "--after", "1997", "--db", url]
        )
        assert printed.stdout.splitlines() == ["1997", "1998", "1999"], printed.output
        with SyncClient.connect(url) as client:
            assert list(client.get("n", counts).stream("numbers", int, after=1_998)) == [1_998, 1_999]
