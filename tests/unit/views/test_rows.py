"""States and events as rows of PostgreSQL: what readers see in which column, and what they never
see."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace

from perdure.adapters.postgres.rows import (
    EVENT_COLUMNS,
    STATE_COLUMNS,
    event_lines,
    moment,
    payload_json,
    plain_state_line,
    shown,
    state_line,
)
from perdure.codec.records import decode_event_record, decode_state
from perdure.model import events as ev
from perdure.model.events import EventRecord
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions
from perdure.model.states import Status, WorkflowState
from tests.contract.samples import record

YEAR_2030_US = 1_893_456_000_000_000
WHOLE = WorkflowState(
    "w-1",
    "run-1",
    "Order",
    Status.FAILED,
    YEAR_2030_US,
    YEAR_2030_US + 1,
    YEAR_2030_US + 2,
    7,
    b'{"n":1}',
    b'{"city":"Bari"}',
    b'"result"',
    FailureInfo("app:No", "no"),
    "why",
    (),
    3,
    41,
    memo=b'{"ticket":7}',
    details="waits for **Ada**\nsince noon",
)


def columns(line: bytes, names: tuple[str, ...] = STATE_COLUMNS) -> dict[str, str]:
    return dict(zip(names, line.decode().split("\t"), strict=True))


def unpacked(column: str) -> bytes:
    return bytes.fromhex(column.removeprefix("\\\\x"))


def test_a_state_is_a_row_with_each_value_in_its_column() -> None:
    row = columns(state_line(WHOLE))
    packed = row.pop("record")
    assert row == {
        "workflow_id": "w-1",
        "run_id": "run-1",
        "type": "Order",
        "status": "failed",
        "started_at": "2030-01-01T00:00:00+00:00",
        "updated_at": "2030-01-01T00:00:00.000001+00:00",
        "closed_at": "2030-01-01T00:00:00.000002+00:00",
        "history_length": "7",
        "view": '{"n":1}',
        "attributes": '{"city":"Bari"}',
        "waits": "[]",
        "result": '"result"',
        "failure": '{"type":"app:No","message":"no"}',
        "reason": "why",
        "memo": '{"ticket":7}',
        "details": "waits for **Ada**\\nsince noon",
        "input_partition": "3",
        "input_offset": "41",
        "is_exact": "t",
    }
    assert decode_state(unpacked(packed)) == WHOLE


def test_what_an_open_run_does_not_have_is_null() -> None:
    bare = replace(
        WHOLE, closed_at=0, view=b"", attributes=b"", result=b"", failure=None, memo=b"", details=""
    )
    row = columns(state_line(bare))
    assert [row[name] for name in ("closed_at", "view", "result", "failure", "memo")] == ["\\N"] * 5
    assert (row["attributes"], row["is_exact"]) == ("{}", "t")


def test_a_row_whose_values_postgres_does_not_take_keeps_its_times_and_its_record() -> None:
    row = columns(plain_state_line(WHOLE))
    assert (row["status"], row["closed_at"], row["view"], row["reason"]) == (
        "failed",
        "2030-01-01T00:00:00.000002+00:00",
        "\\N",
        "",
    )
    assert row["is_exact"] == "f"
    assert decode_state(unpacked(row["record"])) == WHOLE


def test_events_of_a_record_are_rows_and_the_first_has_the_record() -> None:
    each = EventRecord(
        "w", "r", 3, YEAR_2030_US, 0, 7, b"", [ev.TimerStarted(1, YEAR_2030_US), ev.TimerFired(1)]
    )
    first, second = (columns(line, EVENT_COLUMNS) for line in event_lines(each))
    assert [(row["event_id"], row["first_event_id"], row["type"], row["at"]) for row in (first, second)] == [
        ("3", "3", "TimerStarted", "2030-01-01T00:00:00+00:00"),
        ("4", "3", "TimerFired", "2030-01-01T00:00:00+00:00"),
    ]
    assert json.decode(first["data"]) == {"number": 1, "fires_at": "2030-01-01T00:00:00+00:00"}
    assert decode_event_record(unpacked(first["record"])) == each
    assert second["record"] == "\\N"
    plain = columns(event_lines(each, is_plain=True)[0], EVENT_COLUMNS)
    assert (plain["data"], plain["is_exact"]) == ("{}", "f")
    assert decode_event_record(unpacked(plain["record"])) == each


def test_readers_never_see_tokens_or_seeds() -> None:
    started = record().events[0]
    assert isinstance(started, ev.WorkflowStarted)
    assert "seed" not in shown(started)
    assert shown(started)["type"] == "Order"
    scheduled = ev.ActivityScheduled(1, "charge", b"[1]", ActivityOptions("default", 1), "secret-token")
    assert json.decode(json.encode(shown(scheduled))) | {"options": 0} == {
        "number": 1,
        "name": "charge",
        "input": [1],
        "options": 0,
    }
    assert b"secret" not in json.encode(shown(scheduled))


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        (b"", b""),
        (b'{"a":1}', b'{"a":1}'),
        (b"\0zip\0\x01\x02", b'{"codec":"zip","bytes":7}'),
    ],
)
def test_a_payload_is_shown_as_json_and_of_a_closed_one_only_how_large_it_is(
    payload: bytes, seen: bytes
) -> None:
    assert payload_json(payload) == seen


@pytest.mark.parametrize(
    ("fields", "column", "text", "is_exact"),
    [
        ({"reason": "a\tb\nc\rd\\e"}, "reason", "a\\tb\\nc\\rd\\\\e", "t"),
        ({"reason": "a\0b"}, "reason", "a\N{SYMBOL FOR NULL}b", "f"),
        ({"view": b'"\\u0000"'}, "view", '"\N{SYMBOL FOR NULL}"', "f"),
        ({"view": b'{"\\u0000":[1]}'}, "view", '{"\N{SYMBOL FOR NULL}":[1]}', "f"),
        ({"view": b'"\\\\u0000"'}, "view", '"\\\\\\\\u0000"', "t"),
        ({"view": b'"\\n"'}, "view", '"\\\\n"', "t"),
        ({"view": b"\0zip\0x", "result": b"\0zip\0x"}, "view", "\\N", "t"),
    ],
)
def test_what_postgres_has_no_text_for_is_shown_and_said(
    fields: dict[str, Any], column: str, text: str, is_exact: str
) -> None:
    row = columns(state_line(replace(WHOLE, **fields)))
    assert (row[column], row["is_exact"]) == (text, is_exact)


def test_moments_are_exact_and_end_where_the_calendar_does() -> None:
    assert [moment(at) for at in (YEAR_2030_US + 1, YEAR_2030_US, YEAR_2030_US + 1)] == [
        b"2030-01-01T00:00:00.000001+00:00",
        b"2030-01-01T00:00:00+00:00",
        b"2030-01-01T00:00:00.000001+00:00",
    ]
    assert (moment(2**62), moment(-(2**62))) == (b"infinity", b"-infinity")
    assert [moment(at) for at in (0, YEAR_2030_US, 0)] == [
        b"1970-01-01T00:00:00+00:00",
        b"2030-01-01T00:00:00+00:00",
        b"1970-01-01T00:00:00+00:00",
    ]
