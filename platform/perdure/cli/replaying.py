"""Replay recorded histories under several hash seeds, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perdure.model.events import EventRecord
    from perdure.registry import Registry

SEEDS: Final = ("0", "1", "2", "3")
PAGE: Final = 500
PROCESS: Final = "from perdure.cli.replaying import main; main()"


@dataclass(frozen=True)
class Replayed:
    """The outcome of all replays.

    Attributes:
        runs: how many histories there are.
        seeds: under how many hash seeds each was replayed.
        diverged: one line a history and fault.
    """

    runs: int
    seeds: int
    diverged: list[str]


class Report(msgspec.Struct):
    """The outcome of one process."""

    runs: int
    diverged: list[str]


def replay_histories(target: str, directory: Path | None, db: str) -> Replayed:
    """Replay every history of a directory, of a database, or of both.

    Raises:
        UsageError: there is none, or one cannot be read.
        InfrastructureError: the database cannot be read.
    """
    runs, diverged = 0, dict[str, list[str]]()
    for seed in SEEDS:
        done = subprocess.run(  # noqa: S603 our own interpreter
            [sys.executable, "-P", "-c", PROCESS, target, str(directory or ""), db],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError(said[-1] if said else f"the replay ended with exit code {done.returncode}")
        report = msgspec.json.decode(done.stdout, type=Report)
        runs = report.runs
        for message in report.diverged:
            diverged.setdefault(message, []).append(seed)
    lines = [
        message if seeds == list(SEEDS) else f"{message} (only under PYTHONHASHSEED={','.join(seeds)})"
        for message, seeds in diverged.items()
    ]
    return Replayed(runs, len(SEEDS), lines)


def main() -> None:
    """Replay in this process; the report goes to standard output, what is wrong with the input to standard error."""
    from perdure.cli import one_line
    from perdure.cli.dev import database_url
    from perdure.cli.serving import load_and_register

    target, directory, db = sys.argv[1:]
    out = os.dup(1)
    os.dup2(2, 1)  # what the app prints is not the report
    try:
        _, registry = load_and_register(target)
        histories = [*_in_directory(Path(directory))] if directory else []
        histories += asyncio.run(_in_database(database_url(db))) if db else []
    except (UsageError, InfrastructureError) as error:
        sys.exit(one_line(error))
    if not histories:
        sys.exit(f"no histories in {' or '.join(filter(None, (directory, db)))}")
    report = Report(len(histories), [fault for name, records in histories for fault in _replay(registry, name, records)])
    with os.fdopen(out, "wb") as pipe:
        pipe.write(msgspec.json.encode(report))


def _in_directory(directory: Path) -> Iterator[tuple[str, Sequence[EventRecord]]]:
    from perdure.codec.history import history_from_json

    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    for file in sorted(directory.glob("*.json")):
        try:
            yield file.name, history_from_json(file.read_bytes())
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None


async def _in_database(url: str) -> list[tuple[str, Sequence[EventRecord]]]:
    from perdure.client import Client

    histories: list[tuple[str, Sequence[EventRecord]]] = []
    async with Client.connect(url) as client:
        page = await client.list(limit=PAGE)
        while page:
            histories += [(state.workflow_id, await client.history(state.workflow_id, state.run_id)) for state in page]
            page = await client.list(limit=PAGE, after=page[-1])
    return histories


def _replay(registry: Registry, name: str, records: Sequence[EventRecord]) -> Iterator[str]:
    from perdure.codec.payloads import JsonPayloads
    from perdure.errors import ReplayError
    from perdure.model.events import WorkflowStarted
    from perdure.replay.live import SUSPENDING, LiveRun

    first, started = records[0], records[0].events[0]
    if not isinstance(started, WorkflowStarted):
        yield f"{name}: the history does not begin with WorkflowStarted"
        return
    definition = registry.workflows.get(started.type)
    if definition is None:
        yield f"{name}: the app has no workflow type {started.type!r}"
        return
    run = LiveRun(definition, first.workflow_id, first.run_id, started, first.at, JsonPayloads())
    try:
        run.replay(records)
    except (ReplayError, *SUSPENDING) as error:
        yield f"{name}: {' '.join(str(error).split())}"
    finally:
        run.evict()
