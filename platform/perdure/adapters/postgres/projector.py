"""The projector: states and events from the topics into PostgreSQL, exactly once.

Rows and positions are written in one SQL transaction; what was taken and not written is read again.
The owner of a partition claims it in its row of `positions`, and advances it only from the position
it read: if two processes believe they own it, one writes nothing (`writing.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import psycopg

from perdure.adapters.postgres.database import Connection, Database, is_outage
from perdure.adapters.postgres.migrating import check, version_of
from perdure.adapters.postgres.retention import Retention
from perdure.adapters.postgres.writing import Fenced, Writer, session_of
from perdure.ports.projection import NotThereYet, ReadRecords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.adapters.postgres.progress import Progress
    from perdure.ports.projection import Partition, Source

_logger: Final = logging.getLogger("perdure.projector")
BATCH: Final = 5_000
"""Records of one transaction, at most."""
TAKE_S: Final = 0.1
SAY_S: Final = 5.0
"""Interval at which an idle projector updates its `seen` time, seconds."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
RETRY_S: Final = 60.0
"""Records of a schema that is not known are tried again, seconds."""
RETRIED: Final = 500


class Projector:
    """Runs until it is stopped; belongs to the thread that calls `run`.

    Args:
        database: the target; its tables exist.
        source: the records; closed at the end of `run`.
        progress: receives the projector's status.
        retention: deletes what is old enough; None: nothing is.
        batch: records of one transaction, at most.
    """

    def __init__(
        self,
        database: Database,
        source: Source,
        progress: Progress,
        retention: Retention | None = None,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._source = source
        self._progress = progress
        self._retention = retention
        self._batch = batch
        self._connection: Connection | None = None
        self._writer: Writer | None = None
        self._stopping = threading.Event()
        self._pause_s = FIRST_PAUSE_S
        self._again_at = 0.0
        self._said_at = 0.0
        self._retried_at = 0.0

    def stop(self) -> None:
        """Ask `run` to end; any thread."""
        self._stopping.set()

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Project until `stop`.

        Args:
            ready: called once PostgreSQL and Kafka have answered.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        is_ready = False
        try:
            while not self._stopping.is_set():
                self._progress.pulse = time.monotonic()
                if self.turn() and not is_ready:
                    is_ready = True
                    _logger.info("started")
                    ready()
        finally:
            self.close()
            _logger.info("stopped")

    def close(self) -> None:
        """Close the source and PostgreSQL."""
        self._source.close()
        self._disconnect()

    def turn(self, timeout_s: float = TAKE_S) -> bool:
        """One round: take records and write them; returns whether none are waited for.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        try:
            writer = self._connected()
            if writer is None:
                # a group member must keep polling, or it is removed from the group
                self._source.take(0, timeout_s)
                return False
            if gained := self._source.gained:
                _logger.info(
                    "gained partitions %s", ", ".join(f"{topic} {number}" for topic, number in sorted(gained))
                )
                self._source.begin(writer.claim(gained))
            taken = self._source.take(self._batch, timeout_s)
            self._write(writer, taken)
            self._keep_house(writer)
        except Fenced:
            self._progress.counts.fenced += 1
            self._progress.report(
                "another projector has taken over partitions of this one; rejoining the group's assignment"
            )
            self._begin_again()
        except NotThereYet as error:
            self._progress.waits(str(error))
            self._stopping.wait(FIRST_PAUSE_S)
            return False
        except psycopg.Error as error:
            self._failed(error)
            return False
        if self._progress.waiting_for:
            self._progress.clear_wait()
        return True

    @property
    def positions(self) -> Mapping[Partition, int]:
        """Positions of the owned partitions."""
        return self._writer.positions if self._writer is not None else {}

    def _write(self, writer: Writer, taken: ReadRecords) -> None:
        now = time.monotonic()
        if (
            not taken.next_offsets
            and not taken.reflected
            and (now - self._said_at < SAY_S or not writer.positions)
        ):
            return
        writer.keep_only(self._source.owned)
        faults = writer.write(taken, self._source.end_of)
        self._said_at = now
        self._pause_s = FIRST_PAUSE_S
        self._progress.clear_wait()
        self._count(taken)
        for fault in faults:
            self._progress.counts.rows_without_values += 1
            self._progress.report(fault)
        for each in taken.unreadable:
            where = {"topic": each.topic, "partition": each.partition, "offset": each.offset}
            self._progress.report(
                f"a record cannot be read and is stored unreadable: {each.message}", **where
            )

    def _count(self, taken: ReadRecords) -> None:
        counts = self._progress.counts
        counts.transactions += 1
        counts.states += len(taken.states)
        counts.events += sum(len(record.events) for record in taken.events)
        counts.unreadable += len(taken.unreadable)
        self._progress.lag = {
            each: max(0, self._source.end_of(each) - at) for each, at in self.positions.items()
        }

    # ---- PostgreSQL comes and goes

    def _connected(self) -> Writer | None:
        if self._writer is not None:
            return self._writer
        if time.monotonic() < self._again_at:
            return None
        owner = f"{os.getpid()}-{os.urandom(8).hex()}"
        connection = self._connection = self._database.connect(name=session_of(owner))
        check(self._database, version_of(connection, self._database))
        self._writer = Writer(self._database, connection, owner)
        self._begin_again()
        self._progress.clear_wait()
        return self._writer

    def _failed(self, error: psycopg.Error) -> None:
        self._disconnect()
        self._begin_again()
        if not is_outage(error):
            raise self._database.fault(error) from error
        self._progress.waits(str(self._database.fault(error)))
        self._again_at = time.monotonic() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _begin_again(self) -> None:
        self._source.begin_again()

    def _disconnect(self) -> None:
        connection, self._connection, self._writer = self._connection, None, None
        if connection is not None:
            connection.close()

    # ---- now and then

    def _keep_house(self, writer: Writer) -> None:
        now = time.monotonic()
        if self._retention is not None and self._connection is not None:
            self._progress.counts.deleted += self._retention.apply(self._connection, self._database, now)
        if now - self._retried_at >= RETRY_S:
            self._retried_at = now
            self.retry_unreadable(writer)

    def retry_unreadable(self, writer: Writer) -> int:
        """Try the records once more whose schema was not known; how many could be read."""
        return sum(
            writer.put_again(each, taken)
            for each in writer.unread(RETRIED)
            if (taken := self._source.decode(each))
        )
