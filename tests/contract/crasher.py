"""Run as a process of its own: takes commands from a SQLite file and commits batches until it is
killed.

    python -m tests.contract.crasher FILE [STATEMENT]

For each command taken, a batch has an event record, a timer, a task, a state and a reply. With
STATEMENT, the process kills itself before that statement of its first batch.
"""

from __future__ import annotations

import os
import signal
import sys

from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.file import SqliteFile
from perdure.adapters.sqlite.log import SqliteLog
from perdure.codec.records import encode_event_record
from perdure.engine.ports import Batch
from perdure.model.commands import AnyCommand
from perdure.model.events import EventRecord, SignalReceived
from perdure.model.replies import Accepted
from perdure.model.states import Status, WorkflowState
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind


def batch_of(commands: list[AnyCommand], at: int) -> Batch:
    batch = Batch(at)
    for number, command in enumerate(commands):
        name, run_id = command.workflow_id, f"{at:08}-{number:04}"
        record = EventRecord(name, run_id, 1, at, -1, -1, b"", [SignalReceived("go", name.encode())])
        batch.events.append((record, encode_event_record(record)))
        batch.timers.add(Timer(at, run_id, TimerKind.CODE, 1, name))
        batch.tasks[run_id, 1] = Task(name, run_id, 1, 1, "token", "charge", "default", b"[]", 1, "key", at)
        batch.states[name] = WorkflowState(name, run_id, "Order", Status.RUNNING, at, at, 0, 1)
        batch.replies.append(("udp:9:somebody", Accepted(name, run_id)))
    return batch


def main(path: str, kill_before: int = 0) -> None:
    file = SqliteFile(path)
    log = SqliteLog(file, Channel())
    log.open()
    print("open", flush=True)
    at = file.latest_at
    statements = 0

    def count(_: str) -> None:
        nonlocal statements
        statements += 1
        if statements == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    while commands := log.take(3 if kill_before else 7, 0.5):
        at += 1
        if kill_before:
            file.connection.set_trace_callback(count)
        log.commit(batch_of(commands, at))
        if kill_before:
            print(f"statements {statements}", flush=True)
            return
    log.close()
    print("drained", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
