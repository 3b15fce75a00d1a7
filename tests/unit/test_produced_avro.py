"""Values of Python in records for others, by an Avro schema."""

from __future__ import annotations

import enum
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest

from perdure.codec.produced import AVRO, encoded
from perdure.errors import PayloadError

FASTAVRO: Any = fastavro


class Colour(enum.Enum):
    RED = "RED"


@dataclass
class Line:
    product: str
    price: Decimal
    due: date | None = None


SEVEN = UUID(int=7)


@dataclass
class Order:
    id: UUID = SEVEN
    at: datetime = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    opens: time = time(9, 30)
    total: Decimal = Decimal("12.30")
    colour: Colour = Colour.RED
    picture: bytes = b"\xff"
    note: str | None = None
    seen: datetime | None = None
    lines: list[Line] = field(default_factory=list[Line])
    prices: dict[str, Decimal] = field(default_factory=dict[str, Decimal])


def of(type: Any, logical: str = "", **more: Any) -> Any:
    return {"type": type, "logicalType": logical, **more}


DECIMAL = of("bytes", "decimal", precision=10, scale=2)
LINE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "product", "type": "string"},
        {"name": "price", "type": DECIMAL},
        {"name": "due", "type": ["null", of("int", "date")]},
    ],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": of("string", "uuid")},
        {"name": "at", "type": of("long", "timestamp-micros")},
        {"name": "day", "type": of("int", "date")},
        {"name": "opens", "type": of("long", "time-micros")},
        {
            "name": "total",
            "type": of(
                {"type": "fixed", "name": "Money", "size": 8}["type"],
                "decimal",
                name="Money",
                size=8,
                precision=10,
                scale=2,
            ),
        },
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["RED"]}},
        {"name": "picture", "type": "bytes"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "seen", "type": ["null", "string", of("long", "timestamp-millis")]},
        {"name": "lines", "type": {"type": "array", "items": LINE}},
        {"name": "prices", "type": {"type": "map", "values": DECIMAL}},
    ],
}


def written(value: object, schema: Any) -> Any:
    data, content_type = encoded(value, json.dumps(schema), None)
    assert content_type == AVRO
    assert data is not None
    return FASTAVRO.schemaless_reader(io.BytesIO(data), FASTAVRO.parse_schema(schema))


def test_a_dataclass_is_written_with_logical_types_at_every_depth() -> None:
    seen = datetime(2026, 5, 1, tzinfo=UTC)
    value = Order(
        seen=seen,
        lines=[Line("pasta", Decimal("1.10"), date(2026, 2, 3)), Line("rice", Decimal(2))],
        prices={"x": Decimal("0.01")},
    )
    back = written(value, ORDER)
    assert back == {
        "id": value.id,
        "at": value.at,
        "day": value.day,
        "opens": value.opens,
        "total": value.total,
        "colour": "RED",
        "picture": b"\xff",
        "note": None,
        "seen": seen,
        "lines": [
            {"product": "pasta", "price": Decimal("1.10"), "due": date(2026, 2, 3)},
            {"product": "rice", "price": Decimal("2.00"), "due": None},
        ],
        "prices": {"x": Decimal("0.01")},
    }
    assert written({**vars(value), "lines": [vars(line) for line in value.lines]}, ORDER) == back, (
        "a dict is written alike"
    )


@pytest.mark.parametrize(
    ("value", "schema", "back"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), "string", "2026-01-02T00:00:00Z"),
        (Decimal("1.10"), "string", "1.10"),
        (UUID(int=1), "string", str(UUID(int=1))),
        (UUID(int=1), ["null", "string"], str(UUID(int=1))),
        (timedelta(seconds=1), "string", "PT1S"),
        (datetime(2026, 1, 2), of("long", "local-timestamp-micros"), datetime(2026, 1, 2)),
        (
            datetime(2026, 1, 2, tzinfo=UTC),
            ["null", of("long", "timestamp-millis")],
            datetime(2026, 1, 2, tzinfo=UTC),
        ),
        (Decimal("1.5"), ["null", "string", DECIMAL], Decimal("1.50")),
        (3, DECIMAL, Decimal("3.00")),
        (time(1, 2), of("int", "time-millis"), time(1, 2)),
        ((1, 2), {"type": "array", "items": "long"}, [1, 2]),
        (1.5, "double", 1.5),
        ("x", "string", "x"),
        (None, ["null", "string"], None),
    ],
)
def test_a_value_is_written_as_its_schema_has_it(value: object, schema: Any, back: Any) -> None:
    if value is None:
        assert encoded(value, json.dumps(schema), None) == (None, b"")  # a tombstone
    else:
        assert written(value, schema) == back


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        (datetime(2026, 1, 2), of("long", "timestamp-micros"), "no time zone"),
        (datetime(2026, 1, 2, tzinfo=UTC), of("long", "local-timestamp-micros"), "has a time zone"),
        (Decimal("1.234"), DECIMAL, "does not match its Avro schema"),
        (Decimal("1.5"), "double", "use a logical type"),
        (Order(), LINE, "does not match its Avro schema"),
        ("x", "long", "does not match its Avro schema"),
    ],
)
def test_what_does_not_fit_its_schema_is_refused(value: object, schema: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        encoded(value, json.dumps(schema), None)
