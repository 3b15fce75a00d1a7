"""One SQL view a workflow type, typed by the return annotation of its `@workflow.view`, and kept in
step with the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from psycopg import errors

from perdure.adapters.postgres.database import Connection, Database, one_line
from perdure.codec.columns import Kind, Shape, column_names, view_names

FUNCTIONS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.INTEGER: "perdure_to_bigint",
        Kind.FLOAT: "perdure_to_double",
        Kind.DECIMAL: "perdure_to_numeric",
        Kind.BOOLEAN: "perdure_to_boolean",
        Kind.TEXT: "perdure_to_text",
        Kind.MOMENT: "perdure_to_timestamptz",
        Kind.DATE: "perdure_to_date",
        Kind.TIME: "perdure_to_time",
        Kind.DURATION: "perdure_to_interval",
        Kind.UUID: "perdure_to_uuid",
    }
)
OURS: Final = ("workflow_id", "run_id", "status", "started_at", "updated_at", "closed_at")
_RECORD: Final = """INSERT INTO {s}.typed_views (name, type, definition, made_at) VALUES (%s, %s, %s,
    clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET type = excluded.type, definition = excluded.definition,
        made_at = excluded.made_at"""
_GRANTS: Final = """SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE
    quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner"""


def keep_in_step(connection: Connection, database: Database, shapes: Mapping[str, Shape]) -> list[str]:
    """Create the views of these types, or replace them where the code has changed; each in one
    transaction.

    Args:
        connection: in autocommit mode.
        database: with its tables.
        shapes: by workflow type. Views of other types stay as they are.

    Returns:
        What was done and what could not be, as text.
    """
    said: list[str] = []
    names = view_names(shapes)
    for type_, shape in shapes.items():
        name = names[type_]
        statements = _statements(database, name, type_, shape)
        definition = ";\n".join(statements)
        with connection.transaction():
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"perdure.views.{database.schema}",)
            )
            row = connection.execute(
                database.sql("SELECT definition FROM {s}.typed_views WHERE name = %s"), (name,)
            ).fetchone()
            exists = connection.execute(
                "SELECT to_regclass(%s) IS NOT NULL", (f"{database.quoted}.{name}",)
            ).fetchone()
            if row is not None and row[0] == definition and exists == (True,):
                continue
            if fault := _make(connection, database, name, statements):
                said.append(f"the view {name} of {type_} was not changed: {fault}")
                continue
            connection.execute(database.sql(_RECORD), (name, type_, definition))
        said.append(f"the view {name} of {type_} was created: {', '.join(column_names(shape, OURS))}")
        if shape.reason:
            said.append(f"the view {name} of {type_} has one column of JSON: {shape.reason}")
    return said


def _make(connection: Connection, database: Database, name: str, statements: Iterable[str]) -> str:
    """Create a view; why it could not be done, empty: it was."""
    create, *comments = (statement.encode() for statement in statements)
    where = f"{database.quoted}.{name}"
    try:
        with connection.transaction():
            connection.execute(create)
    except errors.InvalidTableDefinition:  # columns went away, or have another type
        grants = connection.execute(_GRANTS, (where,)).fetchall()
        try:
            with connection.transaction():
                connection.execute(f"DROP VIEW {where}".encode())
                connection.execute(create)
        except errors.DependentObjectsStillExist as error:
            return (
                f"other objects depend on it ({one_line(error)}; {error.diag.message_detail}); drop them, "
                "then run `perdure migrate APP`"
            )
        for grantee, privilege in grants:
            connection.execute(f"GRANT {privilege} ON {where} TO {grantee}".encode())
    except errors.WrongObjectType as error:
        return one_line(error)
    for comment in comments:
        connection.execute(comment)
    return ""


def _statements(database: Database, name: str, type_: str, shape: Shape) -> list[str]:
    where = f"{database.quoted}.{name}"
    names = column_names(shape, OURS)
    columns = [f"w.{column}" for column in OURS]
    for column, called in zip(shape.columns, names, strict=True):
        value = f"w.view -> {_literal(column.name)}" if column.name else "w.view"
        if column.kind is Kind.JSON:
            columns.append(f"nullif({value}, 'null'::jsonb) AS {_identifier(called)}")
        else:
            columns.append(f"{database.quoted}.{FUNCTIONS[column.kind]}({value}) AS {_identifier(called)}")
    selected = ",\n    ".join(columns)
    return [
        (
            f"CREATE OR REPLACE VIEW {where} AS SELECT\n    {selected}\nFROM {database.quoted}.workflows w "
            f"WHERE w.type = {_literal(type_)}"
        ),
        f"COMMENT ON VIEW {where} IS {_literal(shape.comment or f'Workflows of the type {type_}.')}",
        *(
            f"COMMENT ON COLUMN {where}.{_identifier(called)} IS "
            f"{_literal(column.comment) if column.comment else 'NULL'}"
            for column, called in zip(shape.columns, names, strict=True)
        ),
    ]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A string literal that does not depend on `standard_conforming_strings`: plain, or with
    escapes.
    """
    shown = text.replace("\0", "\N{SYMBOL FOR NULL}").replace("'", "''")
    return f"'{shown}'" if "\\" not in shown else " E'" + shown.replace("\\", "\\\\") + "'"
