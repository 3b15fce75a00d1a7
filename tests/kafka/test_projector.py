"""The projector on real Kafka and PostgreSQL: the tables are a fold of the topics, whatever is
killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.projection.source import ProjectionSource
from perdure.adapters.postgres.database import Database
from perdure.adapters.postgres.migrating import migrated
from perdure.adapters.postgres.projector import Projector
from perdure.adapters.postgres.reader import PostgresReader
from perdure.adapters.postgres.writing import Writer
from perdure.client.position import Position
from perdure.codec.avro import EVENTS, HEADER, STATE
from perdure.errors import InfrastructureError
from tests.contract.samples import record, state
from tests.kafka.namespace import ROOT, Namespace, wait_until
from tests.kafka.story import Story, differences
from tests.postgres.server import Server
from tests.postgres.tables import rows, silent


@contextmanager
def projector(
    namespace: Namespace, dsn: str, *options: str, output: Path | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """As a user starts it."""
    command = [
        "projector",
        "--kafka",
        namespace.bootstrap,
        "--namespace",
        namespace.name,
        "--postgres",
        dsn,
        *options,
    ]
    with (output or Path("/dev/null")).open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure.cli", *command], cwd=ROOT, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def database(namespace: Namespace, postgres: str) -> Database:
    return Database(postgres, namespace.name)


def has_caught_up(namespace: Namespace, database: Database) -> bool:
    ends: dict[int, int] = {}
    for each in namespace.read("events", isolation="read_uncommitted"):
        ends[each.partition()] = max(ends.get(each.partition(), 0), each.offset() + 1)
    reader = PostgresReader(database)
    try:
        return all(reader.wait_for(Position(partition, end), 20) for partition, end in ends.items())
    finally:
        reader.close()


def test_the_tables_are_a_fold_of_the_topics_after_kills_of_projector_and_server(
    namespace: Namespace, postgres_server: Server, tmp_path: Path
) -> None:
    database, story, log = Database(postgres_server.dsn, namespace.name), Story(namespace), tmp_path / "log"
    story.go_on(150)

    def count() -> int:
        return int(rows(database, "SELECT count(*) FROM {s}.events")[0][0])

    with projector(namespace, postgres_server.dsn, output=log) as process:
        wait_until(lambda: b"projecting" in log.read_bytes(), 30, log.read_text)
        story.go_on(100)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with projector(namespace, postgres_server.dsn, "--session-timeout-ms", "6000", output=log) as process:
        wait_until(lambda: log.read_bytes().count(b"projecting") == 2, 30, log.read_text)
        wait_until(lambda: count() > 0, 30, log.read_text)
        postgres_server.kill()
        story.go_on(50)
        postgres_server.start()
        story.go_on(50)
        postgres_server.stop()
        postgres_server.start()
        assert has_caught_up(namespace, database), log.read_text()
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    assert differences(namespace, database) == []


def test_two_projectors_share_the_partitions_and_one_takes_over(
    namespace: Namespace, database: Database, tmp_path: Path
) -> None:
    story, logs = Story(namespace), [tmp_path / "one", tmp_path / "two"]
    story.go_on(50)

    def owners() -> set[str]:
        return {row[0] for row in rows(database, "SELECT owner FROM {s}.positions WHERE topic = 'events'")}

    with projector(namespace, database.dsn, output=logs[0]) as one:
        wait_until(lambda: b"projecting" in logs[0].read_bytes(), 30, logs[0].read_text)
        with projector(namespace, database.dsn, output=logs[1]):
            wait_until(lambda: len(owners()) == 2, 30, lambda: str(owners()))
            story.go_on(50)
            one.send_signal(signal.SIGSTOP)  # it will think that it still owns what the other one has by then
            story.go_on(50)
            wait_until(lambda: len(owners()) == 1, 40, lambda: str(owners()))
            one.send_signal(signal.SIGCONT)
            story.go_on(50)
            assert has_caught_up(namespace, database), [log.read_text() for log in logs]
    assert differences(namespace, database) == []


def test_a_rebuild_swaps_the_tables_while_a_projector_runs(
    namespace: Namespace, database: Database, tmp_path: Path
) -> None:
    story, log, other = Story(namespace), tmp_path / "log", tmp_path / "rebuild"
    story.go_on(80)
    with projector(namespace, database.dsn, output=log) as running:
        wait_until(lambda: b"projecting" in log.read_bytes(), 30, log.read_text)
        assert has_caught_up(namespace, database), log.read_text()
        rows(database, "UPDATE {s}.workflows SET type = 'damaged' RETURNING 1")
        rows(database, "DELETE FROM {s}.events WHERE event_id = 1 RETURNING 1")
        assert differences(namespace, database) != []
        with projector(namespace, database.dsn, "--rebuild", output=other) as rebuilding:
            story.go_on(40)
            assert rebuilding.wait(60) == 0, other.read_text()
        story.go_on(40)
        wait_until(lambda: has_caught_up(namespace, database), 40, log.read_text)
        assert running.poll() is None, log.read_text()
    assert differences(namespace, database) == []
    left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s"
    assert rows(database, left, f"{namespace.name}%") == [(namespace.name,)]


def test_what_cannot_be_read_stops_nothing_and_is_read_once_its_schema_is_known(
    namespace: Namespace, database: Database
) -> None:
    namespace.create({f"{namespace.name}.meta": 1})
    story = Story(namespace)
    story.go_on(5)
    event, whole = record("r", 1, workflow_id="w-0/n"), state("w-0/n", "r")
    new = (HEADER, b"events/9/0123456789abcdef")
    namespace.put(b"\xff", b"w-0/x/r/1", 0, [EVENTS.header], "events")
    namespace.put(b"no header", b"w-0/x/r/1", 0, None, "events")
    namespace.put(None, b"no key of events", 0, None, "events")
    namespace.put(STATE.encode(whole), b"somebody else", 0, [STATE.header], "state")
    namespace.put(STATE.encode(whole), b"\xff\xfe", 0, [STATE.header], "state")
    namespace.put(None, None, 0, None, "state")
    namespace.put(EVENTS.encode(event), b"w-0/n/r/1", 0, [new], "events")
    namespace.flush()
    story.go_on(5)
    source = ProjectionSource(
        PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap}), lambda _: None
    )
    migrated(database)
    made = Projector(database, source, silent())

    def reasons() -> list[tuple[str, int]]:
        return rows(database, "SELECT reason, count(*) FROM {s}.unreadable GROUP BY 1 ORDER BY 1")

    def has_read(count: int) -> bool:
        made.turn()
        return sum(number for _, number in reasons()) == count

    wait_until(lambda: has_read(6), 40, lambda: str(reasons()))
    assert reasons() == [("undecodable", 5), ("unknown_schema", 1)]
    namespace.put(EVENTS.schema.text.encode(), f"schema/{new[1].decode()}", 0, None, "meta")
    namespace.flush()
    source._decoder._learned_at = -1_000.0
    with database.connect() as connection:
        other = Writer(database, connection, "test")
        other._positions.update(made.positions)
        assert made.retry_unreadable(other) == 1
    wait_until(lambda: has_read(5), 20)
    made.close()
    reader = PostgresReader(database)
    assert reader.events("w-0/n", "r") == [event]
    reader.close()


def test_a_recreated_topic_is_not_taken_for_the_old_one(namespace: Namespace, database: Database) -> None:
    story = Story(namespace)
    story.go_on(5)
    source = ProjectionSource(
        PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap}), lambda _: None
    )
    migrated(database)
    with database.connect() as connection:
        for topic in ("events", "state"):
            for partition in range(namespace.partitions):
                values = (topic, partition)
                text = "INSERT INTO {s}.positions VALUES (%s, %s, 1000000, 0, 0, '', now())"
                connection.execute(database.sql(text), values)
    made = Projector(database, source, silent())
    with pytest.raises(InfrastructureError, match="--rebuild"):
        wait_until(lambda: made.turn() and False, 30)
    made.close()
