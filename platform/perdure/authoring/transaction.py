"""Activities that are one transaction of your database.

Their result is a row of that database, written in the same transaction as what the function does
there. So either both are there, or nothing is; and an attempt that finds the row takes the result
from it and does nothing. It is exactly once, without two-phase commit.

The row is written first, without the result: then an attempt that runs at the same time, because it
is taken for dead, is waited for by the database.
"""

from __future__ import annotations

import inspect
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from perdure.authoring.attempt import current_attempt
from perdure.errors import UsageError
from perdure.model.signature import share_local_names, takes_self
from perdure.model.source import place_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import FunctionType

    from perdure.authoring.attempt import Attempt

TABLE: Final = "perdure_transactions"

_PROBE: Final = "SELECT 1 FROM {table} WHERE 1 = 0"
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS {table} (run_id VARCHAR(64) NOT NULL, number INTEGER NOT NULL, "
    "workflow_id VARCHAR(255) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, result {bytes}, "
    "PRIMARY KEY (run_id, number))"
)
_CLAIM: Final = (
    "INSERT INTO {table} (run_id, number, workflow_id) VALUES (:run_id, :number, :workflow_id) "
    "ON CONFLICT DO NOTHING"
)
_READ: Final = "SELECT result FROM {table} WHERE run_id = :run_id AND number = :number"
_KEEP: Final = "UPDATE {table} SET result = :result WHERE run_id = :run_id AND number = :number"


class Recorded(Struct, frozen=True):
    """The result of a transaction, as it is in the database.

    Attributes:
        payload: encoded.
    """

    payload: bytes


class Door(Protocol):
    """A way into a database."""

    @property
    def is_async(self) -> bool:
        """Whether it is for async functions."""
        ...

    @property
    def bytes_type(self) -> str:
        """The type of a column of bytes."""
        ...

    def begin(self) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """A transaction, with what the function is given."""
        ...

    def execute(self, given: Any, sql: str, values: dict[str, Any]) -> Any:
        """The cursor of a statement; of an async door, what awaits it. A value `x` is `:x` in
        it.
        """
        ...


