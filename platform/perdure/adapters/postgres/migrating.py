"""Migrations: the schema that the code needs, forward only, one process at a time."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

import psycopg

from perdure.adapters.postgres.database import Connection, Database
from perdure.errors import InfrastructureError

_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_TABLE: Final = """CREATE TABLE IF NOT EXISTS {s}.migrations (
    version integer NOT NULL PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL
        DEFAULT clock_timestamp())"""


@cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """Version, name and SQL of each, in order."""
    folder = resources.files("perdure.adapters.postgres.migrations")
    named = [(match, file) for file in folder.iterdir() if (match := _FILE.fullmatch(file.name))]
    return tuple(sorted((int(match[1]), match[2], file.read_text("utf-8")) for match, file in named))


def latest() -> int:
    """The version that this code needs."""
    return migrations()[-1][0]


def migrate(connection: Connection, database: Database) -> list[str]:
    """Migrate the schema to this version, in one transaction; concurrent callers wait and find it
    done.

    Returns:
        What was applied, `0001_tables`; empty when there was nothing to do.

    Raises:
        InfrastructureError: the schema is of a newer version.
        psycopg.Error: it cannot be done.
    """
    applied: list[str] = []
    with connection.transaction():
        connection.execute(_LOCK, (f"perdure.migrate.{database.schema}",))
        found = version_of(connection, database)
        if found == 0:
            connection.execute(database.sql("CREATE SCHEMA IF NOT EXISTS {s}"))
            connection.execute(database.sql(_TABLE))
        check(database, found, is_older_fine=True)
        for version, name, text in migrations():
            if version > found:
                connection.execute(database.sql(text))
                connection.execute(
                    database.sql("INSERT INTO {s}.migrations (version, name) VALUES (%s, %s)"),
                    (version, name),
                )
                applied.append(f"{version:04}_{name}")
    return applied


def version_of(connection: Connection, database: Database) -> int:
    """Of the schema as it is; 0: there is none."""
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"{database.quoted}.migrations",)
    ).fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute(database.sql("SELECT coalesce(max(version), 0) FROM {s}.migrations")).fetchone()
    return int(row[0]) if row else 0


def check(database: Database, found: int, *, is_older_fine: bool = False) -> None:
    """See that the code and the schema fit.

    Raises:
        InfrastructureError: they do not; the message says what to do.
    """
    where = f"the schema {database.schema} of PostgreSQL at {database.shown}"
    if found > latest():
        raise InfrastructureError(
            f"{where} has version {found}, but this perdure knows {latest()}: a newer one migrated it; "
            "upgrade this process"
        )
    if found < latest() and not is_older_fine:
        have = f"has version {found}, but {latest()} is required" if found else "has no perdure tables"
        raise InfrastructureError(f"{where} {have}: run `perdure migrate`")


def migrated(database: Database) -> list[str]:
    """As `migrate`, with a connection of its own.

    Raises:
        InfrastructureError: it cannot be done; the message says what to do.
    """
    with database.telling():
        connection = database.connect(name="perdure migrate")
        try:
            return migrate(connection, database)
        except psycopg.errors.DuplicateSchema:
            return migrate(connection, database)
        finally:
            connection.close()
