"""SQL views, one a workflow type, in step with what `@workflow.view` returns."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import psycopg
import pytest
from msgspec import json
from msgspec.structs import replace

from perdure import workflow
from perdure.adapters.postgres.database import Connection, Database
from perdure.adapters.postgres.typed_views import keep_in_step
from perdure.codec.columns import shape_of, shapes_of
from perdure.registry import Registry
from tests.contract.samples import state
from tests.postgres.tables import fresh, page, rows, writer

HOSTILE = 'it\'s \\ "x" {s} %s; DROP TABLE workflows; --'


class State(Enum):
    PAID = "paid"
    SHIPPED = "shipped"


@dataclass
class OrderStatus:
    """Where an order is.

    Attributes:
        state: where it is.
    """

    state: State
    status: str
    cents: int
    weight: float | None
    total: Decimal
    is_gift: bool
    since: datetime
    day: date
    takes: timedelta
    key: UUID
    lines: list[str]


@workflow.defn
class TypedOrder:
    @workflow.run
    async def run(self) -> None: ...

    @workflow.view
    def view(self) -> OrderStatus:
        """The order's status."""
        raise NotImplementedError


@workflow.defn
class Viewless:
    @workflow.run
    async def run(self) -> None: ...


FULL = OrderStatus(
    State.PAID, "on its way", 2**40, 1.5, Decimal("12.30"), True, datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    date(2026, 1, 2),
    timedelta(days=3, seconds=-5), UUID(int=7), ["a", "b"],
)  # fmt: skip


@pytest.fixture
def database(postgres: str) -> Database:
    return fresh(postgres)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    connection = database.connect()
    yield connection
    connection.close()


def put(database: Database, **views: bytes) -> None:
    with writer(database) as made:
        made.write(
            page(replace(state(name, type="Order"), view=view) for name, view in views.items()),
            lambda partition: 0,
        )


def test_the_view_of_an_app_has_typed_columns_with_comments(
    database: Database, connection: Connection
) -> None:
    shapes = shapes_of(
        {name: each.view for name, each in Registry.of([TypedOrder, Viewless], []).workflows.items()}
    )
    assert [*shapes] == ["TypedOrder"]
    said = keep_in_step(connection, database, {"Order": shapes["TypedOrder"]})
    assert "wf_order of Order was created" in said[0]
    put(database, w=json.encode(FULL), none=b"", closed=b"\0aes\0x")
    found = rows(
        database,
        "SELECT state, view_status, cents, weight, total, is_gift, since, day, takes, key, lines, status "
        "FROM {s}.wf_order WHERE workflow_id = 'w'",
    )
    assert found == [
        (
            "paid", "on its way", 2**40, 1.5, Decimal("12.30"), True, FULL.since, FULL.day, FULL.takes,
            FULL.key, ["a", "b"], "running",
        )
    ]  # fmt: skip
    assert rows(database, "SELECT workflow_id FROM {s}.wf_order WHERE state IS NULL ORDER BY 1") == [
        ("closed",),
        ("none",),
    ]
    types = dict(rows(database, "SELECT column_name, data_type FROM information_schema.columns WHERE "
        "table_schema = %s AND "
        "table_name = %s", database.schema, "wf_order"))  # fmt: skip
    assert (types["cents"], types["weight"], types["total"]) == ("bigint", "double precision", "numeric")
    assert (types["since"], types["takes"], types["key"], types["lines"]) == (
        "timestamp with time zone",
        "interval",
        "uuid",
        "jsonb",
    )
    comment = ("SELECT obj_description(c.oid), col_description(c.oid, a.attnum) FROM pg_class c JOIN "
        "pg_attribute "
        "a ON a.attrelid = c.oid WHERE c.oid = to_regclass(%s) AND a.attname = 'state'")  # fmt: skip
    assert rows(database, comment, f"{database.quoted}.wf_order") == [
        ("The order's status.\nWhere an order is.", "where it is.; one of paid, shipped")
    ]