def transactional(fn: FunctionType, engine: object, table: str) -> Callable[..., Any]:
    """The function without its first parameter, to be given by the database.

    Args:
        fn: your function.
        engine: yours: of SQLAlchemy an `Engine`, `AsyncEngine`, `sessionmaker` or
            `async_sessionmaker`; of psycopg a pool, or the text by which to connect.
        table: the name of the table of results.

    Raises:
        UsageError: they do not fit each other.
    """
    parameters = list(inspect.signature(fn).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if takes_self(fn) or not parameters or parameters[0].kind not in positional:
        raise UsageError(
            f"{fn.__name__} must be a function whose first parameter takes the connection or session."
        )
    if not table.replace("_", "a").replace(".", "a").isalnum():
        raise UsageError(f"{table!r} is no name of a table.")
    is_async = inspect.iscoroutinefunction(fn)
    door = door_of(engine, is_async=is_async)
    transactions = _Transactions(door, table)

    def run(*args: Any, **kwargs: Any) -> Any:
        return transactions.run(fn, args, kwargs)

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        return await transactions.run_async(fn, args, kwargs)

    wrapper: Any = run_async if is_async else run
    wrapper.__name__, wrapper.__qualname__, wrapper.__module__ = fn.__name__, fn.__qualname__, fn.__module__
    wrapper.__doc__, wrapper.__wrapped__ = fn.__doc__, fn
    wrapper.__signature__ = inspect.signature(fn).replace(parameters=parameters[1:])
    wrapper.__annotations__ = {
        name: each for name, each in fn.__annotations__.items() if name != parameters[0].name
    }
    share_local_names(fn, wrapper)
    return wrapper  # type: ignore[no-any-return]


class _Transactions:
    """Those of one function."""

    def __init__(self, door: Door, table: str) -> None:
        self._door = door
        self._table = table
        self._has_table = False
        self._lock = threading.Lock()

    def run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        door: Any = self._door
        attempt = current_attempt()
        if attempt is None or attempt.task is None or attempt.encode is None:
            with door.begin() as given:  # called outside of workflows: nothing can repeat it
                return fn(given, *args, **kwargs)
        key = _key_of(attempt)
        self._ensure_table()
        with door.begin() as given:
            if not door.execute(given, self._sql(_CLAIM), key).rowcount:
                return self._found(fn, door.execute(given, self._sql(_READ), _of_row(key)).fetchone())
            recorded = Recorded(attempt.encode(fn(given, *args, **kwargs)))
            door.execute(given, self._sql(_KEEP), {**_of_row(key), "result": recorded.payload})
        return recorded

    async def run_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        door: Any = self._door
        attempt = current_attempt()
        if attempt is None or attempt.task is None or attempt.encode is None:
            async with door.begin() as given:
                return await fn(given, *args, **kwargs)
        key = _key_of(attempt)
        await self._ensure_table_async()
        async with door.begin() as given:
            if not (await door.execute(given, self._sql(_CLAIM), key)).rowcount:
                found = await door.execute(given, self._sql(_READ), _of_row(key))
                row = found.fetchone()
                return self._found(fn, await row if inspect.isawaitable(row) else row)
            recorded = Recorded(attempt.encode(await fn(given, *args, **kwargs)))
            await door.execute(given, self._sql(_KEEP), {**_of_row(key), "result": recorded.payload})
        return recorded

    def _sql(self, statement: str) -> str:
        return statement.format(table=self._table, bytes=self._door.bytes_type)

    def _found(self, fn: Any, row: Any) -> Recorded:
        if row is None or row[0] is None:
            raise UsageError(
                f"{place_of(fn)}: {fn.__name__} has ended its transaction itself, so its result is not "
                f"in the table {self._table}. Leave commit and rollback to activity.transaction."
            )
        return Recorded(bytes(row[0]))

    # The table is looked for first: an account that may not create tables is enough where it is
    # there. Two processes that create it at the same time may get an error, and find it then.

    def _ensure_table(self) -> None:
        if not self._has_table:
            with self._lock:
                self._create_table()
                self._has_table = True

    def _create_table(self) -> None:
        if self._probed():
            return
        try:
            with self._door.begin() as given:  # type: ignore[union-attr]
                self._door.execute(given, self._sql(_CREATE), {})
        except Exception:
            if not self._probed():
                raise

    def _probed(self) -> bool:
        try:
            with self._door.begin() as given:  # type: ignore[union-attr]
                self._door.execute(given, self._sql(_PROBE), {})
        except Exception:  # noqa: BLE001 - each driver has its own; creating the table says what is wrong
            return False
        return True

    async def _ensure_table_async(self) -> None:
        if self._has_table or await self._probed_async():
            self._has_table = True
            return
        try:
            async with self._door.begin() as given:  # type: ignore[union-attr]
                await self._door.execute(given, self._sql(_CREATE), {})
        except Exception:
            if not await self._probed_async():
                raise
        self._has_table = True

    async def _probed_async(self) -> bool:
        try:
            async with self._door.begin() as given:  # type: ignore[union-attr]
                await self._door.execute(given, self._sql(_PROBE), {})
        except Exception:  # noqa: BLE001 - as above
            return False
        return True


def _key_of(attempt: Attempt) -> dict[str, Any]:
    task = attempt.task
    assert task is not None
    return {"run_id": task.run_id, "number": task.number, "workflow_id": task.workflow_id}


def _of_row(key: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": key["run_id"], "number": key["number"]}


# ---- ways into databases. None of their libraries is imported before it is used.


def door_of(engine: Any, *, is_async: bool) -> Door:
    """The way into a database.

    Args:
        engine: as of `transactional`.
        is_async: for an async function.

    Raises:
        UsageError: it is another object, or for the other kind of function.
    """
    door = _known(engine, is_async=is_async)
    if door is None:
        raise UsageError(
            "activity.transaction takes a SQLAlchemy Engine, AsyncEngine, sessionmaker or "
            f"async_sessionmaker, a psycopg pool, or the text by which psycopg connects; not {engine!r}."
        )
    if door.is_async != is_async:
        wanted, given = ("an async", "a plain") if door.is_async else ("a plain", "an async")
        raise UsageError(f"{engine!r} is for {wanted} function, and this is {given} one.")
    return door


def _known(engine: Any, *, is_async: bool) -> Door | None:
    if isinstance(engine, str):
        return _PsycopgAsync(engine) if is_async else _Psycopg(engine)
    modules = {kind.__module__.partition(".")[0] for kind in type(engine).__mro__}
    if "psycopg_pool" in modules:
        is_async_pool = type(engine).__name__.startswith("Async")
        return _PsycopgAsync(engine) if is_async_pool else _Psycopg(engine)
    if "sqlalchemy" in modules and callable(getattr(engine, "begin", None)):
        return _Alchemy(engine, is_async=type(engine).__name__.lower().startswith("async"))
    return None


def _is_sqlite(engine: Any) -> bool:
    bound = engine if hasattr(engine, "dialect") else engine.kw.get("bind")
    return bound is not None and bound.dialect.name == "sqlite"


class _Alchemy:
    """SQLAlchemy: an async door has async methods of the same names."""

    def __init__(self, engine: Any, *, is_async: bool = False) -> None:
        self._engine = engine
        self.is_async = is_async

    @property
    def bytes_type(self) -> str:
        return "BLOB" if _is_sqlite(self._engine) else "BYTEA"

    def begin(self) -> Any:
        return self._engine.begin()

    def execute(self, given: Any, sql: str, values: dict[str, Any]) -> Any:
        from sqlalchemy import text

        return given.execute(text(sql), values)


class _Psycopg:
    """psycopg, sync: connections of a pool, or one for each transaction."""

    is_async = False
    bytes_type = "BYTEA"

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @contextmanager
    def begin(self) -> Generator[Any]:
        if isinstance(self._pool, str):
            import psycopg

            connection: Any = psycopg.connect(self._pool)
        else:
            connection = self._pool.connection()
        with connection as opened, opened.transaction():
            yield opened

    def execute(self, given: Any, sql: str, values: dict[str, Any]) -> Any:
        return given.execute(_named(sql, values), values)


class _PsycopgAsync:
    """psycopg, async."""

    is_async = True
    bytes_type = "BYTEA"

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Any]:
        if isinstance(self._pool, str):
            import psycopg

            connection: Any = await psycopg.AsyncConnection.connect(self._pool)
        else:
            connection = self._pool.connection()
        async with connection as opened, opened.transaction():
            yield opened

    async def execute(self, given: Any, sql: str, values: dict[str, Any]) -> Any:
        return await given.execute(_named(sql, values), values)


def _named(sql: str, values: dict[str, Any]) -> str:
    """The statement with placeholders as psycopg has them."""
    for name in sorted(values, key=len, reverse=True):
        sql = sql.replace(f":{name}", f"%({name})s")
    return sql
