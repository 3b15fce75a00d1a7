"""Writes taken records into the tables: rows and positions in one SQL transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import errors

from perdure.adapters.postgres.database import Connection, Database, is_outage, one_line
from perdure.adapters.postgres.rows import (
    EVENT_COLUMNS,
    NUL_SHOWN,
    STATE_COLUMNS,
    event_lines,
    plain_state_line,
    state_line,
)
from perdure.ports.projection import Unreadable

if TYPE_CHECKING:
    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState
    from perdure.ports.projection import Partition, ReadRecords

T = TypeVar("T")

_CLAIM: Final = """INSERT INTO {s}.positions (topic, partition, next_offset, end_offset, owner, updated_at)
    VALUES (%s, %s, 0, 0, %s, clock_timestamp())
    ON CONFLICT (topic, partition) DO UPDATE SET owner = excluded.owner,
        updated_at = excluded.updated_at RETURNING next_offset"""
_WAIT_BRIEFLY: Final = "SELECT set_config('lock_timeout', %s, true)"
_END_SESSIONS: Final = """SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
    WHERE a.application_name IN (SELECT %s || p.owner FROM {s}.positions p
        JOIN unnest(%s::text[], %s::integer[]) AS n (topic, partition) USING (topic, partition)
            WHERE p.owner <> %s)"""
_MOVE: Final = """UPDATE {s}.positions p SET next_offset = n.following, end_offset = n.ending,
    reflected_offset = greatest(p.reflected_offset, n.reflected), updated_at = clock_timestamp()
    FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS n (topic, partition, expected, following, ending, reflected)
    WHERE p.topic = n.topic AND p.partition = n.partition AND p.next_offset = n.expected AND p.owner = %s"""
_STAGE: Final = "CREATE TEMP TABLE {name} (LIKE {{s}}.{table}) ON COMMIT DELETE ROWS"
_PUT_STATES: Final = (
    f"INSERT INTO {{s}}.workflows ({', '.join(STATE_COLUMNS)}) "  # noqa: S608 - names of ours
    f"SELECT {', '.join(STATE_COLUMNS)} FROM pg_temp.incoming_states "
    "ON CONFLICT (workflow_id) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in STATE_COLUMNS[1:])}"
)
_PUT_EVENTS: Final = (
    f"INSERT INTO {{s}}.events ({', '.join(EVENT_COLUMNS)}) "  # noqa: S608 - names of ours
    f"SELECT {', '.join(EVENT_COLUMNS)} FROM pg_temp.incoming_events "
    "ON CONFLICT (workflow_id, run_id, event_id) DO UPDATE SET "
    f"{', '.join(f'{n} = excluded.{n}' for n in EVENT_COLUMNS[3:])}"
)
_DROP_STATES: Final = "DELETE FROM {s}.workflows WHERE workflow_id = ANY(%s)"
_DROP_EVENTS: Final = """DELETE FROM {s}.events e
    USING unnest(%s::text[], %s::text[], %s::bigint[]) AS n (workflow_id, run_id, first_event_id)
    WHERE e.workflow_id = n.workflow_id AND e.run_id = n.run_id AND e.first_event_id = n.first_event_id"""
_PUT_UNREADABLE: Final = """INSERT INTO {s}.unreadable (topic, partition, "offset", reason, message,
    found_at, key, value, schema)
    VALUES (%s, %s, %s, %s, %s, clock_timestamp(), %s, %s, %s) ON CONFLICT DO NOTHING"""

_UNREAD: Final = """SELECT u.topic, u.partition, u."offset", u.reason, u.message, u.key, u.value,
    coalesce(u.schema, '')
    FROM {s}.unreadable u JOIN unnest(%s::text[], %s::integer[]) AS n (topic, partition) USING (topic,
        partition)
    WHERE u.reason = 'unknown_schema' ORDER BY u.topic, u.partition, u."offset" LIMIT %s"""
_FORGET_UNREADABLE: Final = 'DELETE FROM {s}.unreadable WHERE topic = %s AND partition = %s AND "offset" = %s'
_UPDATED: Final = (
    "SELECT (extract(epoch FROM updated_at) * 1000000)::bigint FROM {s}.workflows WHERE workflow_id = %s"
)


SESSION: Final = "perdure projector "
"""Name of a projector's PostgreSQL session, followed by its owner's name: the next owner finds the
session by it.
"""

STUCK_AFTER_MS: Final = 2_000
"""A projector whose transaction holds the position of a partition for so long is stuck. A write
takes 0.1 s."""


def session_of(owner: str) -> str:
    """The application name of an owner's connection."""
    return f"{SESSION}{owner}"


class Fenced(Exception):
    """A partition belongs to another projector, or its position has changed: nothing was
    written.
    """