def test_one_row_with_values_of_another_time_takes_no_view_away(
    database: Database, connection: Connection
) -> None:
    keep_in_step(connection, database, {"Order": shape_of(OrderStatus)})
    wrong = {name: [1] for name in OrderStatus.__annotations__} | {
        "cents": "many",
        "since": "yesterday",
        "key": "x",
        "takes": "P",
    }
    odd: dict[str, Any] = {
        "cents": 1e300,
        "weight": "heavy",
        "total": "NaN",
        "is_gift": "t",
        "day": "2026-02-30",
        "since": "2026-13-01T00:00:00Z",
    }
    put(
        database,
        w=json.encode(FULL),
        wrong=json.encode(wrong),
        odd=json.encode(odd),
        array=b"[1,2]",
        scalar=b'"x"',
        null=b"null",
    )
    assert rows(
        database, "SELECT workflow_id, cents, since, key, takes FROM {s}.wf_order WHERE cents IS NOT NULL"
    ) == [("w", FULL.cents, FULL.since, FULL.key, FULL.takes)]
    assert rows(database, "SELECT count(*), count(day), count(is_gift), count(weight) FROM {s}.wf_order") == [
        (6, 1, 1, 1)
    ]


def test_a_view_follows_its_annotation_and_keeps_its_grants(
    database: Database, connection: Connection
) -> None:
    put(database, w=b'{"a":1,"b":"x"}')
    role = f"reader_{database.schema}"
    connection.execute(f"CREATE ROLE {role}".encode())
    assert keep_in_step(connection, database, {"Order": shape_of(make_dataclass("One", [("a", int)]))})
    connection.execute(database.sql(f"GRANT SELECT ON {{s}}.wf_order TO {role}"))
    for fields, expected in (
        ([("a", int), ("b", str)], [(1, "x")]),
        ([("b", str), ("a", str)], [("x", "1")]),
        ([("b", str)], [("x",)]),
    ):
        shape = shape_of(make_dataclass("Next", fields))
        names = ", ".join(name for name, _ in fields)
        assert keep_in_step(connection, database, {"Order": shape})
        assert keep_in_step(connection, database, {"Order": shape}) == [], "nothing has changed"
        assert rows(database, f"SELECT {names} FROM {{s}}.wf_order") == expected
        assert rows(
            database, "SELECT has_table_privilege(%s, %s, 'SELECT')", role, f"{database.quoted}.wf_order"
        ) == [(True,)]
    connection.execute(database.sql("DROP VIEW {s}.wf_order"))
    assert keep_in_step(connection, database, {"Order": shape_of(int)}), (
        "what somebody has dropped is made again"
    )


def test_a_view_that_others_are_made_of_stays_and_says_so(database: Database, connection: Connection) -> None:
    keep_in_step(connection, database, {"Order": shape_of(make_dataclass("One", [("a", int)]))})
    connection.execute(database.sql("CREATE VIEW {s}.report AS SELECT a FROM {s}.wf_order"))
    (said,) = keep_in_step(connection, database, {"Order": shape_of(make_dataclass("Two", [("b", int)]))})
    assert "was not changed" in said
    assert "report" in said
    assert rows(database, "SELECT a FROM {s}.report") == []


def test_what_cannot_be_columns_is_one_and_says_why(database: Database, connection: Connection) -> None:
    said = keep_in_step(connection, database, {"Order": shape_of(dict[str, int]), "Count": shape_of(int)})
    assert any("one column of JSON: dict[str, int] is not a single structure" in each for each in said)
    put(database, w=b'{"a":1}')
    assert rows(database, "SELECT view FROM {s}.wf_order") == [({"a": 1},)]
    assert rows(database, "SELECT view FROM {s}.wf_count") == []


def test_names_and_comments_are_no_sql(database: Database, connection: Connection) -> None:
    shape = shape_of(vars(typing)["TypedDict"]("odd", {HOSTILE: int, "b": str}), HOSTILE)
    keep_in_step(connection, database, {HOSTILE: shape, "Order\\'": shape})
    names = [row[0] for row in rows(database, "SELECT name FROM {s}.typed_views ORDER BY 1")]
    assert len(names) == 2
    with writer(database) as made:
        made.write(
            page([replace(state("w", type=HOSTILE), view=json.encode({HOSTILE: 7}))]), lambda partition: 0
        )
    (name,) = (row[0] for row in rows(database, "SELECT name FROM {s}.typed_views WHERE type = %s", HOSTILE))
    with psycopg.connect(database.dsn) as other:
        (row,) = other.execute(f'SELECT * FROM {database.quoted}."{name}"'.encode()).fetchall()
    assert row[6] == 7
