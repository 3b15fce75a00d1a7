"""The port of the projector (`adapters.postgres.projector`) to its source: states and events, in
order, each partition from a given position.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState


class NotThereYet(InfrastructureError):
    """The source does not exist yet, or cannot be read yet."""


Topic: TypeAlias = Literal["state", "events"]
Partition: TypeAlias = tuple[Topic, int]
"""Of which topic, and its number."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that cannot be decoded.

    Attributes:
        reason: one word: `undecodable`, or `unknown_schema`, which may become known.
        message: for people.
        key: as found.
        value: as found.
        schema: what its header says; empty: it has none.
    """

    topic: Topic
    partition: int
    offset: int
    _: KW_ONLY
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    schema: str


@dataclass(slots=True)
class ReadRecords:
    """Records read together.

    Attributes:
        states: the last state of each workflow id; None: it was deleted.
        events: records, in order; within a partition all that were read.
        ended: keys of deleted event records: workflow id, run id, first event id.
        unreadable: what cannot be decoded.
        next_offsets: where each partition that was read, or whose end was reached, continues.
        reflected: by partition number, the offset in the events up to which everything committed
            with them, including states, was read.
        count: records.
    """

    states: dict[str, WorkflowState | None] = field(default_factory=dict[str, "WorkflowState | None"])
    events: list[EventRecord] = field(default_factory=list["EventRecord"])
    ended: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    unreadable: list[Unreadable] = field(default_factory=list["Unreadable"])
    next_offsets: dict[Partition, int] = field(default_factory=dict["Partition", int])
    reflected: dict[int, int] = field(default_factory=dict[int, int])
    count: int = 0


class Source(Protocol):
    """Source of records. Belongs to one thread."""

    def take(self, limit: int, timeout_s: float) -> ReadRecords:
        """Take records, about `limit` at most; waits for the first up to `timeout_s`.

        Raises:
            InfrastructureError: a topic does not exist, or we may not read it; the message says
                what to do.
        """
        ...

    @property
    def gained(self) -> Collection[Partition]:
        """Partitions that were assigned, and are not read before `begin` is called."""
        ...

    @property
    def owned(self) -> Collection[Partition]:
        """Partitions that are read. `take` returns records of these only."""
        ...

    def begin(self, offsets: Mapping[Partition, int]) -> None:
        """Read these from here on."""

    def begin_again(self) -> None:
        """Gain all owned partitions again: records taken and not written are read again."""

    def end_of(self, partition: Partition) -> int:
        """The end of the partition, as far as is known without asking; -1: unknown."""
        ...

    def decode(self, found: Unreadable) -> ReadRecords | None:
        """Try a record once more; None: it still cannot be decoded."""
        ...

    def close(self) -> None:
        """Close. Idempotent."""
