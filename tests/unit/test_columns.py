"""What a view returns, as columns."""

from __future__ import annotations

import enum
import typing
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pytest

from perdure.codec.columns import Kind, Shape, column_names, shape_of, view_names


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


Cents = NewType("Cents", int)


@dataclass
class Line:
    product: str


@dataclass
class Order:
    """What is known of an order.

    More of it.

    Attributes:
        state: where it is,
            in one word.
        cents: to be paid.

    Raises:
        nothing: at all.
    """

    state: Colour
    cents: Cents
    weight: float | None
    is_gift: bool
    total: Decimal
    since: datetime
    day: date
    at: time
    takes: timedelta
    id: UUID
    level: Level
    size: Literal["s", "m"]
    lines: list[Line]
    address: Line | None = None
    note: Annotated[str, msgspec.Meta(description="for the driver")] = ""
    either: int | str = 0
    any: Any = None
    mixed: Mixed = Mixed.ONE
    extra: str = field(default="", metadata={"doc": "said by the field"})


class Renamed(msgspec.Struct, rename="camel"):
    picked_up: bool


class Arrayed(msgspec.Struct, array_like=True):
    a: int


class Typed(TypedDict, total=False):
    a: int
    b: str | None


class Tuple(NamedTuple):
    a: int


class Empty(msgspec.Struct):
    pass


@dataclass
class Broken:
    a: Unheard  # type: ignore[name-defined]  # noqa: F821


def dict_with(fields: dict[str, Any]) -> Any:
    """A TypedDict whose names no class could have."""
    return vars(typing)["TypedDict"]("Odd", fields)


class Field:
    """As pydantic has it."""

    def __init__(self, annotation: Any, description: str = "", alias: str | None = None) -> None:
        self.annotation, self.description, self.serialization_alias = annotation, description, alias


class Model:
    model_fields = {"a": Field(int, "how many"), "b": Field(str, alias="theB")}  # noqa: RUF012


def kinds(shape: Shape) -> dict[str, Kind]:
    return {column.name: column.kind for column in shape.columns}


def test_a_dataclass_is_a_column_a_field() -> None:
    shape = shape_of(Order, "The order.")
    assert shape.reason == ""
    assert shape.comment == "The order.\nWhat is known of an order."
    assert kinds(shape) == {
        "state": Kind.TEXT,
        "cents": Kind.INTEGER,
        "weight": Kind.FLOAT,
        "is_gift": Kind.BOOLEAN,
        "total": Kind.DECIMAL,
        "since": Kind.MOMENT,
        "day": Kind.DATE,
        "at": Kind.TIME,
        "takes": Kind.DURATION,
        "id": Kind.UUID,
        "level": Kind.INTEGER,
        "size": Kind.TEXT,
        "lines": Kind.JSON,
        "address": Kind.JSON,
        "note": Kind.TEXT,
        "either": Kind.JSON,
        "any": Kind.JSON,
        "mixed": Kind.JSON,
        "extra": Kind.TEXT,
    }
    comments = {column.name: column.comment for column in shape.columns}
    assert comments["state"] == "where it is, in one word.; one of red, blue"
    assert comments["level"] == "one of 1, 2"
    assert comments["cents"] == "to be paid."
    assert comments["note"] == "for the driver"
    assert comments["extra"] == "said by the field"
    assert comments["lines"] == ""


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Renamed, {"pickedUp": Kind.BOOLEAN}),
        (Typed, {"a": Kind.INTEGER, "b": Kind.TEXT}),
        (Model, {"a": Kind.INTEGER, "theB": Kind.TEXT}),
        (Order | None, kinds(shape_of(Order))),
        (str, {"": Kind.TEXT}),
        (Annotated[Colour | None, 1], {"": Kind.TEXT}),
        (Cents, {"": Kind.INTEGER}),
    ],
)
def test_other_structures_and_single_values_are_columns_too(
    annotation: Any, expected: dict[str, Kind]
) -> None:
    shape = shape_of(annotation)
    assert (kinds(shape), shape.reason) == (expected, "")


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Any, "not a single structure"),
        (dict[str, int], "not a single structure"),
        (list[Order], "not a single structure"),
        (Order | Line, "not a single structure"),
        (Arrayed, "an array in JSON"),
        (Tuple, "has no statically known fields"),
        (object, "has no statically known fields"),
        (Empty, "has no fields"),
        (Broken, "cannot be determined"),
        ("its annotation", "is unknown"),
        (dict_with({"a\0b": int}), "cannot name a column"),
        (Mixed, "no statically known fields"),
    ],
)
def test_what_cannot_be_columns_is_one_of_json_and_says_why(annotation: Any, reason: str) -> None:
    shape = shape_of(annotation)
    assert kinds(shape) == {"": Kind.JSON}
    assert reason in shape.reason


def test_a_view_is_named_after_its_type_and_no_two_alike() -> None:
    names = view_names(["Order", "OrderV2", "HTTPCall", "order", "Überweisung", "***", "x" * 300, "a.b:C"])
    assert names["Order"] == "wf_order"
    assert names["OrderV2"] == "wf_order_v2"
    assert names["HTTPCall"] == "wf_http_call"
    assert names["a.b:C"] == "wf_a_b_c"
    assert names["order"].startswith("wf_order_")
    assert len(set(names.values())) == len(names)
    assert all(len(name) <= 60 and name.isascii() for name in names.values())


def test_a_column_that_would_hide_one_of_ours_has_another_name() -> None:
    shape = shape_of(dict_with({"status": int, "a" * 80: int, "a" * 81: int, 'q"uote': str}))
    names = column_names(shape, ("workflow_id", "status"))
    assert names[0] == "view_status"
    assert names[3] == 'q"uote'
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 60 for name in names)
