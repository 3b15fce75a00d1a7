"""`perdure check` goes through all histories: also those that cannot be read, and failed runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perdure import workflow
from perdure.cli.replaying import replay_histories
from perdure.codec.history import history_to_json
from perdure.embedded import Platform
from perdure.errors import WorkflowFailed
from perdure.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.model.events import EventRecord

APP = """
from perdure import workflow

@workflow.defn
async def divides(by: int) -> float:
    return 1 / by

@workflow.defn
async def sleeps() -> None:
    await workflow.sleep("1h")
"""


@workflow.defn
async def divides(by: int) -> float:
    return 1 / by


@workflow.defn
async def sleeps() -> None:
    await workflow.sleep("1h")


def check(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli", "check", "app.py", *options],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[EventRecord]:
    """A database with a run that has failed and one that sleeps; the history of the latter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "histories").mkdir()

    async def program() -> Sequence[EventRecord]:
        async with platform.client() as client:
            run = await client.start("failed", divides, 0)
            with pytest.raises(WorkflowFailed):
                await run.result()
            await client.start("open", sleeps)
            return await client.history("open", (await client.describe("open")).run_id)

    with Platform(Registry.of([divides, sleeps], [], []), "sqlite:///perdure.db") as platform:
        return asyncio.run(program())


def test_histories_that_cannot_be_read_are_named_and_the_others_are_replayed(
    recorded: Sequence[EventRecord],
) -> None:
    good = history_to_json(recorded).encode()
    for name, data in {"a.json": b"{", "b.json": good, "c.json": b"[]", "e.json": b"\xff\xfe"}.items():
        Path("histories", name).write_bytes(data)
    Path("histories/d.json").mkdir()
    done = check("--histories", "histories")
    assert done.returncode == 1
    named = [line.partition(":")[0] for line in done.stdout.splitlines() if ": " in line]
    assert named == ["a.json", "c.json", "d.json", "e.json"]
    assert "5 histories replayed under 4 hash seeds, 4 diverged" in done.stdout


def test_a_failed_run_that_fixed_code_would_end_otherwise_breaks_nothing(
    recorded: Sequence[EventRecord],
) -> None:
    assert recorded
    Path("app.py").write_text(APP.replace("1 / by", "1 / (by or 1)"))
    found = replay_histories("app.py", None, "sqlite:///perdure.db")
    assert (found.runs, found.diverged) == (2, [])
    assert [line.partition(":")[0] for line in found.over] == ["failed"]
    done = check("--db", "sqlite:///perdure.db")
    assert done.returncode == 0
    assert "has failed and closed, so that nothing breaks: failed: " in done.stdout
    Path("app.py").write_text(APP.replace('await workflow.sleep("1h")', "return None"))
    assert replay_histories("app.py", None, "sqlite:///perdure.db").diverged != []
