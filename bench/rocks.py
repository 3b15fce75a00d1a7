"""What the Kafka engine's store costs: a batch, a sleeping run (memory, disk, time to open), a scan
of timers that have fired. Prints JSON.

usage: python -m bench.rocks [--sleeping 1000000] [--partitions 4]

Batches are written as the engine's thread does; the store with sleeping runs is opened in a fresh
process, which then does what an engine does at first: reads the head of the timers, tasks,
suspended runs, and 10,000 runs at random.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

from bench.restore import START_US, chance, ids, rss_bytes, sleeping
from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.store import PartitionedStore
from perdure.codec.avro import EVENTS
from perdure.core.run import public_state, record, start
from perdure.core.state import RunState
from perdure.engine.outbox import BatchOutbox
from perdure.engine.ports import Batch
from perdure.model.events import EventRecord, WorkflowStarted
from perdure.model.timers import Timer, TimerKind

SIZE = 250


class NoSteps:
    def start(self, tasks: object) -> None: ...

    def start_inline(self, tasks: object) -> None: ...

    def cancel(self, run_id: str, number: int) -> None: ...


def batches(first: int, partition_of: Callable[[str], int]) -> list[Batch]:
    """What leads `SIZE` runs to where they sleep: two batches."""
    found: list[Batch] = []
    runs: dict[int, RunState] = {}
    for step in (0, 1):
        outbox = BatchOutbox(NoSteps())
        at = START_US + first + step
        outbox.begin(at)
        for number in range(first, first + SIZE):
            workflow_id, run_id = ids(number)
            events = sleeping(number)[step]
            before = runs[number].last_event_id if step else 0
            for event in events:
                if isinstance(event, WorkflowStarted):
                    runs[number] = start(workflow_id, run_id, event, at, outbox)
                    continue
                record(runs[number], event, at, outbox)
            written = EventRecord(
                workflow_id,
                run_id,
                before + 1,
                at,
                partition_of(workflow_id),
                first,
                bytes.fromhex(chance(at, 16)) if step else b"",
                events,
            )
            outbox.batch.events.append((written, EVENTS.encode(written)))
            outbox.batch.states[workflow_id] = public_state(runs[number], b'"paid"')
        found.append(outbox.batch)
    return found


def opened(path: Path, partitions: int) -> PartitionedStore:
    store = PartitionedStore(
        path,
        "bench",
        lambda workflow_id: int(workflow_id[6:]) % partitions,
        lambda message: print(message, file=sys.stderr),
    )
    restorer = PartitionRestorer(store)
    for partition in range(partitions):
        restorer.restored(partition, restorer.open(partition, 1 << 40) or 0)
    return store


def fill(path: Path, runs: int, partitions: int) -> dict[str, object]:
    store = opened(path, partitions)
    times: list[float] = []
    for first in range(0, runs, SIZE):
        for batch in batches(first, lambda workflow_id: int(workflow_id[6:]) % partitions):
            store.reached(dict.fromkeys(range(partitions), first))
            begun = perf_counter()
            store.apply(batch)
            times.append(perf_counter() - begun)
    store.close()
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "apply_us_per_run": round(median(times) / SIZE * 1e6, 1),
        "apply_p99_ms": round(sorted(times)[len(times) * 99 // 100] * 1e3, 1),
        "disk_bytes_per_run": round(size / runs),
        "rss_mb_after_writing": round(rss_bytes() / 1e6),
    }


def wake_up(path: Path, runs: int, partitions: int) -> dict[str, object]:
    before = rss_bytes()
    begun = perf_counter()
    store = opened(path, partitions)
    open_s = perf_counter() - begun
    begun = perf_counter()
    head = store.timers(None, 10_000)
    store.tasks(range(partitions))
    store.suspended(range(partitions))
    head_s = perf_counter() - begun
    after_open = rss_bytes()
    which = random.Random(1)
    begun, begun_cpu = perf_counter(), thread_time()
    for _ in range(10_000):
        workflow_id, run_id = ids(which.randrange(runs))
        assert store.state(workflow_id) is not None
        assert len(store.events(workflow_id, run_id)) == 2
        assert store.last_hash(workflow_id, run_id)
    read_s, read_cpu_s = perf_counter() - begun, thread_time() - begun_cpu
    assert len(head) == min(10_000, runs)
    found: dict[str, object] = {
        "open_s": round(open_s, 3),
        "head_s": round(head_s, 3),
        "rss_mb_before": round(before / 1e6),
        "rss_mb_open": round(after_open / 1e6),
        "rss_mb_after_10000_reads": round(rss_bytes() / 1e6),
        "read_us": round(read_s / 10_000 * 1e6),
        "read_cpu_us": round(read_cpu_s / 10_000 * 1e6),
    }
    store.close()
    return found


def fired(path: Path) -> dict[str, object]:
    """The scan for the first timer after 100,000 have fired, from the saved cursor and without
    it."""
    store = opened(path, 1)
    timers = [
        Timer(START_US + number, "run", TimerKind.CODE, number, "order-00000000") for number in range(100_001)
    ]
    for first in range(0, 100_001, 1_000):
        batch = Batch(START_US)
        batch.timers = set(timers[first : first + 1_000])
        store.apply(batch)
    for first in range(0, 100_000, 1_000):
        batch = Batch(START_US)
        batch.timers_ended = set(timers[first : first + 1_000])
        store.apply(batch)
    found: dict[str, object] = {}
    for name in ("scan_without_cursor_us", "scan_from_cursor_us"):
        begun = perf_counter()
        assert store.timers(None, 1) == timers[-1:]
        found[name] = round((perf_counter() - begun) * 1e6)
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleeping", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--wake-up", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    runs, partitions = arguments.sleeping, arguments.partitions
    if arguments.wake_up is not None:
        print(json.dumps(wake_up(arguments.wake_up, runs, partitions)))
        return
    with tempfile.TemporaryDirectory() as folder:
        filled = fill(Path(folder, "sleeping"), runs, partitions)
        command = [
            sys.executable,
            "-m",
            "bench.rocks",
            "--sleeping",
            str(runs),
            "--partitions",
            str(partitions),
        ]
        fresh = subprocess.run(
            [*command, "--wake-up", f"{folder}/sleeping"], check=True, capture_output=True, text=True
        )
        figures = {
            "sleeping": runs,
            "partitions": partitions,
            **filled,
            **json.loads(fresh.stdout),
            **fired(Path(folder, "fired")),
        }
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
