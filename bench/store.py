"""What the SQLite log and store cost: microseconds a run committed, bytes a sleeping run, seconds
to open. Prints JSON.

python bench/store.py [--sleeping 100000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.file import SqliteFile
from perdure.adapters.sqlite.log import SqliteLog
from perdure.adapters.sqlite.store import SqliteStore
from perdure.codec.records import encode_event_record, hash_of
from perdure.engine.ports import Batch
from perdure.model.events import (
    ActivityCompleted,
    ActivityScheduled,
    AnyEvent,
    EventRecord,
    TimerStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from perdure.model.options import ActivityOptions
from perdure.model.states import Status, WorkflowState
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind

START_US = 1_790_000_000_000_000


class Runs:
    """Writes the batches that an engine would write for orders that sleep."""

    def __init__(self) -> None:
        self._at = START_US
        self._count = 0

    def started(self, count: int) -> tuple[Batch, list[tuple[str, str]]]:
        """`count` new runs, each with an activity dispatched."""
        batch = self._batch()
        runs: list[tuple[str, str]] = []
        for _ in range(count):
            self._count += 1
            workflow_id, run_id = f"order-{self._count:08}", f"{self._at // 1000:012x}{os.urandom(7).hex()}"
            runs.append((workflow_id, run_id))
            options, token = ActivityOptions(), os.urandom(8).hex()
            events: list[AnyEvent] = [
                WorkflowStarted(
                    "Order", b'["burrata"]', 311, int.from_bytes(os.urandom(7)), os.urandom(16).hex()
                ),
                ActivityScheduled(1, "charge", b'["order-00000001", 4200]', options, token),
            ]
            _put_events(batch, EventRecord(workflow_id, run_id, 1, batch.at, -1, -1, b"", events))
            batch.states[workflow_id] = _state(workflow_id, run_id, batch.at, b'"charging"')
            batch.tasks[run_id, 1] = Task(
                workflow_id,
                run_id,
                1,
                1,
                token,
                "charge",
                "default",
                b'["order-00000001", 4200]',
                60_000_000,
                f"{run_id}-1",
                batch.at,
            )
        return batch, runs

    def asleep(self, runs: list[tuple[str, str]]) -> Batch:
        """Their activities have completed, and they sleep for a month."""
        batch = self._batch()
        for workflow_id, run_id in runs:
            fires_at = batch.at + 30 * 86_400_000_000
            events: list[AnyEvent] = [
                ActivityCompleted(1, b'{"receipt":"r-123456","cents":4200}'),
                TimerStarted(1, fires_at),
            ]
            _put_events(batch, EventRecord(workflow_id, run_id, 3, batch.at, -1, -1, os.urandom(16), events))
            batch.states[workflow_id] = _state(workflow_id, run_id, batch.at, b'"paid"')
            batch.tasks_ended.add((run_id, 1))
            batch.timers.add(Timer(fires_at, run_id, TimerKind.CODE, 1, workflow_id))
        return batch

    def in_steps(self, count: int) -> Batch:
        """`count` runs that start, do three steps and end, all in one batch."""
        batch = self._batch()
        for _ in range(count):
            self._count += 1
            workflow_id, run_id = f"order-{self._count:08}", f"{self._at // 1000:012x}{os.urandom(7).hex()}"
            events: list[AnyEvent] = [
                WorkflowStarted(
                    "Order", b'["burrata"]', 311, int.from_bytes(os.urandom(7)), os.urandom(16).hex()
                )
            ]
            for number in (1, 2, 3):
                events.append(
                    ActivityScheduled(
                        number,
                        "charge",
                        b'["order-00000001", 4200]',
                        ActivityOptions(queue=""),
                        "0123456789abcdef",
                    )
                )
                events.append(ActivityCompleted(number, b"null"))
            events.append(WorkflowCompleted(b"null"))
            _put_events(batch, EventRecord(workflow_id, run_id, 1, batch.at, -1, -1, b"", events))
            batch.states[workflow_id] = _state(workflow_id, run_id, batch.at, b'"paid"', Status.COMPLETED)
        return batch

    def _batch(self) -> Batch:
        self._at += 5_000
        return Batch(self._at)


def _put_events(batch: Batch, record: EventRecord) -> None:
    encoded = encode_event_record(record)
    hash_of(encoded)
    batch.events.append((record, encoded))


def _state(
    workflow_id: str, run_id: str, at: int, view: bytes, status: Status = Status.RUNNING
) -> WorkflowState:
    return WorkflowState(workflow_id, run_id, "Order", status, at, at, at if status.is_closed else 0, 2, view)


def commit_cost(directory: Path) -> dict[str, dict[str, float]]:
    """Median microseconds a run, fsync and all, of commits of different sizes."""
    file = SqliteFile(directory / "commits.db")
    log, store = SqliteLog(file, Channel()), SqliteStore(file)
    log.open()
    store.open()
    runs, found = Runs(), dict[str, dict[str, float]]()
    for size in (1, 8, 64, 256):
        times: dict[str, list[float]] = {"start": [], "sleep": [], "three_steps": []}
        for _ in range(max(20, 2_000 // size)):
            started, ids = runs.started(size)
            times["start"].append(_timed(log, store, started))
            times["sleep"].append(_timed(log, store, runs.asleep(ids)))
            times["three_steps"].append(_timed(log, store, runs.in_steps(size)))
        found[str(size)] = {name: round(median(each) / size * 1e6, 2) for name, each in times.items()}
    store.close()
    log.close()
    return found


def _timed(log: SqliteLog, store: SqliteStore, batch: Batch) -> float:
    begun = perf_counter()
    log.commit(batch)
    store.apply(batch)
    return perf_counter() - begun


def sleeping(directory: Path, count: int) -> dict[str, float]:
    """Bytes on disk of a run that sleeps, and how long a restart takes until the first commands can
    be taken."""
    path = directory / "sleeping.db"
    file = SqliteFile(path)
    log = SqliteLog(file, Channel())
    log.open()
    runs, waiting = Runs(), list[tuple[str, str]]()
    begun = perf_counter()
    while runs._count < count:  # noqa: SLF001
        log.commit(runs.asleep(waiting))
        batch, waiting = runs.started(min(256, count - runs._count))  # noqa: SLF001
        log.commit(batch)
    log.commit(runs.asleep(waiting))
    written_s = perf_counter() - begun
    log.close()
    size = sum(each.stat().st_size for each in directory.glob("sleeping.db*"))
    begun = perf_counter()
    file = SqliteFile(path)
    log, store = SqliteLog(file, Channel()), SqliteStore(file)
    log.open()
    store.open()
    store.timers(None, 1_000)
    store.suspended()
    store.tasks()
    log.take(100, 0.0)
    open_s = perf_counter() - begun
    store.close()
    log.close()
    return {
        "runs": count,
        "bytes_a_run": round(size / count, 1),
        "open_s": round(open_s, 4),
        "written_s": round(written_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleeping", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        print(
            json.dumps(
                {"us_a_run": commit_cost(directory), "sleeping": sleeping(directory, arguments.sleeping)},
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
