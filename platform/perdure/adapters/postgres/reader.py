"""Public reads of the tables: `client.ports.Reader` on PostgreSQL."""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from perdure.adapters.postgres.database import Connection, Database, is_outage
from perdure.adapters.postgres.listing import counted, listed, state_of
from perdure.adapters.postgres.migrating import latest
from perdure.codec.paging import PAGE_EVENTS, page_of
from perdure.codec.records import decode_event_record
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.client.listing import ListQuery
    from perdure.client.position import Position
    from perdure.model.events import EventRecord
    from perdure.model.replies import History
    from perdure.model.states import WorkflowState

T = TypeVar("T")

ROWS: Final = 1_000
"""Of one page of a history: a record has one event at least."""
CONNECTIONS: Final = 8
"""Of one reader; more callers wait their turn."""
POLL_INTERVAL_S: Final = 0.005
LONGEST_LOOK_S: Final = 0.1
"""Between two looks at a position; each is half as long again as the one before."""

_EVENTS: Final = (
    "SELECT record FROM {s}.events WHERE workflow_id = %s AND run_id = %s AND record IS NOT NULL ORDER BY "
    "workflow_id, run_id, event_id"
)
_PAGE: Final = """SELECT event_id, record FROM {s}.events
    WHERE workflow_id = %(workflow_id)s AND run_id = %(run_id)s AND record IS NOT NULL
        AND event_id >= coalesce(
        (SELECT e.event_id FROM {s}.events e WHERE e.workflow_id = %(workflow_id)s AND e.run_id = %(run_id)s
            AND e.event_id <= %(from)s AND e.record IS NOT NULL ORDER BY e.event_id DESC LIMIT 1), 0)
    ORDER BY event_id LIMIT %(rows)s"""
_REFLECTED: Final = "SELECT reflected_offset FROM {s}.positions WHERE topic = 'events' AND partition = %s"
_LAG: Final = (
    "SELECT topic, partition, records, extract(epoch FROM silent_for)::float8 FROM {s}.projector_lag ORDER "
    "BY topic, partition"
)


class PostgresReader:
    """Uses one connection per reading thread, up to a limit; each is opened when needed.

    Reads may lag behind completed writes: `wait_for` waits, `lag` returns the lag.

    Args:
        database: where the tables are.
        connections: the most connections.
    """

    def __init__(self, database: Database, connections: int = CONNECTIONS) -> None:
        self._database = database
        self._free: builtins.list[Connection] = []
        self._lock = threading.Lock()
        self._room = threading.Semaphore(connections)
        self._is_closed = False

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        return self._read(lambda connection: state_of(connection, self._database, workflow_id))

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run."""
        values = (_text(workflow_id), _text(run_id))
        rows = self._read(lambda connection: connection.execute(self._sql(_EVENTS), values).fetchall())
        return [decode_event_record(row[0]) for row in rows]

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history."""
        limit = min(limit, ROWS)
        values = {
            "workflow_id": _text(workflow_id),
            "run_id": _text(run_id),
            "from": from_event_id,
            "rows": limit + 1,
        }

        def read(connection: Connection) -> History:
            with connection.cursor() as cursor:
                return page_of(cursor.stream(self._sql(_PAGE), values), from_event_id, limit)

        return self._read(read)

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        return self._read(lambda connection: listed(connection, self._database, query))

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        return self._read(lambda connection: counted(connection, self._database, query))

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until the tables reflect a position; whether they do."""
        deadline = time.monotonic() + timeout_s
        pause_s = POLL_INTERVAL_S
        while not self._has_reached(position):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            threading.Event().wait(min(pause_s, left_s))
            pause_s = min(LONGEST_LOOK_S, 1.5 * pause_s)
        return True

    def lag(self) -> builtins.list[tuple[str, int, int, float]]:
        """Of each partition: topic, number, records that are not in the tables, and for how many
        seconds no projector said anything.
        """
        return self._read(lambda connection: connection.execute(self._sql(_LAG)).fetchall())

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _has_reached(self, position: Position) -> bool:
        row = self._read(
            lambda connection: connection.execute(self._sql(_REFLECTED), (position.partition,)).fetchone()
        )
        return row is not None and row[0] >= position.offset

    def _sql(self, text: str) -> bytes:
        return self._database.sql(text)

    def _read(self, question: Callable[[Connection], T]) -> T:
        """Read; a connection that has been lost is replaced, once."""
        with self._database.telling():
            try:
                with self._connection() as connection:
                    return question(connection)
            except psycopg.Error as error:
                if not is_outage(error):
                    raise
            self._drop_free()
            with self._connection() as connection:
                return question(connection)

    @contextmanager
    def _connection(self) -> Generator[Connection]:
        with self._room:
            with self._lock:
                if self._is_closed:
                    raise InfrastructureError("this reader is closed")
                connection = self._free.pop() if self._free else None
            if connection is None:
                connection = self._opened()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._free.append(connection)
                return
        connection.close()

    def _opened(self) -> Connection:
        connection = self._database.connect(name="perdure reader")
        try:
            connection.execute("SET default_transaction_read_only = on")
            row = connection.execute(self._sql("SELECT max(version) FROM {s}.migrations")).fetchone()
        except BaseException:
            connection.close()
            raise
        if row is not None and (row[0] or 0) < latest():
            connection.close()
            raise InfrastructureError(
                f"the schema {self._database.schema} has version {row[0]}, but {latest()} is required: run "
                "`perdure migrate`"
            )
        return connection

    def _drop_free(self) -> None:
        with self._lock:
            free, self._free = self._free, []
        for connection in free:
            connection.close()


def _text(value: Any) -> str:
    """PostgreSQL's texts hold no NUL: no row has one."""
    return str(value).replace("\0", "\N{SYMBOL FOR NULL}")
