"""One page of the list of workflows, from the indexes of the SQLite file."""

from __future__ import annotations

from heapq import merge, nlargest, nsmallest
from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.sqlite.states import read_state
from perdure.client.listing import count, end_of, select

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

_PAIRS: Final = (
    "SELECT status, type FROM workflows WHERE (status, type) > (?, ?) ORDER BY status, type LIMIT 1"
)


def listed(connection: Connection, query: ListQuery) -> list[WorkflowState]:
    """The page.

    By start, a filter by type or by status reads the head of the index for each (status, type) that
    it allows, and merges. By id the table is in order. By update or by end there is no index, which
    every update would have to change: all that the filters allow is read.
    """
    rows: Iterator[tuple[int, str, bytes]]
    match query.sort:
        case "started_at" if query.types or query.statuses:
            pages = [_rows(connection, query, "started_at", pair) for pair in _pairs(connection, query)]
            rows = merge(*pages, key=lambda row: row[:2], reverse=query.is_newest)
        case "started_at" | "workflow_id":
            rows = _rows(connection, query, query.sort, None)
        case _ if query.max_bytes:  # only keys are held until it is known what the page is
            found = (
                state
                for state in _decoded(connection, query)
                if query.matches(state) and query.shows(state) and query.is_after(query.key_of(state))
            )
            keys: Iterator[Any] = map(query.key_of, found)
            page = (nlargest if query.is_newest else nsmallest)(query.limit, keys)
            return query.within(filter(None, (state_of(connection, workflow_id) for _, workflow_id in page)))
        case _:
            return select(query, _decoded(connection, query), query.matches)
    states = (read_state(connection, row[1], row[2]) for row in rows)
    return query.within(each for each in states if query.matches(each) and query.shows(each))


def state_of(connection: Connection, workflow_id: str) -> WorkflowState | None:
    """The state of a workflow id."""
    row = connection.execute("SELECT record FROM workflows WHERE workflow_id = ?", (workflow_id,)).fetchone()
    return read_state(connection, workflow_id, row[0]) if row is not None else None


def counted(connection: Connection, query: ListQuery) -> dict[tuple[str, str], int]:
    """Number of workflows, by (type, status)."""
    if not query.has_filters:
        rows = connection.execute("SELECT type, status, count(*) FROM workflows GROUP BY status, type")
        return {(type_, status): number for type_, status, number in rows}
    return count(_decoded(connection, query), query)


def _decoded(connection: Connection, query: ListQuery) -> Iterator[WorkflowState]:
    """In any order."""
    return (read_state(connection, row[1], row[2]) for row in _rows(connection, query, "", None))


def _pairs(connection: Connection, query: ListQuery) -> list[tuple[str, str]]:
    """(status, type) that there are and that the filter allows; one seek in the index for each."""
    found: list[tuple[str, str]] = []
    pair: tuple[str, str] | None = ("", "")
    while pair is not None:
        before, pair = pair, connection.execute(_PAIRS, pair).fetchone()
        if pair == before:  # damaged text, which is not what is shown of it: seeking goes no further
            return found
        if (
            pair is not None
            and (not query.statuses or pair[0] in query.statuses)
            and (not query.types or pair[1] in query.types)
        ):
            found.append(pair)
    return found


def _rows(
    connection: Connection, query: ListQuery, sort: str, pair: tuple[str, str] | None
) -> Iterator[tuple[int, str, bytes]]:
    """Start, id and record of what the columns allow; in order, and from the page's begin, when
    that is by a column.
    """
    conditions = ["1"]
    values: list[Any] = []

    def add(condition: str, *of_it: Any) -> None:
        conditions.append(condition)
        values.extend(of_it)

    if pair is not None:
        add("status = ? AND type = ?", *pair)
    if query.started_after is not None:
        add("started_at >= ?", query.started_after)
    if query.started_before is not None:
        add("started_at < ?", query.started_before)
    if query.id_prefix:
        add("workflow_id >= ?", query.id_prefix)
        if (end := end_of(query.id_prefix)) is not None:
            add("workflow_id < ?", end)
    beyond, direction = ("<", "DESC") if query.is_newest else (">", "ASC")
    order = ""
    if sort:
        keys = ("workflow_id",) if sort == "workflow_id" else ("started_at", "workflow_id")
        order = f"ORDER BY {', '.join(f'{key} {direction}' for key in keys)}"
        if query.after is not None:
            add(f"({', '.join(keys)}) {beyond} ({', '.join('?' * len(keys))})", *query.after[-len(keys) :])
    text = f"SELECT started_at, workflow_id, record FROM workflows WHERE {' AND '.join(conditions)} {order}"  # noqa: S608 - no values in it
    yield from connection.execute(text, values)
