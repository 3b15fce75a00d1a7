"""The projector on real Kafka and PostgreSQL: the tables are a fold of the topics, whatever is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.client.position import Position
from perdure.views.database import Database
from perdure.views.reader import PostgresReader
from tests.kafka.namespace import ROOT, Namespace, wait_until
from tests.kafka.story import Story, differences
from tests.postgres.server import Server
from tests.postgres.tables import rows


@contextmanager
def projector(namespace: Namespace, dsn: str, *options: str, output: Path | None = None) -> Generator[subprocess.Popen[bytes]]:
    """As a user starts it."""
    command = ["projector", "--kafka", namespace.bootstrap, "--namespace", namespace.name, "--postgres", dsn, *options]
    with (output or Path("/dev/null")).open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "perdure.cli", *command], cwd=ROOT, stdout=out, stderr=out)
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


def test_two_projectors_share_the_partitions_and_one_takes_over(namespace: Namespace, database: Database, tmp_path: Path) -> None:
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
