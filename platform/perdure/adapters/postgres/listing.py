"""One page of the list of workflows, in SQL. Every value is a parameter; names of columns come from
the table here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from msgspec import json

from perdure.adapters.postgres.database import Connection, Database
from perdure.adapters.postgres.where import condition_in_sql
from perdure.client.listing import HIDDEN, STATUSES, ListQuery, Sort, end_of
from perdure.client.where import parsed
from perdure.codec.records import decode_state
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final[Mapping[Sort, str]] = MappingProxyType(
    {
        "started_at": "w.started_at",
        "updated_at": "w.updated_at",
        "closed_at": "coalesce(w.closed_at, '1970-01-01 00:00:00+00'::timestamptz)",
        "workflow_id": "w.workflow_id",
    }
)
_ROW: Final = "w.record, w.workflow_id, w.run_id, w.type, w.status, " + ", ".join(
    # times that PostgreSQL has no room for are kept as infinity, which no bigint is
    f"CASE WHEN w.{each}_at IS NULL THEN 0 WHEN isfinite(w.{each}_at) THEN (extract(epoch FROM w.{each}_at) "
    "* 1000000)::bigint "
    f"WHEN w.{each}_at > 'epoch' THEN 9223372036854775807 ELSE -9223372036854775807 END"
    for each in ("started", "updated", "closed")
)
_KINDS: Final = """WITH RECURSIVE kinds AS (
    (SELECT type, status FROM {s}.workflows ORDER BY type, status LIMIT 1)
    UNION ALL SELECT n.type, n.status FROM kinds k, LATERAL (SELECT type, status FROM {s}.workflows
        WHERE (type, status) > (k.type, k.status) ORDER BY type, status LIMIT 1) n)"""
"""Types and statuses that there are: a seek in the index for each."""


def listed(connection: Connection, database: Database, query: ListQuery) -> list[WorkflowState]:
    """The page.

    For each type and status that the filters allow, the head of their index; of all of them, the
    first ones.
    """
    values: dict[str, Any] = {"limit": query.limit}
    key, direction = _COLUMNS[query.sort], "DESC" if query.is_newest else "ASC"
    conditions = _conditions(query, values)
    if not query.types:
        values["hidden"] = HIDDEN
        conditions.append("w.type <> %(hidden)s")
    if query.after is not None:
        values["after"], values["after_id"] = _key(query.after[0]), _text(query.after[1])
        conditions.append(
            f"({key}, w.workflow_id) {'<' if query.is_newest else '>'} (%(after)s, %(after_id)s)"
        )
    order = f"{direction}, workflow_id {direction}"
    if query.sort == "workflow_id":
        order = direction
        conditions += _kinds(query, "w", values)
        text = (
            f"SELECT {_ROW} FROM {{s}}.workflows w "  # noqa: S608 - values are parameters
            f"WHERE {' AND '.join(conditions)} ORDER BY w.workflow_id {order} LIMIT %(limit)s"
        )
    else:
        page = (
            f"SELECT {key} AS key, w.workflow_id FROM {{s}}.workflows w "  # noqa: S608
            f"WHERE {' AND '.join(['w.type = kinds.type', 'w.status = kinds.status', *conditions])} ORDER "
            f"BY key {order} LIMIT %(limit)s"
        )
        text = (
            f"{_KINDS}, page AS MATERIALIZED (SELECT p.key, p.workflow_id FROM kinds, LATERAL ({page}) p "  # noqa: S608
            f"WHERE {' AND '.join(_kinds(query, 'kinds', values))} ORDER BY p.key {order} LIMIT %(limit)s) "
            f"SELECT {_ROW} FROM page JOIN {{s}}.workflows w USING (workflow_id) ORDER BY page.key {order}"
        )
    if not query.max_bytes:
        return [_state(row) for row in connection.execute(database.sql(text), values)]
    with connection.cursor() as cursor:  # row by row, no further than the page goes
        return query.within(map(_state, cursor.stream(database.sql(text), values)))


def state_of(connection: Connection, database: Database, workflow_id: str) -> WorkflowState | None:
    """The state of a workflow id."""
    text = f"SELECT {_ROW} FROM {{s}}.workflows w WHERE w.workflow_id = %s"  # noqa: S608 - names of columns
    row = connection.execute(database.sql(text), (_text(workflow_id),)).fetchone()
    return _state(row) if row is not None else None


def _state(row: tuple[Any, ...]) -> WorkflowState:
    """Of a row; where its record cannot be read, what the other columns say, with why as its
    reason.
    """
    try:
        return decode_state(row[0])
    except InfrastructureError as error:
        _, workflow_id, run_id, type_, status, started_at, updated_at, closed_at = row
        known = Status(status) if status in STATUSES else Status.SUSPENDED
        return WorkflowState(
            workflow_id,
            run_id,
            type_,
            status=known,
            started_at=started_at,
            updated_at=updated_at,
            closed_at=closed_at,
            history_length=0,
            reason=str(error),
        )


def counted(
    connection: Connection, database: Database, query: ListQuery | None
) -> dict[tuple[str, str], int]:
    """Number of workflows, by (type, status)."""
    values: dict[str, Any] = {}
    conditions = [] if query is None else [*_conditions(query, values), *_kinds(query, "w", values)]
    where = " AND ".join(conditions or ["true"])
    text = f"SELECT w.type, w.status, count(*) FROM {{s}}.workflows w WHERE {where} GROUP BY w.type, w.status"  # noqa: S608
    return {(type_, status): count for type_, status, count in connection.execute(database.sql(text), values)}


def _kinds(query: ListQuery, of: str, values: dict[str, Any]) -> list[str]:
    conditions = ["true"]
    if query.types:
        values["types"] = [_text(each) for each in query.types]
        conditions.append(f"{of}.type = ANY(%(types)s)")
    if query.statuses:
        values["statuses"] = [_text(each) for each in query.statuses]
        conditions.append(f"{of}.status = ANY(%(statuses)s)")
    return conditions


def _conditions(query: ListQuery, values: dict[str, Any]) -> list[str]:
    conditions = ["true"]

    def add(name: str, condition: str, value: Any) -> None:
        values[name] = value
        conditions.append(condition.format(f"%({name})s"))

    for column in ("started_at", "updated_at", "closed_at"):
        name = column.removesuffix("_at")
        if (since := getattr(query, f"{name}_after")) is not None:
            add(f"{name}_after", f"w.{column} >= {{}}", _moment(since))
        if (until := getattr(query, f"{name}_before")) is not None:
            add(f"{name}_before", f"w.{column} < {{}}", _moment(until))
    if query.id_prefix:
        add("prefix", "w.workflow_id >= {}", _text(query.id_prefix))
        if (end := end_of(query.id_prefix)) is not None:
            add("prefix_end", "w.workflow_id < {}", _text(end))
    for number, (name, value) in enumerate(query.attributes):
        wanted = json.encode({_text(name): _text(value) if isinstance(value, str) else value}).decode()
        add(f"attribute_{number}", "w.attributes @> {}::jsonb", wanted)
    if query.where:
        conditions.append(condition_in_sql(parsed(query.where), values))
    return conditions


def _key(value: int | str) -> Any:
    return _text(value) if isinstance(value, str) else _moment(value)


def _moment(microseconds: int) -> datetime | str:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return "infinity" if microseconds > 0 else "-infinity"


def _text(value: str) -> str:
    """PostgreSQL's texts hold no NUL: no row has one."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")
