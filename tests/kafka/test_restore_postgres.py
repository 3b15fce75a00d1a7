"""PostgreSQL is lost with all its data; the projector makes the same tables again from the
topics."""

from __future__ import annotations

import signal
from pathlib import Path

from perdure.adapters.postgres.database import Database
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.story import Story, differences
from tests.kafka.test_projector import has_caught_up, projector
from tests.postgres.server import running
from tests.postgres.tables import rows

TABLES = {
    "workflows": "SELECT * FROM {s}.workflows ORDER BY workflow_id",
    "events": "SELECT * FROM {s}.events ORDER BY workflow_id, run_id, event_id",
}


def tables(database: Database) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows(database, query) for name, query in TABLES.items()}


def test_a_new_postgres_gets_the_tables_that_the_old_one_had(namespace: Namespace, tmp_path: Path) -> None:
    story, log = Story(namespace), tmp_path / "log"
    story.go_on(100)
    with running() as old:
        database = Database(old.dsn, namespace.name)
        with projector(namespace, old.dsn, output=log) as process:
            wait_until(lambda: b"projecting" in log.read_bytes(), 60, log.read_text)
            assert has_caught_up(namespace, database), log.read_text()
            before = tables(database)
            old.kill()  # while the projector runs
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert before["workflows"]
    assert before["events"]
    with running() as new:
        database = Database(new.dsn, namespace.name)
        with projector(namespace, new.dsn, output=log) as process:
            wait_until(lambda: log.read_bytes().count(b"projecting") == 2, 60, log.read_text)
            assert has_caught_up(namespace, database), log.read_text()
            assert tables(database) == before
            story.go_on(50)
            assert has_caught_up(namespace, database), log.read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
        assert differences(namespace, database) == []
