"""Fixtures of PostgreSQL; see `tests/postgres/fixtures.py`."""

from tests.postgres.fixtures import postgres, postgres_server

__all__ = ["postgres", "postgres_server"]
