"""A history of a million events: loaded from a file, paged, and replayed. Prints JSON.

The history is that of a chain of activities, written to a SQLite file as the engine writes it; each
record holds what one batch does to the run: a result, and the next activity. What is measured runs
in a process of its own; rates are of its processor time, so that others on the machine do not
count, and memory is its peak.

usage: python -m bench.million [EVENTS]
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from bench.replay import history_of
from perdure.adapters.sqlite.file import SqliteFile
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.adapters.sqlite.store import SqliteStore
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import decode_event_record, encode_event_record, encode_state
from perdure.core.run import public_state, take_over
from perdure.engine.active import ActiveRuns
from perdure.model import events as ev
from perdure.registry import Registry

SOME = 4
"""Activities of the history that the long one is made of."""


def write(path: Path, events: int) -> int:
    """Write the history; how many events it has."""
    records = asyncio.run(history_of(SOME))
    flat = [event for record in records for event in record.events]
    started = next(event for event in flat if isinstance(event, ev.WorkflowStarted))
    scheduled = next(event for event in flat if isinstance(event, ev.ActivityScheduled))
    completed = next(event for event in flat if isinstance(event, ev.ActivityCompleted))
    chain = events // 2 + 1  # it is going to wait for the last one
    started = replace(started, input=b"[%d]" % chain)
    first = records[0]
    with_at = first.at

    def record(first_event_id: int, *found: ev.AnyEvent) -> ev.EventRecord:
        return ev.EventRecord(
            first.workflow_id, first.run_id, first_event_id, with_at, -1, -1, b"", list(found)
        )

    file = SqliteFile(path)
    file.open()
    run = take_over(None, record(1, started, replace(scheduled, number=1)))
    total = 2
    with file.transaction() as connection:
        rows = [(first.run_id, 1, encode_event_record(record(1, started, replace(scheduled, number=1))))]
        for number in range(1, chain - 1):
            each = record(total + 1, replace(completed, number=number), replace(scheduled, number=number + 1))
            rows.append((first.run_id, total + 1, encode_event_record(each)))
            total += 2
            if len(rows) == 10_000:
                connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                rows.clear()
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        run.last_event_id = total
        state = public_state(run, b"")
        connection.execute(
            "INSERT INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (state.workflow_id, state.type, "running", state.started_at, encode_state(state), state.run_id,
                state.updated_at, 0, b""),
        )  # fmt: skip
    file.close()
    return total


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


def measure(path: Path) -> dict[str, object]:
    """Replay it as an engine does on a cache miss; and page through it as a client does."""
    found: dict[str, object] = {"begin_mb": round(peak_mb())}
    reader = SqliteReader(path)
    begun, total, next_event_id = time.process_time(), 0, 1
    while next_event_id:
        page = reader.history("chain", _run_id(reader), next_event_id)
        for each in page.records:
            total += len(decode_event_record(each).events)
        next_event_id = page.next_event_id
    found["page_events_per_s"] = round(total / (time.process_time() - begun))
    found["page_mb"] = round(peak_mb())
    reader.close()
    file = SqliteFile(path)
    file.open()
    store = SqliteStore(file)
    runs = ActiveRuns(store, Registry.of_everything_imported().workflows, JsonPayloads(), capacity=10)
    begun = time.process_time()
    active = runs.find("chain")
    assert active is not None
    found["load_events_per_s"] = round(total / (time.process_time() - begun))
    found["load_mb"] = round(peak_mb())
    middle = time.process_time()
    assert runs.bring_live(active) == []
    end = time.process_time()
    found["replay_events_per_s"] = round(total / (end - middle))
    found["load_and_replay_events_per_s"] = round(total / (end - begun))
    found["peak_mb"] = round(peak_mb())
    found["events"] = total
    runs.clear()
    file.close()
    return found


def _run_id(reader: SqliteReader) -> str:
    state = reader.state("chain")
    assert state is not None
    return state.run_id


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.db")
        write(path, events)
        subprocess.run([sys.executable, "-m", "bench.million", "measure", str(path)], check=True)


if __name__ == "__main__":
    main()
