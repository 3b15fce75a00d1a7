"""The rows that the writer writes, for any input."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace as with_fields
from psycopg.conninfo import make_conninfo

from perdure.adapters.postgres import writing
from perdure.adapters.postgres.database import Database, is_outage
from perdure.adapters.postgres.projector import Projector
from perdure.adapters.postgres.reader import PostgresReader
from perdure.adapters.postgres.retention import Retention
from perdure.adapters.postgres.writing import Fenced, Writer, session_of
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.states import Status, WorkflowState
from perdure.ports.projection import ReadRecords, Unreadable
from tests.contract.samples import record, state
from tests.postgres.tables import Script, fresh, page, rows, silent, writer

SHOWN_NUL = "\N{SYMBOL FOR NULL}"


@pytest.fixture
def database(postgres: str) -> Database:
    return fresh(postgres)


@contextmanager
def reading(database: Database) -> Generator[PostgresReader]:
    reader = PostgresReader(database)
    try:
        yield reader
    finally:
        reader.close()


def write(database: Database, *pages: ReadRecords) -> list[str]:
    with writer(database) as made:
        return [fault for each in pages for fault in made.write(each, lambda partition: 0)]


def test_the_last_state_of_a_workflow_is_its_row_and_a_tombstone_ends_it(database: Database) -> None:
    write(
        database,
        page([state("a"), state("b")]),
        page([state("a", status=Status.COMPLETED)]),
        ReadRecords({"b": None}),
    )
    assert rows(database, "SELECT workflow_id, status FROM {s}.workflows") == [("a", "completed")]


def test_events_are_rows_and_a_tombstone_takes_those_of_its_record(database: Database) -> None:
    records = [
        record("r", 1),
        record("r", 3, ev.TimerStarted(1, 5), ev.TimerFired(1)),
        record("q/1", 1, workflow_id="a/b"),
    ]
    write(database, page(events=records))
    assert rows(
        database,
        "SELECT event_id, first_event_id, type FROM {s}.events WHERE workflow_id = 'w' ORDER BY event_id",
    ) == [
        (1, 1, "WorkflowStarted"),
        (2, 1, "SignalReceived"),
        (3, 3, "TimerStarted"),
        (4, 3, "TimerFired"),
    ]
    with reading(database) as reader:
        assert reader.events("w", "r") == records[:2]
        assert reader.events("a/b", "q/1") == records[2:]
        write(database, ReadRecords(ended=[("w", "r", 3)]))
        assert reader.events("w", "r") == records[:1]


@pytest.mark.parametrize(
    ("fields", "column", "shown"),
    [
        (
            {"view": b'{"a":"x\\u0000y","\\u0000":["\\\\u0000"]}'},
            "view",
            {"a": f"x{SHOWN_NUL}y", SHOWN_NUL: ["\\u0000"]},
        ),
        ({"attributes": b'{"a":"\\u0000"}'}, "attributes", {"a": SHOWN_NUL}),
        ({"reason": "a\0b\tc\\d\ne"}, "reason", f"a{SHOWN_NUL}b\tc\\d\ne"),
        ({"details": "a\0b\tc\\d\n**e**"}, "details", f"a{SHOWN_NUL}b\tc\\d\n**e**"),
        ({"memo": b'{"\\u0000":1}'}, "memo", {SHOWN_NUL: 1}),
        ({"type": "Or\0der"}, "type", f"Or{SHOWN_NUL}der"),
        (
            {"failure": FailureInfo("app:No", "no\0pe")},
            "failure",
            {"type": "app:No", "message": f"no{SHOWN_NUL}pe"},
        ),
    ],
)
def test_a_nul_is_shown_and_flagged_and_not_lost(
    database: Database, fields: dict[str, Any], column: str, shown: object
) -> None:
    whole = with_fields(state("w"), **fields)
    assert write(database, page([whole])) == []
    assert rows(database, f"SELECT {column}, is_exact FROM {{s}}.workflows") == [(shown, False)]
    with reading(database) as reader:
        assert reader.state("w") == whole


def test_an_escaped_backslash_is_not_taken_for_a_nul(database: Database) -> None:
    write(database, page([with_fields(state("w"), view=b'"C:\\\\u0000\\t\\"\\n"', reason="\\N")]))
    assert rows(database, "SELECT view, reason, is_exact FROM {s}.workflows") == [
        ('C:\\u0000\t"\n', "\\N", True)
    ]


def test_a_payload_that_a_codec_closed_has_no_view_and_says_so_in_events(database: Database) -> None:
    closed = b"\0aes\0\xff\xfe\x00secret"
    whole = with_fields(state("w"), view=closed, result=closed, memo=closed)
    events = record("r", 1, ev.SignalReceived("go", closed))
    write(database, page([whole], [events]))
    assert rows(database, "SELECT view, result, memo FROM {s}.workflows") == [(None, None, None)]
    assert rows(database, "SELECT data FROM {s}.events") == [
        ({"name": "go", "input": {"codec": "aes", "bytes": len(closed)}},)
    ]
    with reading(database) as reader:
        assert (reader.state("w"), reader.events("w", "r")) == (whole, [events])


def test_one_row_that_postgres_does_not_take_keeps_no_other_back(database: Database) -> None:
    """JSON that is no jsonb, and a value that is nested too deeply for us to look for its NUL."""
    bad = with_fields(state("bad"), view=b"1e999999")
    deep = with_fields(state("deep"), view=b"[" * 100_000 + b'"\\u0000"' + b"]" * 100_000)
    states = [state(f"w{number}") for number in range(20)] + [bad, deep]
    events = [record(f"r{number}", 1, workflow_id=f"w{number}") for number in range(20)]
    worse = record("r", 1, ev.SignalReceived("go", b"1e999999"), workflow_id="bad")
    faults = write(database, page(states, [*events[:7], worse, *events[7:]]))
    assert len(faults) == 3
    assert sum("'bad'" in fault for fault in faults) == 2
    assert rows(database, "SELECT count(*) FROM {s}.workflows") == [(22,)]
    assert rows(database, "SELECT workflow_id, view FROM {s}.workflows WHERE NOT is_exact ORDER BY 1") == [
        ("bad", None),
        ("deep", None),
    ]
    assert rows(database, "SELECT count(*), count(DISTINCT workflow_id) FROM {s}.events") == [(41, 21)]
    with reading(database) as reader:
        assert (reader.state("bad"), reader.state("deep")) == (bad, deep)
        assert reader.events("bad", "r") == [worse]


def test_a_repeated_record_is_written_once(database: Database) -> None:
    write(database, page(events=[record()]), page(events=[record(), record("run-1", 3, ev.TimerFired(1))]))
    assert rows(database, "SELECT count(*) FROM {s}.events") == [(3,)]


def test_times_after_the_year_9999_are_infinite(database: Database) -> None:
    late = with_fields(state("w"), updated_at=400_000 * 366 * 86_400_000_000)
    write(database, page([late]))
    assert rows(database, "SELECT updated_at = 'infinity' FROM {s}.workflows") == [(True,)]
    with reading(database) as reader:
        assert reader.state("w") == late


def test_who_lost_a_partition_writes_nothing(database: Database) -> None:
    with writer(database) as old:
        old.write(ReadRecords({"w": state("w")}, next_offsets={("state", 0): 1}), lambda partition: 0)
        with writer(database) as new:
            assert new.positions["state", 0] == 1
            new.write(ReadRecords({"v": state("v")}, next_offsets={("state", 0): 2}), lambda partition: 0)
            with pytest.raises(Fenced):
                old.write(ReadRecords({"w": None}, next_offsets={("state", 0): 2}), lambda partition: 0)
            with pytest.raises(Fenced):
                old.write(ReadRecords({"w": None}, next_offsets={("events", 0): 1}), lambda partition: 0)
    assert rows(database, "SELECT workflow_id FROM {s}.workflows ORDER BY 1") == [("v",), ("w",)]


def test_what_cannot_be_read_is_kept_with_its_reason(database: Database) -> None:
    found = Unreadable(
        "events",
        3,
        17,
        reason="undecodable",
        message="cut\0short",
        key=b"\0key",
        value=None,
        schema="events/9/ab",
    )
    write(database, ReadRecords(unreadable=[found, replace(found, offset=18)]))
    assert rows(
        database,
        'SELECT topic, partition, "offset", message, key, value, schema FROM {s}.unreadable ORDER BY 3',
    ) == [
        ("events", 3, 17, f"cut{SHOWN_NUL}short", b"\0key", None, "events/9/ab"),
        ("events", 3, 18, f"cut{SHOWN_NUL}short", b"\0key", None, "events/9/ab"),
    ]


class Learned(Script):
    """Its schema becomes known."""

    is_known = False

    def decode(self, found: Unreadable) -> ReadRecords | None:
        return page([state(found.message, view=b'"old"')]) if self.is_known else None


def test_a_record_of_an_unknown_schema_is_read_when_it_is_known_and_does_not_undo_what_followed(
    database: Database,
) -> None:
    unknown = Unreadable(
        "state", 0, 4, reason="unknown_schema", message="w", key=b"w", value=b"?", schema="state/9/ab"
    )
    source = Learned(
        page(
            [with_fields(state("w", view=b'"new"'), updated_at=9)],
            unreadable=[unknown, replace(unknown, offset=5, message="v")],
        )
    )
    projector = Projector(database, source, silent())
    assert projector.turn()
    with writer(database) as other:
        assert len(other.unread(10)) == 2
        assert projector.retry_unreadable(other) == 0
        source.is_known = True
        assert projector.retry_unreadable(other) == 2
    projector.close()
    assert rows(database, "SELECT workflow_id, view FROM {s}.workflows ORDER BY 1") == [
        ("v", "old"),
        ("w", "new"),
    ]
    assert rows(database, "SELECT count(*) FROM {s}.unreadable") == [(0,)]


def test_closed_workflows_leave_the_tables_when_their_time_has_come(database: Database) -> None:
    old = WorkflowState("old", "r", "Order", Status.COMPLETED, 1, 2, 2, 2)
    now = int(rows(database, "SELECT (extract(epoch FROM now()) * 1000000)::bigint")[0][0])
    states = [old, state("open"), with_fields(old, workflow_id="new", updated_at=now, closed_at=now)]
    write(
        database,
        page(
            states,
            [
                record("r", 1, workflow_id="old"),
                record("q", 1, workflow_id="old"),
                record("r", 1, workflow_id="new"),
            ],
        ),
    )
    with database.connect() as connection:
        retention = Retention(3_600)
        assert retention.apply(connection, database, 1.0) == 1
        assert retention.apply(connection, database, 2.0) == 0, "it is not time to look again"
    assert rows(database, "SELECT workflow_id FROM {s}.workflows ORDER BY 1") == [("new",), ("open",)]
    assert rows(database, "SELECT DISTINCT workflow_id FROM {s}.events") == [("new",)]


def test_readers_see_the_lag_of_the_tables(database: Database) -> None:
    with database.connect() as connection:
        made = Writer(database, connection, os.urandom(4).hex())
        made.claim([("events", 2)])
        made.write(ReadRecords(next_offsets={("events", 2): 40}, reflected={2: 38}), lambda partition: 100)
    with reading(database) as reader:
        ((topic, partition, behind, silent_s),) = reader.lag()
        assert (topic, partition, behind) == ("events", 2, 60)
        assert silent_s >= 0


def test_a_broken_connection_is_replaced(database: Database) -> None:
    write(database, page([state("w")]))
    with reading(database) as reader:
        assert reader.state("w") == state("w")
        with database.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perdure "
                "reader'"
            )
        assert reader.state("w") == state("w")


def test_a_reader_cannot_write(database: Database) -> None:
    with reading(database) as reader:
        with reader._connection() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(database.sql("DELETE FROM {s}.workflows"))
        assert reader.state("w") is None


# ---- an owner that is frozen


@pytest.fixture
def frozen(database: Database) -> Generator[Writer]:
    """An owner of both partitions whose process no longer runs, and whose connection the machine
    keeps open."""
    connection = database.connect(name=session_of("frozen"))
    made = Writer(database, connection, "frozen")
    made.claim([("state", 0), ("events", 0)])
    yield made
    connection.close()


@pytest.mark.parametrize("stopped_in", ["a transaction", "a copy"])
def test_owner_frozen_within_a_transaction_does_not_keep_its_partitions(
    database: Database, frozen: Writer, stopped_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "STUCK_AFTER_MS", 100)
    connection = frozen._connection
    connection.execute("BEGIN")
    connection.execute(database.sql("UPDATE {s}.positions SET next_offset = 7"))
    with ExitStack() as stack:
        if stopped_in == "a copy":
            stack.enter_context(pytest.raises(psycopg.OperationalError))
            stack.enter_context(connection.cursor().copy(database.sql("COPY {s}.events FROM STDIN")))
        with database.connect() as other:
            claimed = Writer(database, other, "heir").claim([("state", 0), ("events", 0)])
    assert claimed == {("state", 0): 0, ("events", 0): 0}, "nothing of its transaction was written"
    with pytest.raises(psycopg.OperationalError):
        frozen.write(page([state("a")]), lambda _: 0)


def test_owner_that_is_not_stuck_keeps_its_session_and_is_fenced_by_the_rows(
    database: Database, frozen: Writer
) -> None:
    with database.connect() as other:
        Writer(database, other, "heir").claim([("state", 0), ("events", 0)])
    with pytest.raises(Fenced):
        frozen.write(page([state("a")]), lambda _: 0)


def test_session_of_an_owner_of_other_partitions_is_not_ended(
    database: Database, frozen: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "STUCK_AFTER_MS", 100)
    with database.connect(name=session_of("another")) as third, database.connect() as other:
        Writer(database, third, "another").claim([("events", 1)])
        frozen._connection.execute("BEGIN")
        frozen._connection.execute(
            database.sql("UPDATE {s}.positions SET next_offset = 7 WHERE partition = 0")
        )
        Writer(database, other, "heir").claim([("events", 0)])
        assert third.execute("SELECT 1").fetchone() == (1,)


def test_session_of_another_role_is_waited_for_since_we_may_not_end_it(
    database: Database, frozen: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "STUCK_AFTER_MS", 100)
    role = f"{database.schema}_other"
    with database.connect() as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN".encode())
        owner.execute(database.sql(f"GRANT USAGE ON SCHEMA {{s}} TO {role}"))
        owner.execute(database.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {{s}} TO {role}"))
    frozen._connection.execute("BEGIN")
    frozen._connection.execute(database.sql("UPDATE {s}.positions SET next_offset = 7"))
    other = Database(make_conninfo(database.dsn, user=role), database.schema)
    with other.connect() as connection:
        connection.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable) as raised:
            Writer(other, connection, "heir").claim([("state", 0)])
    assert is_outage(raised.value), "tried again"
    frozen._connection.execute("COMMIT")
