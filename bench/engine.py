"""What the engine itself costs: the loop, the rules, the author's code and Avro both ways, between
a log and a store that do nothing.

usage: python -m bench.engine [ORDERS] [BATCH]    prints a line of JSON for each kind of order
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Sequence

from bench import workflows
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.store import MemoryClosedRuns
from perdure.codec.avro import COMMANDS, EVENTS, REPLIES, STATE, TASKS
from perdure.codec.payloads import JsonPayloads
from perdure.engine.ports import Batch, Owner
from perdure.engine.processor import Engine
from perdure.model import commands as cm
from perdure.model.events import EventRecord
from perdure.model.inline import InlineTask
from perdure.model.replies import History
from perdure.model.states import WorkflowState
from perdure.model.tasks import Task
from perdure.model.timers import Timer
from perdure.registry import Registry
from perdure.replay import eviction, guard
from perdure.system import RandomIds, SystemClock


class NullLog:
    """Encodes a batch as Kafka's log does, and forgets it."""

    def __init__(self) -> None:
        self._inbox: list[cm.AnyCommand] = []
        self.tasks: list[Task] = []
        self.bytes = 0

    def open(self, owner: Owner | None = None) -> None:
        if owner is not None:
            owner.partitions_gained((0,))

    def take(self, limit: int, timeout_s: float) -> list[cm.AnyCommand]:
        taken, self._inbox = self._inbox, []
        return taken

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        return 0, 0

    def commit(self, batch: Batch) -> None:
        self.tasks = [task for task in batch.tasks.values() if task.queue]
        self.bytes += sum(len(encoded) for _, encoded in batch.events)
        self.bytes += sum(len(TASKS.encode(task)) for task in self.tasks)
        self.bytes += sum(len(STATE.encode(state)) for state in batch.states.values())
        self.bytes += sum(len(REPLIES.encode(reply)) for _, reply in batch.replies)

    def abort(self) -> None:
        raise AssertionError("nothing is aborted here")

    def submit(self, commands: Sequence[cm.AnyCommand]) -> None:
        self._inbox.extend(commands)

    def can_answer(self, address: str, command: cm.AnyCommand) -> bool:
        return True

    def wake(self) -> None: ...

    def close(self) -> None: ...


class NullStore:
    """Holds nothing: all runs are cached."""

    def open(self) -> None: ...

    def apply(self, batch: Batch) -> None: ...

    def state(self, workflow_id: str) -> WorkflowState | None:
        return None

    def events(self, workflow_id: str, run_id: str) -> list[EventRecord]:
        return []

    def page(self, workflow_id: str, run_id: str, from_event_id: int, limit: int = 0) -> History:
        return History("", ())

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        return b""

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        return []

    def tasks(self, partitions: Collection[int] = (0,)) -> list[Task]:
        return []

    def suspended(self, partitions: Collection[int] = (0,)) -> list[tuple[str, str]]:
        return []

    def running(self, partition: int, after: object, limit: int) -> tuple[list[tuple[str, str]], object]:
        return [], None

    def closed_runs(self) -> MemoryClosedRuns:
        return MemoryClosedRuns(MemoryMedium())

    def latest_at(self) -> int:
        return 0

    def close(self) -> None: ...


class InstantSteps:
    """Every step has ended as soon as it starts."""

    def __init__(self, log: NullLog) -> None:
        self._log = log

    def start(self, tasks: Sequence[Task]) -> None:
        self._log.submit([answer(task) for task in tasks])

    def start_inline(self, tasks: Sequence[InlineTask]) -> None:
        self._log.submit([answer(each.task) for each in tasks])

    def cancel(self, run_id: str, number: int) -> None: ...


def answer(task: Task) -> cm.CompleteActivity:
    return cm.CompleteActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, result=b'"ok"'
    )


def measure(kind: str, orders: int, batch: int) -> dict[str, object]:
    log = NullLog()
    definitions = Registry.of_everything_imported().workflows
    payloads = JsonPayloads()
    engine = Engine(
        log,
        NullStore(),
        SystemClock(),
        ids=RandomIds(),
        steps=InstantSteps(log),
        definitions=definitions,
        payloads=payloads,
        encode=EVENTS.encode,
    )
    engine.open()
    header = COMMANDS.header[1]
    commands = 0
    begun = time.perf_counter()
    for first in range(0, orders, batch):
        records = [
            COMMANDS.encode(
                cm.StartWorkflow(
                    f"{kind}-{item}",
                    request_id=f"request-{item}",
                    reply_to="kafka:0:me",
                    type=kind,
                    input=b"[5]",
                )
            )
            for item in range(first, first + batch)
        ]
        while records:
            log.submit([COMMANDS.decode(record, header) for record in records])
            commands += len(records)
            engine.run_batch(0)
            records = [COMMANDS.encode(answer(task)) for task in log.tasks]
    elapsed = time.perf_counter() - begun
    return {
        "system": "perdure engine alone",
        "kind": kind,
        "batch": batch,
        "us_per_order": round(elapsed / orders * 1e6, 1),
        "us_per_command": round(elapsed / commands * 1e6, 1),
        "bytes_per_order": round(log.bytes / orders),
    }


def main() -> None:
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 8_192
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    eviction.install_hooks()
    guard.install()
    guard.watch_module(workflows)
    for kind in ("ActivitiesOrder", "StepsOrder"):
        measure(kind, orders, batch)
        print(json.dumps(measure(kind, orders, batch)))


if __name__ == "__main__":
    main()
