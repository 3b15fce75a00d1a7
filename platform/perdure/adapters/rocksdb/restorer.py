"""Restores and releases partitions: implements `adapters.kafka.engine.ports.Restorer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.adapters.rocksdb.rounds import Restoration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from perdure.adapters.rocksdb.rounds import Record
    from perdure.adapters.rocksdb.store import PartitionedStore
    from perdure.model.tasks import Task


class PartitionRestorer:
    """Restores partitions on a side thread; the store shows them when they are restored.

    Args:
        store: gains and loses them.
    """

    def __init__(self, store: PartitionedStore) -> None:
        self._store = store
        self._restorations: dict[int, Restoration] = {}

    def open(self, partition: int, end: int) -> int | None:
        """The offset of the events partition, which ends at `end`, from where to restore; None:
        from its beginning.
        """
        self.close(partition)
        opened = self._store.directory.open(partition, end)
        self._restorations[partition] = Restoration(opened, self._store.report)
        return opened.offset

    def restore(self, partition: int, records: Sequence[Record]) -> None:
        """Take over records, in order, from the offset that `open` gave."""
        self._restorations[partition].add(records)

    def restored(self, partition: int, offset: int) -> int:
        """All records before `offset` have been taken over: the highest input offset that any
        record names.
        """
        restoration = self._restorations[partition]
        restoration.finish(offset)
        del self._restorations[partition]
        self._store.gain(restoration.partition)
        return restoration.partition.input_offset

    def reached(self, ends: Mapping[int, int]) -> None:
        """Note positions, which are stored with the next batch."""
        self._store.reached(ends)

    def tasks(self, partitions: Collection[int]) -> list[Task]:
        """Tasks that have not ended, oldest first."""
        return self._store.tasks(partitions)

    def close(self, partition: int) -> None:
        """Release the partition, whatever its state."""
        restoration = self._restorations.pop(partition, None)
        if restoration is not None:
            restoration.partition.close()
        self._store.lose(partition)
