"""The database of a namespace: where it is, how to connect, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import psycopg
from msgspec import Struct
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from perdure.errors import InfrastructureError, UsageError

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

CONNECT_S: Final = 10
NAME_BYTES: Final = 50
"""Longest name of a schema: PostgreSQL cuts names at 63, and a rebuild appends a suffix."""


class Database(Struct, frozen=True):
    """One SQL schema of a PostgreSQL.

    Attributes:
        dsn: `postgresql://user@host:5432/database`, or what else libpq takes.
        schema: named as the namespace.
    """

    dsn: str
    schema: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.schema) or len(self.schema) > NAME_BYTES:
            raise UsageError(
                f"the namespace {self.schema!r} is not a valid SQL schema name: use letters, digits, '_' "
                f"and '-', at most {NAME_BYTES}"
            )
        try:
            conninfo_to_dict(self.dsn)
        except psycopg.ProgrammingError as error:
            raise UsageError(
                f"invalid PostgreSQL address: {one_line(error)}; write postgresql://user@host/database"
            ) from None

    @property
    def quoted(self) -> str:
        """The schema's name in SQL."""
        return f'"{self.schema}"'

    @property
    def shown(self) -> str:
        """The address, without secrets."""
        parts = conninfo_to_dict(self.dsn)
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"

    def beside(self, suffix: str) -> Database:
        """Another schema of the same database."""
        return Database(self.dsn, f"{self.schema}{suffix}")

    def sql(self, text: str) -> bytes:
        """A statement, with the schema in place of `{s}`. It is ours: values are parameters."""
        return text.format(s=self.quoted).encode()

    def connect(self, *, name: str = "perdure", is_autocommit: bool = True) -> Connection:
        """A connection, in UTC.

        Args:
            name: for PostgreSQL's own views of who does what.
            is_autocommit: without it, the first statement begins a transaction.

        Raises:
            psycopg.Error: it cannot be reached, or refuses.
        """
        options: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "application_name": name,
            "options": "-c timezone=UTC -c lock_timeout=20s -c idle_in_transaction_session_timeout=60s",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        return psycopg.connect(self.dsn, autocommit=is_autocommit, **options)

    @contextmanager
    def telling(self) -> Generator[None]:
        """Convert PostgreSQL's errors into ours.

        Raises:
            InfrastructureError: the message says what to do.
        """
        try:
            yield
        except psycopg.Error as error:
            raise self.fault(error) from error

    def fault(self, error: psycopg.Error) -> InfrastructureError:
        """The same, of one."""
        where = f"PostgreSQL at {self.shown}"
        match error:
            case errors.UndefinedTable() | errors.InvalidSchemaName():
                return InfrastructureError(
                    f"{where} has no tables of the namespace {self.schema}: `perdure migrate` creates them, "
                    "`perdure projector` fills them"
                )
            case errors.InsufficientPrivilege():
                return InfrastructureError(
                    f"{where} denied access: {one_line(error)}; grant it, or run `perdure migrate` as the "
                    "owner"
                )
            case psycopg.OperationalError() if error.sqlstate is None:
                return InfrastructureError(f"{where} cannot be reached: {one_line(error)}")
            case _:
                return InfrastructureError(f"{where}: {one_line(error)}")


def is_outage(error: psycopg.Error) -> bool:
    """Whether waiting may help: no connection, a server that starts or stops, a lock, a full disk,
    too little memory.
    """
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in {"08", "40", "53", "55", "57", "58"} or state == "25P03"


def one_line(error: BaseException) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
