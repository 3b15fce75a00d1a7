"""Replays recorded histories under several hash seeds, each in a separate process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.authoring.workflow_type import definition_of_run, why_unknown
from perdure.builtin.schedule import SCHEDULE
from perdure.cli.error_line import one_line
from perdure.cli.loading import load_and_register
from perdure.cli.options.database import database_url
from perdure.cli.rendering import CELL
from perdure.client import Client
from perdure.codec.history import history_from_json
from perdure.codec.payloads import JsonPayloads
from perdure.core.actions import in_words
from perdure.errors import InfrastructureError, UsageError
from perdure.model.actions import ScheduleActivity
from perdure.model.events import WorkflowFailed, WorkflowStarted
from perdure.replay import eviction
from perdure.replay.live import LiveRun
from perdure.replay.suspensions import SUSPENDING_ERRORS
from perdure.replay.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perdure.model.actions import AnyAction
    from perdure.model.events import AnyEvent, EventRecord
    from perdure.registry import Registry

SEEDS: Final = ("0", "1", "2", "3")
PAGE: Final = 500
BLOCK_LIMIT_S: Final = 10.0
PROCESS: Final = "from perdure.cli.replaying import main; main()"


@dataclass(frozen=True)
class Replayed:
    """The outcome of all replays.

    Attributes:
        runs: the number of histories.
        seeds: the number of hash seeds that each was replayed under.
        diverged: one line per history and fault, including unreadable histories.
        over: the same for runs of the database that have failed and closed. Fixed code diverges
            from their histories, but they will not continue.
    """

    runs: int
    seeds: int
    diverged: list[str]
    over: list[str]


class Outcome(msgspec.Struct):
    """Result of one history in one process.

    Attributes:
        name: the name of the file, or the workflow's id.
        fault: how the code differs from the history; empty: it does not.
        did: the code's actions, as text, with a digest of their contents.
        is_over: whether the run has failed and closed.
        unpatched: the ids of patches whose old branch it takes.
    """

    name: str
    fault: str
    did: list[tuple[str, str]]
    is_over: bool = False
    unpatched: list[str] = []


def replay_histories(target: str, directory: Path | None, db: str) -> Replayed:
    """Replay every history of a directory, of a database, or of both.

    Raises:
        UsageError: there are no histories, or the directory or the database cannot be read.
    """
    by_seed = {seed: _in_a_process(seed, target, directory, db) for seed in SEEDS}
    histories = list(zip(*by_seed.values(), strict=True))
    found: dict[bool, list[str]] = {True: [], False: []}
    for outcomes in histories:
        found[outcomes[0].is_over] += _compared(dict(zip(SEEDS, outcomes, strict=True)))
    return Replayed(len(histories), len(SEEDS), diverged=found[False], over=found[True])


def _in_a_process(seed: str, target: str, directory: Path | None, db: str) -> list[Outcome]:
    done = subprocess.run(  # noqa: S603 our own interpreter
        [sys.executable, "-P", "-c", PROCESS, target, str(directory or ""), db],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(said[-1] if said else f"the replay ended with exit code {done.returncode}")
    return msgspec.json.decode(done.stdout, type=list[Outcome])


def _compared(outcomes: dict[str, Outcome]) -> Iterator[str]:
    """The fault of one history, or the first difference between hash seeds."""
    faults: dict[str, list[str]] = {}
    for seed, outcome in outcomes.items():
        if outcome.fault:
            faults.setdefault(f"{outcome.name}: {outcome.fault}", []).append(seed)
    for fault, seeds in faults.items():
        yield (
            fault if len(seeds) == len(outcomes) else f"{fault} (only under PYTHONHASHSEED={','.join(seeds)})"
        )
    if faults:
        return
    for wanted in zip_longest(
        *(outcome.did for outcome in outcomes.values()), fillvalue=("nothing more", "")
    ):
        by_words = {
            words: f"PYTHONHASHSEED={seed}"
            for seed, (words, _) in reversed(list(zip(outcomes, wanted, strict=True)))
        }
        if len(set(wanted)) > 1:
            yield f"{outcomes[SEEDS[0]].name}: has a different result in another process: " + "; ".join(
                f"{words} under {seed}" for words, seed in by_words.items()
            )
            return


def main() -> None:
    """Replay in this process. The report goes to standard output, errors in the input to standard
    error.
    """
    target, directory, db = sys.argv[1:]
    out = os.dup(1)
    os.dup2(2, 1)  # keep the app's output out of the report
    try:
        _, registry = load_and_register(target)
        histories: list[tuple[str, Sequence[EventRecord] | Exception, bool]] = []
        if directory:
            histories += [(name, found, False) for name, found in _in_directory(Path(directory))]
        if db:
            stored = asyncio.run(_in_database(database_url(db)))
            histories += [(name, records, _has_failed(records)) for name, records in stored]
    except (UsageError, InfrastructureError) as error:
        sys.exit(one_line(error))
    if not histories:
        sys.exit(f"no histories in {' or '.join(filter(None, (directory, db)))}")
    eviction.install_hooks()
    watchdog = Watchdog(BLOCK_LIMIT_S)
    outcomes = [
        Outcome(name, one_line(records), [])
        if isinstance(records, Exception)
        else msgspec.structs.replace(replayed(registry, name, records, watchdog), is_over=is_over)
        for name, records, is_over in histories
    ]
    with os.fdopen(out, "wb") as pipe:
        pipe.write(msgspec.json.encode(outcomes))


def _in_directory(directory: Path) -> Iterator[tuple[str, Sequence[EventRecord] | Exception]]:
    """Each history with the name of its file; for an unreadable one, the reason."""
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    for file in sorted(directory.glob("*.json")):
        try:
            yield file.name, history_from_json(file.read_bytes())
        except (UsageError, OSError) as error:
            yield file.name, error


def _has_failed(records: Sequence[EventRecord]) -> bool:
    return bool(records) and isinstance(records[-1].events[-1], WorkflowFailed)


async def _in_database(url: str) -> list[tuple[str, Sequence[EventRecord]]]:
    histories: list[tuple[str, Sequence[EventRecord]]] = []
    async with Client.connect(url) as client:
        for types in ((), (SCHEDULE.name,)):
            page = await client.list(limit=PAGE, type=types)
            while page:
                histories += [
                    (state.workflow_id, await client.history(state.workflow_id, state.run_id))
                    for state in page
                ]
                page = await client.list(limit=PAGE, type=types, after=page[-1])
    return histories


def replayed(registry: Registry, name: str, records: Sequence[EventRecord], watchdog: Watchdog) -> Outcome:
    """Replay one history in this process.

    Args:
        registry: the app's registry.
        name: the name in the outcome.
        records: the history.
        watchdog: interrupts code that blocks.
    """
    if not records or not records[0].events:
        return Outcome(name, "the history is empty", [])
    first, started = records[0], records[0].events[0]
    if not isinstance(started, WorkflowStarted):
        return Outcome(name, "the history does not begin with WorkflowStarted", [])
    definition = definition_of_run(registry.served, started)
    if definition is None:
        if started.type in registry.served:
            return Outcome(name, why_unknown(registry.served, started), [])
        return Outcome(name, f"the app has no workflow type {started.type!r}", [])
    run = _TracedRun(
        definition,
        first.workflow_id,
        first.run_id,
        started=started,
        started_at=first.at,
        payloads=JsonPayloads.of(registry.app),
        interceptors=tuple(registry.app.interceptors),
        watch=watchdog,
    )
    run.did = []
    try:
        run.replay(records)
    except SUSPENDING_ERRORS as error:
        return Outcome(name, one_line(error), run.did)
    finally:
        unpatched = sorted(run.runtime.patches.unpatched)
        run.evict()
    return Outcome(name, "", run.did, unpatched=unpatched)


class _TracedRun(LiveRun):
    """A run that remembers all actions of the code, including arguments; a replay compares only
    kinds, numbers and names.
    """

    did: list[tuple[str, str]]

    def apply(self, event: AnyEvent, at: int, history_length: int = 0) -> list[AnyAction]:
        actions = super().apply(event, at, history_length)
        self.did.extend(map(_traced, actions))
        return actions


def _traced(action: AnyAction) -> tuple[str, str]:
    words = in_words(action)
    if isinstance(action, ScheduleActivity):
        words += f" with {action.input.decode(errors='replace')[:CELL]}"
    return words, blake2b(msgspec.msgpack.encode((type(action).__name__, action)), digest_size=16).hexdigest()
