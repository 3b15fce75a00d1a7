"""SQL views in the SQLite file, one for each workflow type, with a column for each field of its
`@workflow.view`.

SQLite has no types to speak of: a column holds what JSON has, true as 1, what is nested as text.
Times of ours are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from perdure.codec.columns import Shape, column_names, view_names

if TYPE_CHECKING:
    from sqlite3 import Connection

OURS: Final = ("workflow_id", "run_id", "status", "started_at", "updated_at", "closed_at")
_TIME: Final = "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch') || printf('.%06dZ', {0} % 1000000)"
_JSON: Final = (
    "CASE WHEN substr(view, 1, 1) <> x'00' AND json_valid(CAST(view AS TEXT)) THEN CAST(view AS TEXT) END"
)
"""None where a payload codec closed it."""


def keep_in_step(connection: Connection, shapes: Mapping[str, Shape]) -> None:
    """Create the views of these types, or replace them where the code has changed; within a
    transaction.

    Args:
        connection: has begun one.
        shapes: by workflow type. Views of other types stay as they are.
    """
    names = view_names(shapes)
    for type_, shape in shapes.items():
        name = names[type_]
        text = _statement(name, type_, shape)
        found = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        if found is not None and (found[0] != "view" or found[1] == text):
            continue  # somebody's table, or as it should be
        if found is not None:
            connection.execute(f"DROP VIEW {name}")
        connection.execute(text)


def _statement(name: str, type_: str, shape: Shape) -> str:
    columns = [
        "workflow_id",
        "run_id",
        "status",
        f"{_time('started_at')} AS started_at",
        f"{_time('updated_at')} AS updated_at",
    ]
    columns.append(f"CASE WHEN closed_at THEN {_time('closed_at')} END AS closed_at")
    for column, called in zip(shape.columns, column_names(shape, OURS), strict=True):
        columns.append(f"{_value(column.name)} AS {_identifier(called)}")
    selected = ", ".join(columns)
    rows = f"FROM (SELECT *, {_JSON} AS view_json FROM workflows WHERE type = {_literal(type_)})"  # noqa: S608
    return f"CREATE VIEW {name} AS SELECT {selected} {rows}"


def _time(column: str) -> str:
    return _TIME.format(column)


def _value(name: str) -> str:
    if not name:
        return "json_extract(view_json, '$')"
    if re.fullmatch(r"\w+", name, re.ASCII):
        return f"json_extract(view_json, '$.{name}')"
    return f"(SELECT value FROM json_each(view_json) WHERE key = {_literal(name)})"  # noqa: S608


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''").replace("\0", "\N{SYMBOL FOR NULL}") + "'"
