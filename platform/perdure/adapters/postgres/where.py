"""Conditions on attributes, in SQL. Every name and value is a parameter."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import json

from perdure.client.where import Comparison, Condition, Not, Scalar


def condition_in_sql(condition: Condition, values: dict[str, Any]) -> str:
    """An expression that is true where the condition holds, and never NULL.

    Args:
        condition: of `perdure.client.where`.
        values: of the statement; gets those of the condition.
    """
    match condition:
        case Comparison():
            return _comparison(condition, values)
        case Not():
            return f"NOT {condition_in_sql(condition.condition, values)}"
        case _:
            parts = [condition_in_sql(each, values) for each in condition.conditions]
            return f"({f' {condition.kind.upper()} '.join(parts)})"


def _comparison(comparison: Comparison, values: dict[str, Any]) -> str:
    def parameter(value: Any) -> str:
        name = f"where_{len(values)}"
        values[name] = value
        return f"%({name})s"

    def is_equal(wanted: Scalar) -> str:
        held = {_text(comparison.name): _text(wanted) if isinstance(wanted, str) else wanted}
        return f"w.attributes @> {parameter(json.encode(held).decode())}::jsonb"

    name = parameter(_text(comparison.name))
    wanted = comparison.values[0]
    match comparison.operator:
        case "=" | "in":
            return f"({' OR '.join(map(is_equal, comparison.values))})"
        case "!=":
            return f"(jsonb_exists(w.attributes, {name}) AND NOT {is_equal(wanted)})"
        case "starts with":
            begins = f"starts_with(w.attributes ->> {name}, {parameter(_text(str(wanted)))})"
            return _of_kind("string", name, begins)
        case operator if isinstance(wanted, str):
            compared = f'(w.attributes ->> {name}) COLLATE "C" {operator} {parameter(_text(wanted))}'
            return _of_kind("string", name, compared)
        case operator if isinstance(wanted, int | float) and not isinstance(wanted, bool):
            # as JSON writes it: exact, as Python compares
            exact = parameter(Decimal(repr(wanted)))
            return _of_kind("number", name, f"(w.attributes ->> {name})::numeric {operator} {exact}")
        case _:
            return "false"


def _of_kind(kind: str, name: str, compared: str) -> str:
    """The comparison of values of one type of JSON; false of others, and not evaluated."""
    return f"(CASE WHEN jsonb_typeof(w.attributes -> {name}) = '{kind}' THEN {compared} ELSE false END)"


def _text(value: str) -> str:
    """PostgreSQL's texts hold no NUL: no row has one."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")
