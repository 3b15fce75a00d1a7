"""Histories such as an engine makes, move by move: every batch is what the core says the events in
it lead to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.codec.avro import EVENTS
from perdure.codec.records import encode_event_record
from perdure.core.run import public_state, record, start
from perdure.core.state import ActivityState, ActivityStatus, Phase, RunState
from perdure.engine.outbox import BatchOutbox
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from perdure.adapters.rocksdb.rounds import Record
    from perdure.engine.ports import Batch
    from perdure.model.tasks import Task

WORKFLOWS = 6
MONTH_US = 30 * 86_400_000_000
_FAILURE = FailureInfo("app:CardDeclined", "no")
_CLOSING = (
    ev.WorkflowCompleted(b"1"),
    ev.WorkflowFailed(_FAILURE),
    ev.WorkflowCancelled("no"),
    ev.WorkflowTerminated("stop", "request"),
    ev.WorkflowTimedOut(),
)


class NoSteps:
    """Runs none."""

    def start(self, tasks: Sequence[Task]) -> None: ...

    def start_inline(self, tasks: object) -> None: ...

    def cancel(self, run_id: str, number: int) -> None: ...


@dataclass
class Chronicle:
    """The history of a few workflows.

    Attributes:
        partitions: how many there are; a workflow `w-5/x` is on the sixth of them, counted round.
        topic: what the events topic holds, by partition.
    """

    partitions: int = 1
    at: int = 1_790_000_000_000_000
    runs: dict[str, RunState] = field(default_factory=dict[str, RunState])
    everyone: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    topic: dict[int, list[Record]] = field(default_factory=dict[int, "list[Record]"])
    _started: int = 0
    _offset: int = 0

    def __post_init__(self) -> None:
        self.topic = {partition: [] for partition in range(self.partitions)}

    def partition_of(self, workflow_id: str) -> int:
        return int(workflow_id[2]) % self.partitions

    def batch(self, moves: Sequence[tuple[int, int]]) -> Batch:
        """What the moves lead to, each a workflow and a choice among what can happen to it; written
        to the topic."""
        self.at += 1_000
        outbox = BatchOutbox(NoSteps())
        outbox.begin(self.at)
        touched: dict[str, tuple[RunState, int, list[ev.AnyEvent]]] = {}
        for workflow, choice in moves:
            workflow_id = f"w-{workflow % WORKFLOWS}/x"
            run = self.runs.get(workflow_id)
            if run is None or run.phase.is_closed:
                started = self._start(choice)
                self._started += 1
                run = self.runs[workflow_id] = start(
                    workflow_id, f"run-{self._started:04}", started, self.at, outbox
                )
                self.everyone.add((workflow_id, run.run_id))
                touched[run.run_id] = (run, 1, [started])
                continue
            possible = list(self._possible(run, choice))
            event = possible[choice % len(possible)]
            _, _, events = touched.setdefault(run.run_id, (run, run.last_event_id + 1, []))
            events.append(event)
            record(run, event, self.at, outbox)
        self._record(outbox.batch, list(touched.values()))
        return outbox.batch

    def ends(self) -> dict[int, int]:
        """Of the topic."""
        return {partition: len(records) for partition, records in self.topic.items()}

    def _record(self, batch: Batch, touched: list[tuple[RunState, int, list[ev.AnyEvent]]]) -> None:
        self._offset += 1
        offset = -1 if self._offset % 5 == 0 else self._offset
        for run, first, events in touched:
            partition = self.partition_of(run.workflow_id)
            record = ev.EventRecord(
                run.workflow_id, run.run_id, first, self.at, partition, offset, b"", events
            )
            batch.events.append((record, encode_event_record(record)))
            run.input_partition, run.input_offset = partition, offset
            batch.states[run.workflow_id] = public_state(self.runs[run.workflow_id], b"")
            key = f"{run.workflow_id}/{run.run_id}/{first}".encode()
            topic = self.topic[partition]
            topic.append((len(topic), key, EVENTS.encode(record), [EVENTS.header]))

    def _start(self, choice: int) -> ev.WorkflowStarted:
        delayed = self.at + MONTH_US if choice % 5 == 0 else 0
        return ev.WorkflowStarted(
            "Order", b"[]", 311, choice, f"r-{self._started}", MONTH_US * (choice % 2), b"", delayed
        )

    def _possible(self, run: RunState, choice: int) -> Iterator[ev.AnyEvent]:
        if run.phase is Phase.DELAYED:
            yield from (ev.WorkflowBegun(), ev.WorkflowPaused(has_begun=False), *_CLOSING[2:])
            return
        if run.phase is Phase.HELD:
            yield from (ev.WorkflowUnpaused(), *_CLOSING[2:4])
            return
        if run.phase is Phase.PAUSED:
            yield from (ev.WorkflowUnpaused(), ev.SignalReceived("go", b""), ev.WorkflowTerminated("enough"))
            return
        if run.phase is Phase.SUSPENDED:
            yield from (
                ev.WorkflowResumed(),
                ev.WorkflowSuspended("again"),
                ev.SignalReceived("go", b""),
                *_CLOSING[3:],
            )
            return
        number = run.last_event_id + 1
        retry = RetryPolicy(give_up_after_us=MONTH_US * (choice % 3))
        for queue in ("default", ""):
            yield ev.ActivityScheduled(
                number, "charge", b"[1]", ActivityOptions(queue=queue, retry=retry), f"token-{number}"
            )
        yield ev.TimerStarted(number, self.at + choice)
        for timer in run.timers:
            yield from (ev.TimerFired(timer), ev.TimerCancelled(timer))
        for activity in run.activities.values():
            yield from self._of_activity(activity)
        yield from (ev.SignalReceived("go", b"[2]", f"s-{number}"), ev.CommandIgnored("FireTimer", "late"))
        yield from (ev.WorkflowCancelRequested("please"), ev.WorkflowSuspended("diverged"))
        yield ev.WorkflowPaused("ann", "the bank is down")
        if choice % 3 == 0:
            yield from _CLOSING

    def _of_activity(self, activity: ActivityState) -> Iterator[ev.AnyEvent]:
        number, attempt, status = activity.number, activity.attempt, activity.status
        yield from (ev.ActivityFailed(number, _FAILURE, attempt), ev.ActivityCancelRequested(number))
        if status is ActivityStatus.BACKING_OFF:
            yield ev.ActivityRetried(number, attempt + 1)
            return
        yield ev.ActivityCompleted(number, b"3")
        yield ev.ActivityAttemptFailed(
            number, attempt, _FAILURE, self.at + 500, f"token-{number}-{attempt + 1}"
        )
        if status is ActivityStatus.DISPATCHED:
            yield ev.ActivityStarted(number, attempt, "worker")
            if activity.declined:
                yield ev.ActivityRetried(number, attempt)
            else:
                yield ev.ActivityDeclined(number, attempt, "who?", self.at + 700)


def random_moves(chance: Random) -> list[tuple[int, int]]:
    """For one batch."""
    return [(chance.randrange(WORKFLOWS), chance.randrange(10_000)) for _ in range(chance.randint(1, 8))]
