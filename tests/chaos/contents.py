"""What the topics of a namespace hold, decoded: what the checks look at. Where it came from is no
matter of theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from perdure.codec.avro import COMMANDS, DEAD_LETTERS, EVENTS, REPLIES, STATE, TASKS, Wire
from perdure.errors import UndecodableRecord
from perdure.model import events as ev
from perdure.model.commands import AnyCommand
from perdure.model.dead_letters import DeadLetter
from perdure.model.replies import AnyReply
from perdure.model.states import WorkflowState
from perdure.model.tasks import Task

Place = tuple[str, int]
"""A topic, without its namespace, and a partition."""


class Violation(NamedTuple):
    """Something that must hold and does not.

    Attributes:
        invariant: I1 … I10, by ARCHITECTURE; "record" for a record that cannot be read.
        where: a run, a partition, a request.
        message: what was found.
    """

    invariant: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """A record of a topic, as it is there."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    schema: bytes | None
    timestamp_ms: int = -1

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


class Commit(NamedTuple):
    """A committed offset of the engines' group, as the broker wrote it down; `owner` is its
    metadata."""

    partition: int
    offset: int
    owner: str


class Event(NamedTuple):
    """A record of the events topic."""

    found: Found
    record: ev.EventRecord


class Command(NamedTuple):
    """A record of the commands topic."""

    found: Found
    command: AnyCommand


@dataclass
class Contents:
    """All that was found.

    Attributes:
        records: committed ones, of one partition in their order.
        partitions: of each topic, how many.
        lows: where each partition begins; above 0 something was deleted.
        ends: where each partition ends.
        stable_ends: how far a reader of committed records gets.
        engine_offsets: the engines' committed offsets, by partition of commands.
        task_offsets: the workers', by place.
        commits: every commit of the engines' group, of one partition in their order; empty when it
            could not be read.
        read_at_us: when.
        notes: what could not be looked at, as text.
    """

    records: list[Found]
    partitions: dict[str, int]
    lows: dict[Place, int] = field(default_factory=dict[Place, int])
    ends: dict[Place, int] = field(default_factory=dict[Place, int])
    stable_ends: dict[Place, int] = field(default_factory=dict[Place, int])
    engine_offsets: dict[int, int] = field(default_factory=dict[int, int])
    task_offsets: dict[Place, int] = field(default_factory=dict[Place, int])
    commits: list[Commit] = field(default_factory=list[Commit])
    read_at_us: int = 0
    notes: list[str] = field(default_factory=list[str])


RunKey = tuple[str, str]
"""Workflow id and run id."""


class Decoded:
    """The same, as our records.

    Attributes:
        contents: where they came from.
        events: in the order of each partition.
        histories: by run; without runs that were deleted in part.
        states: the last of each workflow id.
        commands: in the order of each partition.
        tasks: by token, where each lies.
        deleted: runs of which there are tombstones.
        unreadable: records that are not what their topic holds. Of commands they are for the dead
            letters, and no violation.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.events: list[Event] = []
        self.histories: dict[RunKey, list[Event]] = defaultdict(list)
        self.states: dict[str, WorkflowState] = {}
        self.commands: list[Command] = []
        self.tasks: dict[str, list[tuple[Found, Task]]] = defaultdict(list)
        self.replies: list[AnyReply] = []
        self.dead_letters: list[DeadLetter] = []
        self.unreadable: list[Violation] = []
        self.deleted: set[RunKey] = set()
        for found in sorted(contents.records, key=lambda each: (each.topic, each.partition, each.offset)):
            self._take(found)
        for deleted in self.deleted:
            self.histories.pop(deleted, None)
        if self.deleted:
            contents.notes.append(f"{len(self.deleted)} runs have been deleted, and are not looked at")

    @property
    def request_ids(self) -> dict[str, list[RunKey]]:
        """The requests that histories hold, with the runs that do."""
        found: dict[str, list[RunKey]] = defaultdict(list)
        for run, events in self.histories.items():
            for each in events:
                for event in each.record.events:
                    if request_id := getattr(event, "request_id", ""):
                        found[request_id].append(run)
        return found

    def _take(self, found: Found) -> None:
        wire = _wire(found.topic)
        if wire is None:
            return
        if found.value is None:
            self._take_tombstone(found)
            return
        try:
            value: Any = wire.decode(found.value, found.schema)
        except UndecodableRecord as error:
            if found.topic != "commands":
                self.unreadable.append(Violation("record", str(found), str(error)))
            return
        self._keep(found, value)

    def _keep(self, found: Found, value: Any) -> None:
        match found.topic:
            case "commands":
                self.commands.append(Command(found, value))
            case "events":
                event = Event(found, value)
                self.events.append(event)
                self.histories[event.record.workflow_id, event.record.run_id].append(event)
            case "state":
                self.states[value.workflow_id] = value
            case "replies":
                self.replies.append(value)
            case "dead-letters":
                self.dead_letters.append(value)
            case _:
                self.tasks[value.token].append((found, value))

    def _take_tombstone(self, found: Found) -> None:
        key = (found.key or b"").decode(errors="replace")
        if found.topic == "state":
            self.states.pop(key, None)
        elif found.topic == "events" and key.count("/") >= 2:
            workflow_id, run_id, _ = key.rsplit("/", 2)
            self.deleted.add((workflow_id, run_id))


def _wire(topic: str) -> Wire[Any] | None:
    return TASKS if topic.startswith("tasks.") else _WIRES.get(topic)


_WIRES: Final[dict[str, Wire[Any]]] = {
    "commands": COMMANDS, "events": EVENTS, "state": STATE, "replies": REPLIES, "dead-letters": DEAD_LETTERS,
}  # fmt: skip


def places_of(contents: Contents, topics: Iterable[str]) -> list[Place]:
    """All partitions of these topics."""
    return [(topic, partition) for topic in topics for partition in range(contents.partitions.get(topic, 0))]
