"""Versions of a workflow type: new runs take the newest, open ones keep theirs."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.cli import upgrade_gate
from perdure.embedded import Platform
from perdure.errors import UsageError
from perdure.registry import Registry


def perdure(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PERDURE_URL": "", "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip


@workflow.defn(name="Order")
class Order:
    def __init__(self) -> None:
        self.is_over = False

    @workflow.run
    async def process(self) -> str:
        await workflow.wait_until(lambda: self.is_over)
        return "first"

    @workflow.signal
    def end(self) -> None:
        self.is_over = True


@workflow.defn(name="Order", version=2)
class NewOrder(Order):
    @workflow.run
    async def process(self) -> str:
        await workflow.sleep("1ms")
        await workflow.wait_until(lambda: self.is_over)
        return "second"


@workflow.defn(name="Order", version=2)
class OtherOrder(NewOrder):
    pass


def test_two_versions_with_one_number_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'Order' and the version 2: .*NewOrder .* and .*OtherOrder"):
        Registry.of([Order, NewOrder, OtherOrder])
    both = Registry.of([NewOrder, Order])
    assert [each.version for each in both.definitions] == [2, 1]
    assert Registry.of(both.definitions).workflows["Order"].all_versions[1].cls is Order


@pytest.mark.parametrize("version", [0, -1, "2", True, 1.5, 10**12])
def test_a_version_is_a_whole_number(version: Any) -> None:
    with pytest.raises(UsageError, match=r"test_versions.py:\d+: workflow.defn: version must be"):
        workflow.defn(version=version)


def test_open_runs_keep_their_version_and_new_ones_take_the_newest(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"

    async def started(platform: Platform, id: str) -> None:
        await platform.client().start(id, Order.process)

    async def ended(platform: Platform, id: str) -> str:
        handle = platform.client().get(id, Order.process)
        await handle.signal(Order.end)
        return await handle.result()

    with Platform(Registry.of([Order]), url) as platform:
        asyncio.run(started(platform, "old"))
    with Platform(Registry.of([NewOrder]), url) as platform:

        async def why() -> str:
            async with asyncio.timeout(20):
                while not (state := await platform.client().state("old")).reason:
                    await asyncio.sleep(0.01)
            return state.reason

        assert "began with version 1 of the workflow type 'Order', and there is only 2" in asyncio.run(why())
    with Platform(Registry.of([Order, NewOrder]), url) as platform:
        asyncio.run(started(platform, "new"))
        assert asyncio.run(ended(platform, "old")) == "first"
        assert asyncio.run(ended(platform, "new")) == "second"


def test_the_commands_count_open_runs_and_say_which_version_may_be_deleted(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    db = f"sqlite:///{tmp_path}/perdure.db"

    async def started(platform: Platform, id: str) -> None:
        client = platform.client()
        await client.start(id, Order.process)

    with Platform(Registry.of([Order]), db) as platform:
        asyncio.run(started(platform, "old"))
    with Platform(Registry.of([Order, NewOrder]), db) as platform:
        asyncio.run(started(platform, "new"))
        asyncio.run(started(platform, "newer"))
    head = "from perdure import workflow\n\n\n"
    first, second = (inspect.getsource(each) for each in (Order, NewOrder))
    app.write_text(head + first + "\n\n" + second)
    done = perdure(tmp_path, "workflow", "versions", "app.py", "--db", db, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert [(each["version"], each["open"], each["advice"]) for each in json.loads(done.stdout)] == [
        (1, 1, "is needed"),
        (2, 2, "new runs take it"),
    ]
    assert perdure(tmp_path, "check", "app.py", "--live", "--db", db).returncode == 0
    app.write_text(head + first)
    done = perdure(tmp_path, "check", "app.py", "--live", "--db", db)
    assert done.returncode == 1
    assert "version 2 of the workflow type 'Order', and there is only 1" in done.stdout
    done = perdure(tmp_path, "workflow", "versions", "app.py", "--db", db)
    assert done.returncode != 0
    assert "missing in the app" in done.stdout
    assert "no version 2 of Order" in done.stderr


@activity.step
async def note(what: str) -> str:
    return what


@workflow.defn
async def waits_somewhere(where: int) -> None:
    if workflow.patched("more-notes"):
        await note("more")
    for _ in range(where):
        await note("on the way")
    if where % 2:
        await workflow.sleep("30 days")
    await workflow.token(int)


def test_of_many_runs_one_is_replayed_for_each_place_where_runs_wait(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    registry = Registry.of([waits_somewhere], [note])

    async def start(platform: Platform) -> None:
        client = platform.client()
        for number, where in enumerate([0, 0, 0, 0, 1, 0, 0, 0, 0]):
            await client.start(f"w-{number}", waits_somewhere, where)
        async with asyncio.timeout(20):
            while len([each for each in await client.list() if each.waits]) < 9:
                await asyncio.sleep(0.01)

    with Platform(registry, url) as platform:
        asyncio.run(start(platform))
    (found,) = asyncio.run(upgrade_gate._replayed(registry, url, 2))
    assert (found.open, found.replayed, found.places) == (9, 3, 2)
    assert not found.broken
    (every,) = asyncio.run(upgrade_gate._replayed(registry, url, 0))
    assert (every.replayed, every.places, every.unpatched) == (9, 2, {})


def test_check_says_whether_the_old_branch_of_a_patch_is_needed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/perdure.db"
    after = inspect.getsource(waits_after).replace("waits_after", "waiting")
    head = "from perdure import workflow\n\n\n"
    old, new = workflow.defn(name="waiting")(waits_before), workflow.defn(name="waiting")(waits_after)
    for name, definition in (("old", old), ("new", new)):
        with Platform(Registry.of([definition]), url) as platform:
            asyncio.run(_started(platform, name, definition))
    app = tmp_path / "app.py"
    app.write_text(head + "@workflow.defn\n" + after)
    done = perdure(tmp_path, "check", "app.py", "--live", "--db", url)
    assert "app.py:6: patch 'longer': 1 open run takes its old branch" in done.stdout, done.stdout
    with Platform(Registry.of([new]), url) as platform:
        asyncio.run(_terminated(platform, "old"))
    done = perdure(tmp_path, "check", "app.py", "--live", "--db", url)
    assert "patch 'longer': no open run needs its old branch; it may be deleted" in done.stdout


async def waits_before() -> None:
    await workflow.sleep("30 days")


async def waits_after() -> None:
    if workflow.patched("longer"):
        await workflow.sleep("31 days")
    else:
        await workflow.sleep("30 days")


async def _started(platform: Platform, id: str, definition: Any) -> None:
    client = platform.client()
    await client.start(id, definition)
    async with asyncio.timeout(20):
        while not (await client.state(id)).waits:
            await asyncio.sleep(0.01)


async def _terminated(platform: Platform, id: str) -> None:
    await platform.client().get(id, Order.process).terminate("enough")