class Writer:
    """Writes as the owner of the partitions that it has claimed.

    Args:
        database: with its tables.
        connection: in autocommit mode, this writer's own, named `session_of` its owner.
        owner: unique among all writers there ever are.
    """

    def __init__(self, database: Database, connection: Connection, owner: str) -> None:
        self._database = database
        self._connection = connection
        self._owner = owner
        self._positions: dict[Partition, int] = {}
        for name, table in (("incoming_states", "workflows"), ("incoming_events", "events")):
            connection.execute(database.sql(_STAGE.format(name=name, table=table)))

    @property
    def positions(self) -> Mapping[Partition, int]:
        """Positions of the claimed partitions."""
        return self._positions

    def claim(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Claim these partitions; their previous owner cannot write them any more.

        A projector that was frozen within a transaction holds the rows as long as its connection
        lives, which the machine keeps alive for it. As its partitions are ours, its session is
        ended. One that is not stuck only waits for the rows, and is fenced by them.

        Returns:
            Where each continues.
        """
        try:
            return self._claim(partitions, STUCK_AFTER_MS)
        except errors.LockNotAvailable:
            self._end_sessions(partitions)
        return self._claim(partitions)

    def _end_sessions(self, partitions: Collection[Partition]) -> None:
        topics, numbers = [topic for topic, _ in partitions], [number for _, number in partitions]
        # A session of another role may not be ended by us: then PostgreSQL ends it, after a minute
        # without a statement.
        with contextlib.suppress(errors.InsufficientPrivilege):
            self._execute(_END_SESSIONS, (SESSION, topics, numbers, self._owner))

    def _claim(self, partitions: Collection[Partition], wait_ms: int | None = None) -> dict[Partition, int]:
        claimed: dict[Partition, int] = {}
        with self._connection.transaction():
            if wait_ms is not None:
                self._execute(_WAIT_BRIEFLY, (f"{wait_ms}ms",))
            for topic, partition in sorted(partitions):
                row = self._execute(_CLAIM, (topic, partition, self._owner)).fetchone()
                assert row is not None
                claimed[topic, partition] = row[0]
        self._positions.update(claimed)
        return claimed

    def keep_only(self, partitions: Collection[Partition]) -> None:
        """Give up all other partitions."""
        for each in self._positions.keys() - set(partitions):
            del self._positions[each]

    def write(self, taken: ReadRecords, end_of: Callable[[Partition], int]) -> list[str]:
        """Write everything, or nothing.

        Args:
            taken: of partitions that were claimed; may be nothing: then the positions are said
                again.
            end_of: where a partition ends, as far as is known.

        Returns:
            Rows whose values PostgreSQL does not take, as text; they are kept without them.

        Raises:
            Fenced: nothing was written; claim again.
            psycopg.Error: nothing was written, or it is not known.
        """
        try:
            return self._write(taken, end_of, is_careful=False)
        except Fenced:
            raise
        except Exception as error:
            if isinstance(error, psycopg.Error) and is_outage(error):
                raise
            return self._write(taken, end_of, is_careful=True)

    def _write(
        self, taken: ReadRecords, end_of: Callable[[Partition], int], *, is_careful: bool
    ) -> list[str]:
        faults: list[str] = []
        moved = dict(taken.next_offsets) or dict(self._positions)
        for number in taken.reflected:
            moved.setdefault(("events", number), self._positions["events", number])
        with self._connection.transaction():
            self._move(moved, taken.reflected, end_of)
            states = [state for state in taken.states.values() if state is not None]
            if states:
                self._put_states(states, faults, is_careful=is_careful)
            if gone := [workflow_id for workflow_id, state in taken.states.items() if state is None]:
                self._execute(_DROP_STATES, ([_storable(each) for each in gone],))
            if taken.events:
                self._put_events(taken.events, faults, is_careful=is_careful)
            if taken.ended:
                self._execute(_DROP_EVENTS, self._columns(taken.ended))
            if taken.unreadable:
                self.put_unreadable(taken.unreadable)
        self._positions.update(moved)
        return faults

    @staticmethod
    def _columns(ended: Sequence[tuple[str, str, int]]) -> list[list[Any]]:
        return [
            [_storable(w) for w, _, _ in ended],
            [_storable(r) for _, r, _ in ended],
            [first for _, _, first in ended],
        ]

    def put_unreadable(self, found: Iterable[Unreadable]) -> None:
        """Within a transaction."""
        for each in found:
            where = (each.topic, each.partition, each.offset)
            said = (_storable(each.reason), _storable(each.message))
            self._execute(_PUT_UNREADABLE, (*where, *said, each.key, each.value, _storable(each.schema)))

    def _move(
        self, moved: Mapping[Partition, int], reflected: Mapping[int, int], end_of: Callable[[Partition], int]
    ) -> None:
        if not moved:
            return
        keys = sorted(moved)
        columns = [
            [topic for topic, _ in keys],
            [partition for _, partition in keys],
            [self._positions.get(key, -1) for key in keys],
            [moved[key] for key in keys],
            [max(moved[key], end_of(key)) for key in keys],
            [reflected.get(partition, 0) if topic == "events" else 0 for topic, partition in keys],
        ]
        if self._execute(_MOVE, (*columns, self._owner)).rowcount != len(keys):
            raise Fenced

    # ---- what could not be read, once more

    def unread(self, limit: int) -> list[Unreadable]:
        """Records whose schema was not known, of the partitions that are ours."""
        rows = self._execute(
            _UNREAD, ([t for t, _ in self._positions], [n for _, n in self._positions], limit)
        ).fetchall()
        return [
            Unreadable(
                topic, partition, offset, reason=reason, message=message, key=key, value=value, schema=schema
            )
            for topic, partition, offset, reason, message, key, value, schema in rows
        ]

    def put_again(self, found: Unreadable, taken: ReadRecords) -> bool:
        """Write a record that can be decoded now, unless a later one was written already; return
        whether it could be decoded.

        Raises:
            psycopg.Error: nothing was written, or it is not known.
        """
        with self._connection.transaction():
            self._execute(_FORGET_UNREADABLE, (found.topic, found.partition, found.offset))
            for state in taken.states.values():
                row = self._execute(_UPDATED, (state.workflow_id,)).fetchone() if state is not None else None
                if state is not None and (row is None or row[0] < state.updated_at):
                    self._put_states([state], [], is_careful=True)
            if taken.events:
                self._put_events(taken.events, [], is_careful=True)
        return True

    # ---- rows

    def _put_states(self, states: Sequence[WorkflowState], faults: list[str], *, is_careful: bool) -> None:
        def put(some: Sequence[WorkflowState]) -> None:
            self._copy("pg_temp.incoming_states", STATE_COLUMNS, map(state_line, some))
            self._execute(_PUT_STATES)

        def put_plain(state: WorkflowState) -> str:
            self._copy("pg_temp.incoming_states", STATE_COLUMNS, [plain_state_line(state)])
            self._execute(_PUT_STATES)
            return f"the values of {state.workflow_id!r} are stored only in its record"

        if is_careful:
            self._carefully(states, put, put_plain, "pg_temp.incoming_states", faults)
        else:
            put(states)

    def _put_events(self, records: Sequence[EventRecord], faults: list[str], *, is_careful: bool) -> None:
        def put(some: Sequence[EventRecord]) -> None:
            self._copy(
                "pg_temp.incoming_events",
                EVENT_COLUMNS,
                (line for each in some for line in event_lines(each)),
            )
            self._execute(_PUT_EVENTS)

        def put_plain(record: EventRecord) -> str:
            self._copy("pg_temp.incoming_events", EVENT_COLUMNS, event_lines(record, is_plain=True))
            self._execute(_PUT_EVENTS)
            return (
                f"the events {record.first_event_id} to {record.last_event_id} of {record.workflow_id!r} "
                "are stored only in their record"
            )

        if is_careful:
            self._carefully(records, put, put_plain, "pg_temp.incoming_events", faults)
        else:  # straight into the table, since a record comes once
            self._copy("{s}.events", EVENT_COLUMNS, (line for each in records for line in event_lines(each)))

    def _carefully(
        self,
        items: Sequence[T],
        put: Callable[[Sequence[T]], None],
        put_plain: Callable[[T], str],
        staged: str,
        faults: list[str],
    ) -> None:
        """Halve what is refused until the one is found that PostgreSQL does not take."""
        try:
            with self._connection.transaction():
                put(items)
                self._execute(f"TRUNCATE {staged}")
        except Exception as error:
            if isinstance(error, psycopg.Error) and is_outage(error):
                raise
            if len(items) > 1:
                middle = len(items) // 2
                self._carefully(items[:middle], put, put_plain, staged, faults)
                self._carefully(items[middle:], put, put_plain, staged, faults)
                return
            faults.append(f"{put_plain(items[0])}: {one_line(error)}")
            self._execute(f"TRUNCATE {staged}")

    def _copy(self, table: str, columns: Sequence[str], lines: Iterable[bytes]) -> None:
        statement = self._database.sql(f"COPY {table} ({', '.join(columns)}) FROM STDIN")
        text = b"\n".join(lines)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(text)

    def _execute(self, text: str, values: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(self._database.sql(text), values)


def _storable(text: str) -> str:
    return text.replace("\0", NUL_SHOWN).encode("utf-8", "replace").decode()
