"""The port of the Kafka log to its store: restores partitions from the events topic.

A store implements this beside `engine.ports.Store`. Threads: `open`, `restore`, `restored`, and
`close` of a partition that has not been gained yet, are called on the takeover's side thread, one
partition after the other; `reached`, `tasks`, and `close` of a partition that is owned, on the
engine's thread while no batch is open. Until `restored` has returned, nothing of the partition may
show in what the engine reads (states, timers, tasks, suspended runs of all partitions).

For each partition the order is open, restore*, restored, close; close may come after any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perdure.model.tasks import Task

Record = tuple[int, bytes | None, bytes | None, "list[tuple[str, bytes]] | None"]
"""Offset, key, value (None: a tombstone), headers of a record of the events topic."""


class Restorer(Protocol):
    """A store that is a cache of the events topic."""

    def open(self, partition: int, end: int) -> int | None:
        """Make the partition's part of the store ready to be restored.

        Args:
            partition: its number, of commands and events alike.
            end: the offset after the last record of the events partition. A store that is further
                than that is of another topic: it is deleted.

        Returns:
            The offset of the events partition from where to restore; None: from its beginning, with
            an empty store.

        Raises:
            InfrastructureError: it cannot be opened; the message says what to do. What is merely
                damaged or foreign is deleted.
        """
        ...

    def restore(self, partition: int, records: Sequence[Record]) -> None:
        """Apply records of the events partition, in order, from the offset that `open` returned."""

    def restored(self, partition: int, offset: int) -> int:
        """Note that all records before `offset` were applied.

        Returns:
            The highest `input_offset` of the partition's records that were ever taken over or
            applied; -1 when there is none.
        """
        ...

    def reached(self, ends: Mapping[int, int]) -> None:
        """A batch was committed: by partition, the offset after the last of its records. Called
        before `Store.apply` of the batch, which writes them down with it.
        """

    def tasks(self, partitions: Collection[int]) -> Iterable[Task]:
        """Tasks of these partitions that have not ended, steps included
        (`engine.ports.Store.tasks`).
        """
        ...

    def close(self, partition: int) -> None:
        """Release the partition, whatever its state."""
