"""`activity.transaction` with processes that are killed: each payment is made once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.postgres.transfers import EACH

ROOT = Path(__file__).parents[2]
COUNT = 12
KILLS = {"sqlalchemy": (5, 20, 35), "sqlite": (5, 25)}
"""The process is killed when at least so many payments are made; of other kinds after ten."""


def once(kind: str, database: str, folder: Path, paid: Callable[[], int]) -> None:
    """Make all payments, by processes of which all but the last are killed."""
    command = [sys.executable, "-m", "tests.postgres.transfers", kind, database, str(folder / "p.db")]
    for target in (*KILLS.get(kind, (10,)), None):
        process = subprocess.Popen([*command, str(COUNT)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            if target is None:
                assert process.stdout.read().endswith("done\n")
                assert process.wait() == 0
                break
            deadline = time.monotonic() + 60
            while paid() < target and process.poll() is None:
                assert time.monotonic() < deadline, f"{target} payments are made"
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("kind", ["sqlalchemy", "sqlalchemy async", "psycopg", "psycopg async"])
def test_on_postgresql_a_payment_is_made_once_however_often_its_process_is_killed(
    kind: str, postgres: str, tmp_path: Path
) -> None:
    schema = f"paid{os.getpid()}{kind.replace(' ', '')}"
    dsn = make_conninfo(postgres, options=f"-c search_path={schema}")
    with psycopg.connect(dsn, autocommit=True) as reader:
        reader.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        reader.execute("CREATE TABLE paid AS SELECT 0 AS times")

        def times() -> int:
            found = reader.execute("SELECT times FROM paid").fetchone()
            assert found is not None
            return int(found[0])

        try:
            once(kind, dsn, tmp_path, times)
            assert times() == COUNT * EACH
            rows = reader.execute("SELECT count(*), count(result) FROM perdure_transactions").fetchone()
            assert rows == (COUNT * EACH, COUNT * EACH)
        finally:
            reader.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))


def test_in_a_file_a_payment_is_made_once_however_often_its_process_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "bank.db"
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("CREATE TABLE paid (times INTEGER)")
        reader.execute("INSERT INTO paid VALUES (0)")
        reader.commit()

        def times() -> int:
            return int(reader.execute("SELECT times FROM paid").fetchone()[0])

        once("sqlite", f"sqlite:///{file}", tmp_path, times)
        assert times() == COUNT * EACH
        assert reader.execute("SELECT count(result) FROM perdure_transactions").fetchone() == (COUNT * EACH,)
