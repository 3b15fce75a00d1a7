"""The PostgreSQL that tests run on."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres.server import Server


def test_what_was_committed_outlives_a_kill_of_the_server(postgres_server: Server) -> None:
    with psycopg.connect(postgres_server.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.dsn, connect_timeout=2)
    postgres_server.start()
    with psycopg.connect(postgres_server.dsn) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
