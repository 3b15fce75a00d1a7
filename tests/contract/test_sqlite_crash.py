"""Real processes, killed with SIGKILL: a batch is in the file whole, or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from perdure.adapters.sqlite.file import SqliteFile, connect
from perdure.codec.records import encode_command
from perdure.model.commands import SignalWorkflow

ROOT = Path(__file__).parents[2]


def crasher(path: Path, *arguments: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.crasher", str(path), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def with_commands(path: Path, count: int) -> Path:
    file = SqliteFile(path)
    file.open()
    rows = [(encode_command(SignalWorkflow(f"w-{number:05}", name="go")),) for number in range(count)]
    with file.transaction() as connection:
        connection.executemany("INSERT INTO commands (record) VALUES (?)", rows)
    file.close()
    return path


def counts(path: Path) -> dict[str, int]:
    with closing(connect(path, 5.0)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = ("commands", "events", "timers", "tasks", "workflows", "replies")
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def assert_whole(found: dict[str, int], total: int) -> None:
    done = found["events"]
    assert found == {
        "commands": total - done,
        **dict.fromkeys(("events", "timers", "tasks", "workflows", "replies"), done),
    }


def test_a_process_killed_before_any_statement_of_a_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    whole = crasher(with_commands(tmp_path / "whole.db", 5), 10_000)
    output, _ = whole.communicate(timeout=60)
    statements = int(output.split()[-1])
    assert statements > 15
    running = {
        number: crasher(with_commands(tmp_path / f"{number}.db", 5), number)
        for number in range(1, statements + 1, 2)
    }
    for number, process in running.items():
        process.communicate(timeout=60)
        assert process.returncode == -9
        found = counts(tmp_path / f"{number}.db")
        assert found["events"] == 0, "the commit is the last statement"
        assert_whole(found, 5)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_process_killed_at_random_loses_nothing_and_does_nothing_twice(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    total = 4_000
    path = with_commands(tmp_path / "app.db", total)
    for _ in range(4):
        process = crasher(path)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        until = monotonic() + chance.uniform(0.0, 0.08)
        while monotonic() < until:  # a kill at any moment is the point; there is nothing to wait for
            pass
        process.kill()
        process.communicate(timeout=60)
        assert_whole(counts(path), total)
    last = crasher(path)
    output, _ = last.communicate(timeout=100)
    assert output.split() == ["open", "drained"]
    found = counts(path)
    assert_whole(found, total)
    assert found["commands"] == 0


def test_a_child_that_the_killed_owner_forked_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    code = (
        "import os, signal, sys, time\n"
        "from perdure.adapters.sqlite.file import SqliteFile\n"
        "file = SqliteFile(sys.argv[1])\n"
        "file.open()\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    try:
        assert owner.wait(60) == -9
        file = SqliteFile(path)
        file.open()
        file.close()
    finally:
        os.kill(child, signal.SIGKILL)
        owner.stdout.close()


def test_a_killed_owner_holds_no_lock(tmp_path: Path) -> None:
    path = with_commands(tmp_path / "app.db", 4_000)
    process = crasher(path)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate(timeout=60)
    file = SqliteFile(path)
    file.open()
    file.close()
