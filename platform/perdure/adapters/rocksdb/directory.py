"""Opens a partition's directory. It is a cache: if it cannot be trusted, it is reported and
rebuilt, never repaired.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBufferManager,
)

from perdure.adapters.rocksdb import keys
from perdure.adapters.rocksdb.faults import DAMAGED, StoreFault, trouble_of
from perdure.adapters.rocksdb.partition import Partition
from perdure.adapters.rocksdb.values import FORMAT, WITHOUT_CLOSED_RUNS, Checkpoint, decode_checkpoint
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = "PERDURE"
"""A file that says that the directory is ours, so that what is in it may be deleted."""

TRUSTED_US: Final = 12 * 3_600_000_000
"""A directory without writes for longer is rebuilt: tombstones of runs deleted since then may be
gone from the topic (`delete.retention.ms`, a day by default).
"""
FUTURE_US: Final = 3_600_000_000
"""A directory that was written later than this from now has no known age, and is rebuilt, too."""

BESIDE: Final = 8
"""The number of processes of one machine that may believe at the same time to own a partition."""

_BUFFER_BYTES: Final = 16 << 20


class Directory:
    """Manages a directory for each partition: `3`, and `3.1` while another process still uses `3`.

    Args:
        path: made when there is none.
        identity: of the events topic, as text: cluster, topic id, namespace.
        report: receives messages about rebuilt stores.
        now: the clock of the machine, microseconds.
        cache_bytes: of memory for blocks that were read; as much again at most is used for what was
            written.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        report: Callable[[str], None],
        now: Callable[[], int],
        cache_bytes: int,
    ) -> None:
        self.path = path
        self._identity = identity
        self._report = report
        self._now = now
        self._options = _options(cache_bytes)

    def identify(self, identity: str) -> None:
        """Say which topic it is, when that was not known yet; before any `open`."""
        self._identity = identity

    def open(self, number: int, end: int) -> Partition:
        """Open the store of a partition; it is empty, or valid up to its checkpoint.

        Args:
            number: of the partition.
            end: of its events, an offset.

        Raises:
            InfrastructureError: an operator must act; the message says what to do.
        """
        self._claim()
        for attempt in range(BESIDE):
            path = self.path / (f"{number}.{attempt}" if attempt else f"{number}")
            try:
                return self._opened(path, number, end)
            except _LockedError:
                self._report(
                    f"the store in {path} is in use by another process: partition {number} gets a second "
                    "store beside it"
                )
        raise InfrastructureError(
            f"{BESIDE} processes use the stores of partition {number} in {self.path}; end the hanging ones, "
            "or name another directory"
        )

    def _claim(self) -> None:
        """See that the directory is ours."""
        marker = self.path / MARKER
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not marker.exists():
                # another process of ours may have just made it
                if any(self.path.iterdir()) and not marker.exists():
                    raise InfrastructureError(
                        f"{self.path} contains other files; name an empty directory for the engine's store"
                    )
                marker.write_text(
                    "A cache of perdure. It may be deleted while no engine is running.\n", encoding="utf-8"
                )
        except OSError as error:
            raise InfrastructureError(
                f"the directory {self.path} of the engine's store cannot be used: {error}; name another "
                "one, or fix its permissions"
            ) from error

    def _opened(self, path: Path, number: int, end: int) -> Partition:
        is_there = path.exists()
        doubt = "its last process found it damaged" if (path / DAMAGED).exists() else ""
        db: Rdict | None = None
        checkpoint: Checkpoint | None = None
        if not doubt:
            try:
                db = self._open_db(path)
                checkpoint, doubt = self._examined(db, number, end)
                if checkpoint is None and is_there and not doubt:
                    doubt = "it has no checkpoint: a restore was interrupted, or files are missing"
            except _DamagedError as error:
                doubt = f"it is damaged: {error}"
        if doubt:
            self._report(f"rebuilding the store in {path}: {doubt}")
        if doubt or db is None:
            if db is not None:
                db.close()
            db, checkpoint = self._anew(path), None
        partition = Partition(number, path, db, self._identity, checkpoint, self._now)
        if partition.format == WITHOUT_CLOSED_RUNS:
            partition.closed.index_all()
            partition.format = FORMAT  # is written with the next change; until then, all are indexed again
        return partition

    def _open_db(self, path: Path) -> Rdict:
        try:
            return Rdict(str(path), self._options)
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is StoreFault.LOCKED:
                raise _LockedError from error
            if trouble is StoreFault.DAMAGED:
                raise _DamagedError(str(error)) from error
            raise InfrastructureError(
                f"the store in {path} cannot be opened: {trouble.value} ({error})"
            ) from error

    def _anew(self, path: Path) -> Rdict:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return self._open_db(path)
        except (OSError, _DamagedError) as error:
            raise InfrastructureError(
                f"the store in {path} cannot be created: {error}; delete it, or name another directory"
            ) from error

    def _examined(self, db: Rdict, number: int, end: int) -> tuple[Checkpoint | None, str]:
        """The store's checkpoint, and why it is not trusted (empty: it is)."""
        try:
            stored = cast("bytes | None", db.get(keys.CHECKPOINT))
        except Exception as error:
            raise _DamagedError(str(error)) from error
        if stored is None:
            return None, ""
        try:
            checkpoint = decode_checkpoint(stored)
        except msgspec.MsgspecError as error:
            return None, f"its checkpoint cannot be read ({error}): another version of perdure wrote it"
        return checkpoint, self._doubt(checkpoint, number, end)

    def _doubt(self, found: Checkpoint, number: int, end: int) -> str:
        if found.format not in (WITHOUT_CLOSED_RUNS, FORMAT):
            return f"its format is {found.format}, this perdure's is {FORMAT}"
        if found.identity != self._identity:
            return f"it belongs to another topic ({found.identity}; ours is {self._identity})"
        if found.partition != number:
            return f"it belongs to partition {found.partition}"
        if found.offset > end:
            return (
                f"it contains the events up to offset {found.offset}, but the topic ends at {end}: it "
                "belongs to another topic"
            )
        age_us = self._now() - found.written_at
        if age_us < -FUTURE_US:
            return (
                f"it was last written {-age_us / 3.6e9:.0f} hours from now, by a clock that was ahead: how "
                "old it is cannot be known, and the topic may have dropped deletions since then"
            )
        if age_us > TRUSTED_US:
            return (
                f"it was last written {age_us / 3.6e9:.0f} hours ago, and the topic may have dropped "
                "deletions since then"
            )
        return ""


class _LockedError(Exception):
    """Another process has it open."""


class _DamagedError(Exception):
    """RocksDB does not take it."""


def _options(cache_bytes: int) -> Options:
    """One cache and one budget of buffers for all partitions: memory does not grow with their
    number.
    """
    blocks = BlockBasedOptions()
    cache = Cache(cache_bytes)
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_bloom_filter(10, False)
    # A file's whole filter does not fit into a shard of the cache: every look would read it again,
    # 0.7 ms of CPU on a million runs.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_metadata_block_size(4_096)
    blocks.set_pin_top_level_index_and_filter(True)
    blocks.set_format_version(5)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(WriteBufferManager(cache_bytes, False))
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_max_open_files(512)
    options.set_max_total_wal_size(4 * _BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    options.add_compact_on_deletion_collector_factory(4_096, 2_048, 0.5)
    return options
