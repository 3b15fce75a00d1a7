"""A namespace of tables of its own for a test, and records written into them as a projector
would."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perdure.adapters.postgres.database import Database
from perdure.adapters.postgres.migrating import migrated
from perdure.adapters.postgres.progress import Progress
from perdure.adapters.postgres.writing import Writer
from perdure.ports.projection import Partition, ReadRecords, Unreadable

if TYPE_CHECKING:
    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState

_UNIQUE = itertools.count(1)


def fresh(dsn: str) -> Database:
    """With tables."""
    database = Database(dsn, f"t{os.getpid()}x{next(_UNIQUE)}")
    migrated(database)
    return database


def rows(database: Database, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """What another program reads; `{s}` is the schema."""
    with database.connect() as connection:
        return connection.execute(database.sql(text), values or None).fetchall()


class Script:
    """A source that says what it is given: `ports.projection.Source` of a partition of each topic.

    Attributes:
        pages: what is taken, one after the other; each begins at the offset of its place.
    """

    def __init__(self, *pages: ReadRecords) -> None:
        self.pages = list(pages)
        self.is_closed = False
        self._gained: set[Partition] = {("state", 0), ("events", 0)}
        self._owned: dict[Partition, int] = {}

    @property
    def gained(self) -> Collection[Partition]:
        return frozenset(self._gained)

    @property
    def owned(self) -> Collection[Partition]:
        return self._owned.keys()

    def begin(self, offsets: Mapping[Partition, int]) -> None:
        self._gained -= offsets.keys()
        self._owned.update(offsets)

    def begin_again(self) -> None:
        self._gained |= self._owned.keys()
        self._owned.clear()

    def take(self, limit: int, timeout_s: float) -> ReadRecords:
        at = self._owned.get(("events", 0), -1)
        if not 0 <= at < len(self.pages):
            return ReadRecords()
        page = self.pages[at]
        page.next_offsets = dict.fromkeys(self._owned, at + 1)
        page.reflected = {0: at + 1}
        self._owned.update(page.next_offsets)
        return page

    def end_of(self, partition: Partition) -> int:
        return len(self.pages)

    def decode(self, found: Unreadable) -> ReadRecords | None:
        return None

    def close(self) -> None:
        self.is_closed = True


def page(
    states: Iterable[WorkflowState] = (), events: Iterable[EventRecord] = (), **fields: Any
) -> ReadRecords:
    return ReadRecords({each.workflow_id: each for each in states}, list(events), **fields)


def silent() -> Progress:
    """Reports nothing."""

    def report(message: str, /, **where: str | int) -> None: ...

    return Progress(report)


@contextmanager
def writer(database: Database) -> Generator[Writer]:
    """Of partition 0 of both topics."""
    with database.connect() as connection:
        made = Writer(database, connection, os.urandom(4).hex())
        made.claim([("state", 0), ("events", 0)])
        yield made
