"""`activity.transaction` with SQLAlchemy on SQLite: the row and the author's SQL are one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from perdure import activity, testing, workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure, UsageError, WorkflowFailed
from perdure.model.tasks import Task
from perdure.registry import Registry
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts


@dataclass
class Receipt:
    left: int
    at: str


class Shop(NamedTuple):
    file: Path
    registry: Registry
    calls: list[str]
    run: Any

    def balance(self, name: str) -> int:
        with sqlite3.connect(self.file) as connection:
            found: int = connection.execute("SELECT cents FROM accounts WHERE name = ?", (name,)).fetchone()[
                0
            ]
        connection.close()
        return found

    def rows(self) -> list[Any]:
        connection = sqlite3.connect(self.file)
        try:
            return connection.execute("SELECT number, result FROM perdure_transactions").fetchall()
        finally:
            connection.close()


def shop_in(folder: Path, *, uses_session: bool = False) -> Shop:
    file = folder / "shop.db"
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)  # closes what it opens
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE accounts (name TEXT PRIMARY KEY, cents INTEGER)"))
        connection.execute(text("INSERT INTO accounts VALUES ('ada', 1000)"))
    calls: list[str] = []

    def paid(given: Connection | Session, name: str, cents: int, trouble: str) -> Receipt:
        calls.append(trouble)
        given.execute(
            text("UPDATE accounts SET cents = cents - :cents WHERE name = :name"),
            {"cents": cents, "name": name},
        )
        if trouble == "fails once" and len(calls) == 1:
            raise ConnectionError("after the update")
        if trouble == "is refused":
            raise Failure("no")
        if trouble == "cannot be encoded":
            return object()  # type: ignore[return-value]
        left = given.execute(text("SELECT cents FROM accounts WHERE name = :name"), {"name": name}).scalar()
        return Receipt(left or 0, activity.idempotency_key())

    if uses_session:

        @activity.transaction(sessionmaker(engine), retry=activity.Retry(first_interval="1s"))
        def pay(session: Session, name: str, cents: int, trouble: str = "") -> Receipt:
            return paid(session, name, cents, trouble)
    else:

        @activity.transaction(engine, retry=activity.Retry(first_interval="1s"))
        def pay(connection: Connection, name: str, cents: int, trouble: str = "") -> Receipt:
            return paid(connection, name, cents, trouble)

    @workflow.defn
    async def order(trouble: str) -> Receipt:
        return await pay("ada", 100, trouble)

    return Shop(file, Registry.of([order], [pay]), calls, order)


def played(shop: Shop, scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.Environment(shop.registry) as env:
            await scenario(env)

    asyncio.run(main())


@pytest.mark.parametrize("uses_session", [False, True])
def test_its_result_is_a_row_of_the_same_transaction(tmp_path: Path, uses_session: bool) -> None:
    shop = shop_in(tmp_path, uses_session=uses_session)

    async def scenario(env: testing.Environment) -> None:
        receipt: Receipt = await env.client.execute("o-1", shop.run, "")
        assert receipt.left == 900
        assert shop.rows() == [(1, b'{"left":900,"at":"%s"}' % receipt.at.encode())]

    played(shop, scenario)
    assert shop.balance("ada") == 900


def test_an_attempt_that_fails_leaves_nothing(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)

    async def scenario(env: testing.Environment) -> None:
        assert (await env.client.execute("o-1", shop.run, "fails once")).left == 900
        assert len(shop.calls) == 2
        with pytest.raises(WorkflowFailed):
            await env.client.execute("o-2", shop.run, "is refused")

    played(shop, scenario)
    assert shop.balance("ada") == 900
    assert len(shop.rows()) == 1


def test_a_result_that_cannot_be_encoded_takes_its_effect_back(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)

    async def scenario(env: testing.Environment) -> None:
        await env.client.start("o-1", shop.run, "cannot be encoded")
        await env.sleep("30s")

    played(shop, scenario)
    assert shop.balance("ada") == 1000
    assert shop.rows() == []


def test_a_repeat_reads_the_row_and_does_nothing(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)

    async def scenario(env: testing.Environment) -> None:
        receipt = await env.client.execute("o-1", shop.run, "")
        assert receipt.left == 900

    played(shop, scenario)
    (pay,) = shop.registry.activities.values()
    attempts = Attempts({pay.name: pay}, JsonPayloads(), ActivityThreads(2), instances={})
    task = Task("o-9", "run-9", 3, 1, "t", pay.name, "default", b'["ada", 50, ""]', 10_000_000, "key", 0)

    async def twice() -> list[Any]:
        return [await attempts.run(task, lambda _: None, lambda: None) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first == second
    assert shop.balance("ada") == 850
    assert len(shop.calls) == 2


def test_outside_of_workflows_it_is_the_function_in_a_transaction(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)
    (pay,) = shop.registry.activities.values()

    async def main() -> Any:
        with testing.attempt():
            return await pay("ada", 100)

    assert asyncio.run(main()).left == 900
    assert shop.balance("ada") == 900


def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")

    def plain(connection: Connection) -> None: ...
    async def is_async(connection: Connection) -> None: ...
    def nothing() -> None: ...

    for given, fn, why in [
        (engine, nothing, "first parameter"),
        (engine, is_async, "is for a plain function"),
        (object(), plain, "takes a SQLAlchemy Engine"),
        (engine, Shop.balance, "first parameter"),
    ]:
        with pytest.raises(UsageError, match=rf"test_transactions.py:\d+: activity.transaction: .*{why}"):
            activity.transaction(given)(cast("Any", fn))
    with pytest.raises(UsageError, match="no name of a table"):
        activity.transaction(engine, table="x; DROP")(plain)
