"""`postgres_server` and `postgres` for the tests of any folder: its conftest.py imports them.

Without a PostgreSQL, tests are skipped with the reason; with PERDURE_REQUIRE_POSTGRES=1 they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.postgres.server import PostgresUnavailable, Server, any_postgres, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """How to connect to a server that tests share, each in a schema of its own."""
    with ExitStack() as stack:
        yield entered(stack, any_postgres()).dsn


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    """A server of our own, which a test may hurt."""
    with ExitStack() as stack:
        yield entered(stack, running())


def entered(stack: ExitStack, server: AbstractContextManager[Server]) -> Server:
    try:
        return stack.enter_context(server)
    except PostgresUnavailable as reason:
        if os.environ.get("PERDURE_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(f"no PostgreSQL: {reason}")
