"""A projector's turn, whatever PostgreSQL and Kafka do; and how it says what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import errors

from perdure.adapters.postgres import progress as progress_module
from perdure.adapters.postgres.database import Database, is_outage, one_line
from perdure.adapters.postgres.progress import Progress
from perdure.adapters.postgres.projector import FIRST_PAUSE_S, LONGEST_PAUSE_S, SAY_S, Projector
from perdure.adapters.postgres.retention import EVERY_S, SLICE, Retention
from perdure.adapters.postgres.writing import Fenced
from perdure.errors import InfrastructureError, UsageError
from perdure.ports.projection import NotThereYet, Partition, ReadRecords, Unreadable
from tests.contract.samples import record, state
from tests.postgres.tables import Script

DATABASE = Database("postgresql://user:secret@db.example:6432/shop", "orders")
AWAY = psycopg.OperationalError("connection refused")


class Tables:
    """A writer: notes what it is given, or fails."""

    def __init__(self) -> None:
        self.positions: dict[Partition, int] = {}
        self.written: list[ReadRecords] = []
        self.ends: list[int] = []
        self.kept: list[set[Partition]] = []
        self.errors: list[Exception] = []
        self.faults: list[str] = []

    def claim(self, partitions: Any) -> dict[Partition, int]:
        claimed = {each: self.positions.get(each, 0) for each in partitions}
        self.positions.update(claimed)
        return claimed

    def keep_only(self, partitions: Any) -> None:
        self.kept.append(set(partitions))

    def write(self, taken: ReadRecords, end_of: Callable[[Partition], int]) -> list[str]:
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(taken)
        self.positions.update(taken.next_offsets)
        return self.faults

    def unread(self, _limit: int) -> list[Unreadable]:
        return []


class Made(Projector):
    """Its PostgreSQL is there when `is_there`; its clock is not looked at."""

    tables: Tables
    is_there = True

    def _connected(self) -> Any:
        return self.tables if self.is_there else None


def made(source: Script, said: list[str] | None = None) -> Made:
    def report(message: str, /, **_where: str | int) -> None:
        if said is not None:
            said.append(message)

    made = Made(DATABASE, source, Progress(report))
    made.tables = Tables()
    made._writer = made.tables  # type: ignore[assignment]
    return made


def page(**fields: Any) -> ReadRecords:
    return ReadRecords({"w": state("w"), "v": None}, [record("r")], **fields)


UNREADABLE = Unreadable(
    "events", 0, 4, reason="undecodable", message="cut short", key=b"k", value=b"v", schema=""
)


def test_taken_records_are_written_and_counted_with_their_lag() -> None:
    said: list[str] = []
    source = Script(page(unreadable=[UNREADABLE]), page(), ReadRecords())
    projector = made(source, said)
    projector.tables.faults = ["a value"]
    assert projector.turn(0)
    counts = projector._progress.counts
    assert (
        counts.transactions,
        counts.states,
        counts.events,
        counts.unreadable,
        counts.rows_without_values,
    ) == (1, 2, 2, 1, 1)
    assert any("cut short" in each for each in said)
    assert projector._progress.lag == {("events", 0): 2, ("state", 0): 2}
    assert projector.tables.kept == [{("events", 0), ("state", 0)}]
    assert projector._progress.waiting_for == ""


def test_a_partition_that_another_projector_has_taken_is_read_again_from_where_that_one_is() -> None:
    source = Script(page(), page())
    projector = made(source)
    projector.tables.errors = [Fenced()]
    assert projector.turn(0)
    assert (projector.tables.written, projector._progress.counts.fenced) == ([], 1)
    assert (set(source.gained), set(source.owned)) == ({("events", 0), ("state", 0)}, set())
    projector.tables.positions = {("events", 0): 1, ("state", 0): 1}
    assert projector.turn(0)
    assert projector.tables.positions == {("events", 0): 2, ("state", 0): 2}


def test_an_unavailable_server_is_retried_with_growing_pauses_and_no_data_is_lost() -> None:
    source = Script(page())
    projector = made(source)
    projector.tables.errors = [AWAY] * 8
    pauses: list[float] = []
    for _ in range(8):
        pauses.append(projector._pause_s)
        assert not projector.turn(0)
        assert source.gained
        projector._writer = projector.tables  # type: ignore[assignment]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert "db.example:6432/shop cannot be reached: connection refused" in projector._progress.waiting_for
    assert projector.turn(0)
    assert len(projector.tables.written) == 1
    assert (projector._pause_s, projector._progress.waiting_for) == (FIRST_PAUSE_S, "")


def test_while_postgres_is_away_the_projector_stays_in_the_group_and_takes_nothing() -> None:
    asked: list[int] = []

    class Asked(Script):
        def take(self, limit: int, timeout_s: float) -> ReadRecords:
            asked.append(limit)
            return super().take(limit, timeout_s)

    projector = made(Asked(page()))
    projector.is_there = False
    assert not projector.turn(0)
    assert (asked, projector.tables.written) == ([0], [])


def test_what_waiting_does_not_help_ends_the_projector() -> None:
    projector = made(Script(page()))
    projector.tables.errors = [errors.InsufficientPrivilege("no")]
    with pytest.raises(InfrastructureError, match="denied access"):
        projector.turn(0)


def test_topics_that_are_not_there_are_waited_for() -> None:
    class Missing(Script):
        def begin(self, offsets: Mapping[Partition, int]) -> None:
            raise NotThereYet("topic ns.state does not exist")

    projector = made(Missing())
    projector._stopping.set()
    assert not projector.turn(0)
    assert projector._progress.waiting_for == "topic ns.state does not exist"


def test_an_idle_projector_sends_a_sign_of_life() -> None:
    projector = made(Script(page()))
    projector.turn(0)
    projector.turn(0)
    assert len(projector.tables.written) == 1, "not every time"
    projector._said_at -= SAY_S
    projector.turn(0)
    assert [each.next_offsets for each in projector.tables.written[1:]] == [{}]


class Sweeps:
    """A connection that deletes so many workflows at a time."""

    def __init__(self, *deleted: int) -> None:
        self.left = list(deleted)
        self.asked: list[Any] = []

    def execute(self, _text: bytes, values: Any) -> Any:
        self.asked.append(values)
        self.rowcount = self.left.pop(0)
        return self


def test_retention_continues_immediately_while_there_is_more_and_then_waits() -> None:
    connection: Any = Sweeps(SLICE, 3, 0)
    retention = Retention(3_600.0)
    assert retention.apply(connection, DATABASE, 100.0) == SLICE
    assert retention.apply(connection, DATABASE, 100.0) == 3
    assert retention.apply(connection, DATABASE, 100.0 + EVERY_S - 1) == 0
    assert len(connection.asked) == 2
    assert retention.apply(connection, DATABASE, 100.0 + EVERY_S) == 0
    assert connection.asked == [(3_600.0, SLICE)] * 3


def test_a_wait_is_reported_once_it_lasts_again_after_a_while_and_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now))
    said: list[str] = []

    def report(message: str, /, **_where: str | int) -> None:
        said.append(message)

    progress = Progress(report)
    for at, lines in ((1_000.0, 0), (1_000.9, 0), (1_001.0, 1), (1_030.9, 1), (1_031.0, 2)):
        now = at
        progress.waits("the server")
        assert len(said) == lines, at
    assert "for 31 s" in said[-1]
    progress.on_trouble("a broker")
    now = 1_040.0
    progress.clear_wait()
    assert "after 40 s" in said[-1]
    assert (progress.waiting_for, progress.trouble) == ("", "")
    progress.clear_wait()
    assert len(said) == 3, "once"
    now = 2_000.0
    progress.waits("the server")
    assert len(said) == 3, "another wait begins by itself"


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (AWAY, True),
        (psycopg.InterfaceError("closed"), True),
        (psycopg.ProgrammingError("no"), False),
        (errors.SerializationFailure("again"), True),
        (errors.DeadlockDetected("again"), True),
        (errors.DiskFull("full"), True),
        (errors.OutOfMemory("memory"), True),
        (errors.TooManyConnections("many"), True),
        (errors.LockNotAvailable("locked"), True),
        (errors.AdminShutdown("stops"), True),
        (errors.CannotConnectNow("starts"), True),
        (errors.ConnectionFailure("cut"), True),
        (errors.IdleInTransactionSessionTimeout("idle"), True),
        (errors.IoError("disk"), True),
        (errors.UndefinedTable("none"), False),
        (errors.InsufficientPrivilege("no"), False),
        (errors.UniqueViolation("twice"), False),
        (errors.ReadOnlySqlTransaction("reader"), False),
    ],
)
def test_errors_that_may_pass_by_waiting_are_distinguished_from_others(
    error: psycopg.Error, may_pass: bool
) -> None:
    assert is_outage(error) is may_pass


def test_where_the_database_is_is_shown_without_its_password() -> None:
    assert DATABASE.shown == "db.example:6432/shop"
    assert Database("postgresql:///shop", "orders").shown == "localhost:5432/shop"
    assert DATABASE.beside("__new") == Database(DATABASE.dsn, "orders__new")
    assert DATABASE.sql("SELECT 1 FROM {s}.workflows") == b'SELECT 1 FROM "orders".workflows'
    with pytest.raises(UsageError, match="at most 50"):
        Database("", "n" * 51)
    assert Database("", "n" * 50).schema == "n" * 50


def test_an_error_of_postgres_says_what_to_do_in_one_line() -> None:
    assert "perdure migrate" in str(DATABASE.fault(errors.UndefinedTable("no\nLINE 1")))
    assert "grant it" in str(DATABASE.fault(errors.InsufficientPrivilege("no")))
    assert (
        str(DATABASE.fault(errors.UniqueViolation("twice\nDETAIL")))
        == "PostgreSQL at db.example:6432/shop: twice"
    )
    assert one_line(ValueError("")) == "ValueError"
