"""Migrations: forward only, one at a time, and never past what the code knows."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from perdure.adapters.postgres import migrating
from perdure.adapters.postgres.database import Database
from perdure.adapters.postgres.migrating import latest, migrated, migrations
from perdure.adapters.postgres.projector import Projector
from perdure.adapters.postgres.reader import PostgresReader
from perdure.client.listing import ListQuery
from perdure.codec.records import encode_state
from perdure.errors import InfrastructureError, UsageError
from perdure.ports.projection import ReadRecords
from tests.contract.samples import state
from tests.postgres.tables import Script, fresh, page, rows, silent, writer


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [version for version, _, _ in migrations()] == list(range(1, latest() + 1))


def test_concurrent_callers_apply_each_migration_once(postgres: str) -> None:
    database = Database(postgres, f"race{os.getpid()}")
    with ThreadPoolExecutor(8) as pool:
        applied = [each for each in pool.map(migrated, [database] * 8) if each]
    assert applied == [[f"{version:04}_{name}" for version, name, _ in migrations()]]
    assert migrated(database) == []


def test_a_database_of_the_first_version_is_migrated_with_its_rows(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new columns of its tables are at the end: not where `STATE_COLUMNS` has them."""
    database = Database(postgres, f"first{os.getpid()}")
    every = migrations()
    with monkeypatch.context() as first:
        first.setattr(migrating, "migrations", lambda: every[:1])
        assert migrated(database) == ["0001_tables"]
    rows(
        database,
        "INSERT INTO {s}.workflows (workflow_id, run_id, type, status, started_at, updated_at, "
        "history_length, attributes, waits, reason, input_partition, input_offset, is_exact, record) VALUES "
        "('old', 'r', 'Order', 'running', now(), now(), 2, '{{}}', '[]', '', 0, 0, true, %s) "
        "RETURNING run_id",
        encode_state(state("old")),
    )
    assert migrated(database) == [f"{version:04}_{name}" for version, name, _ in every[1:]]
    new = replace(state("new"), memo=b'{"by":"Ada"}', details="**late**")
    with writer(database) as made:
        assert made.write(page([new]), lambda partition: 0) == []
    assert rows(database, "SELECT workflow_id, memo, details FROM {s}.workflows ORDER BY workflow_id") == [
        ("new", {"by": "Ada"}, "**late**"),
        ("old", None, ""),
    ]
    reader = PostgresReader(database)
    assert (reader.state("new"), reader.state("old")) == (new, state("old"))
    reader.close()


def test_a_schema_of_a_newer_version_is_refused_with_what_to_do(postgres: str) -> None:
    database = fresh(postgres)
    rows(
        database,
        "INSERT INTO {s}.migrations (version, name) VALUES (999, 'from the future') RETURNING version",
    )
    with pytest.raises(InfrastructureError, match=r"has version 999, but this perdure knows \d+.*upgrade"):
        migrated(database)
    projector = Projector(database, Script(ReadRecords()), silent())
    with pytest.raises(InfrastructureError, match="upgrade"):
        projector.turn()
    projector.close()
    reader = PostgresReader(database)
    assert reader.list(ListQuery()) == [], "what is there can still be read"
    reader.close()


def test_missing_tables_are_an_error_that_says_how_to_create_them(postgres: str) -> None:
    reader = PostgresReader(Database(postgres, "nobody"))
    with pytest.raises(InfrastructureError, match="perdure migrate"):
        reader.state("w")
    reader.close()


def test_an_unreachable_address_is_reported_without_the_password() -> None:
    reader = PostgresReader(Database("postgresql://someone:hunter2@127.0.0.1:1/shop", "shop"))
    with pytest.raises(InfrastructureError, match=r"127\.0\.0\.1:1/shop cannot be reached") as refused:
        reader.state("w")
    assert "hunter2" not in str(refused.value)
    reader.close()


@pytest.mark.parametrize("namespace", ['a"b', "a.b", "", "x" * 51, "pg\0", "ü"])
def test_a_namespace_that_cannot_name_a_schema_is_refused(namespace: str) -> None:
    with pytest.raises(UsageError, match="is not a valid SQL schema name"):
        Database("postgresql://localhost/shop", namespace)


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(UsageError, match="postgresql://user@host/database"):
        Database("postgresql://[", "shop")
