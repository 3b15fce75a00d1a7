"""A partition's store restored from the events topic, without a broker: records a second, and where
the time goes. Prints JSON.

usage: python -m bench.restore [--runs 100000] [--profile]

`orders` are runs of three activities that have ended, four records each; `sleeping` runs have done
one activity and wait for a timer, two records each; both interleaved as 1,000 runs at a time would
be.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from time import perf_counter, process_time

from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.rounds import Record
from perdure.adapters.rocksdb.store import PartitionedStore
from perdure.codec.avro import EVENTS
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

START_US = 1_790_000_000_000_000
AT_ONCE = 1_000
CHUNK = 10_000


def chance(number: int, size: int) -> str:
    """What does not compress, the same every time."""
    return blake2b(number.to_bytes(8, "big"), digest_size=size).hexdigest()


def ids(number: int) -> tuple[str, str]:
    """Workflow id and run id; run ids begin with the time."""
    return f"order-{number:08}", f"{0x0199F2A1B3C4 + number // 4:012x}{chance(number, 7)}"


def orders(number: int) -> list[list[AnyEvent]]:
    """Four records."""
    scheduled = [
        ActivityScheduled(
            each, "charge", b'["order-%08d", 4200]' % number, ActivityOptions(), chance(8 * number + each, 8)
        )
        for each in (1, 2, 3)
    ]
    done = [ActivityCompleted(each, b'{"receipt":"r-%d","cents":4200}' % number) for each in (1, 2, 3)]
    started = WorkflowStarted(
        "Order", b'["burrata"]', 311, int(chance(number, 7), 16), chance(-number & 0xFFFFFFFF, 16)
    )
    return [
        [started, scheduled[0]],
        [done[0], scheduled[1]],
        [done[1], scheduled[2]],
        [done[2], WorkflowCompleted(b"null")],
    ]


def sleeping(number: int) -> list[list[AnyEvent]]:
    """Two records."""
    whole = orders(number)
    return [whole[0], [whole[1][0], TimerStarted(1, START_US + 30 * 86_400_000_000 + number)]]


def topic(kind: str, runs: int) -> Iterator[list[Record]]:
    """The records of the partition, in chunks as a consumer gives them."""
    chunk: list[Record] = []
    headers: list[tuple[str, bytes]] = [EVENTS.header]
    offset = 0
    for first in range(0, runs, AT_ONCE):
        histories = [
            (orders if kind == "orders" else sleeping)(number)
            for number in range(first, min(first + AT_ONCE, runs))
        ]
        for step in range(len(histories[0])):
            for index, history in enumerate(histories):
                workflow_id, run_id = ids(first + index)
                event_id = 1 + sum(map(len, history[:step]))
                record = EventRecord(
                    workflow_id,
                    run_id,
                    event_id,
                    START_US + offset,
                    0,
                    offset,
                    bytes.fromhex(chance(offset, 16)) if step else b"",
                    history[step],
                )
                chunk.append(
                    (offset, f"{workflow_id}/{run_id}/{event_id}".encode(), EVENTS.encode(record), headers)
                )
                offset += 1
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
    yield chunk


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def restore(kind: str, runs: int, path: Path) -> dict[str, object]:
    store = PartitionedStore(path, "bench", lambda _: 0, lambda message: print(message, file=sys.stderr))
    restorer = PartitionRestorer(store)
    assert restorer.open(0, 1 << 40) is None
    count, wall_s, cpu_s, peak = 0, 0.0, 0.0, 0
    for chunk in topic(kind, runs):
        begun, begun_cpu = perf_counter(), process_time()
        restorer.restore(0, chunk)
        wall_s, cpu_s = wall_s + perf_counter() - begun, cpu_s + process_time() - begun_cpu
        count += len(chunk)
        peak = max(peak, rss_bytes())
    begun, begun_cpu = perf_counter(), process_time()
    restorer.restored(0, count)
    wall_s, cpu_s = wall_s + perf_counter() - begun, cpu_s + process_time() - begun_cpu
    store.close()
    return {
        "kind": kind,
        "runs": runs,
        "records": count,
        "records_per_s": round(count / wall_s),
        "records_per_cpu_s": round(count / cpu_s),
        "peak_rss_mb": round(peak / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true", help="where the time goes, on standard error")
    arguments = parser.parse_args()
    found: list[dict[str, object]] = []
    for kind in ("orders", "sleeping"):
        with tempfile.TemporaryDirectory() as folder:
            profile = cProfile.Profile()
            if arguments.profile:
                profile.enable()
            found.append(restore(kind, arguments.runs, Path(folder)))
            if arguments.profile:
                profile.disable()
                pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(18)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
