"""The platform's own records as msgpack, and histories as JSON, come back as they were."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from perdure.codec import records
from perdure.codec.history import history_from_json, history_to_json
from perdure.errors import InfrastructureError, UsageError
from perdure.model.commands import AnyCommand
from perdure.model.events import (
    ActivityAttemptFailed,
    ActivityDeclined,
    AnyEvent,
    EventRecord,
    SignalReceived,
    TimerStarted,
    WorkflowStarted,
)
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.replies import AnyReply, Refusal
from perdure.model.states import UNPAUSE, Status, Wait, WorkflowState
from perdure.model.tasks import Task

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(0, 2**62)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3),
    max_leaves=5,
)
PAYLOADS = st.one_of(
    JSON_VALUES.map(msgspec.json.encode),
    JSON_VALUES.map(lambda value: json.dumps(value, indent=1).encode()),
    st.binary(max_size=20),
    st.sampled_from(
        [
            b'{"base64":"eA=="}',
            b'{"base64":3}',
            b"1.50",
            b"1e5",
            b'"\\u00e9"',
            b"NaN",
            b"[1, 2]",
            b'{"a":1,"a":2}',
        ]
    ),
)
POLICIES = st.builds(
    RetryPolicy,
    NUMBERS,
    st.floats(1, 10),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.lists(TEXT, max_size=2).map(lambda names: tuple(names)),
)
OPTIONS = st.builds(ActivityOptions, TEXT, NUMBERS, POLICIES, TEXT, TEXT)
FAILURES: st.SearchStrategy[FailureInfo] = st.deferred(
    lambda: st.builds(
        FailureInfo,
        TEXT,
        TEXT,
        PAYLOADS,
        st.booleans(),
        TEXT,
        st.none() | FAILURES,
        st.integers(-1, 2**62),
        NUMBERS,
        st.lists(TEXT, max_size=2).map(lambda names: tuple(names)),
    )
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: NUMBERS,
    bool: st.booleans(),
    bytes: PAYLOADS,
    bytes | None: st.none() | PAYLOADS,
    ActivityOptions: OPTIONS,
    FailureInfo: FAILURES,
    FailureInfo | None: st.none() | FAILURES,
    Status: st.sampled_from(Status),
    Refusal: st.sampled_from(get_args(Refusal)),
    tuple[bytes, ...]: st.lists(PAYLOADS, max_size=2).map(lambda records: tuple(records)),
}


def structs(kind: Any) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: strategy_of(field.type) for field in fields})


def strategy_of(annotation: Any) -> st.SearchStrategy[Any]:
    known = BY_TYPE.get(annotation)
    if known is not None:
        return known
    if get_origin(annotation) is tuple:
        return st.lists(structs(get_args(annotation)[0]), max_size=3).map(tuple)
    return st.sampled_from(get_args(annotation))


def any_of(union: Any) -> st.SearchStrategy[Any]:
    return st.one_of(*(structs(kind) for kind in get_args(union)))


EVENTS = any_of(AnyEvent)
RECORDS = st.builds(
    EventRecord,
    TEXT,
    TEXT,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.binary(min_size=16, max_size=16),
    st.lists(EVENTS, min_size=1, max_size=3),
)


@given(RECORDS)
def test_an_event_record_survives_encoding(record: EventRecord) -> None:
    data = records.encode_event_record(record)
    assert records.decode_event_record(data) == record
    assert records.hash_of_record(record) == records.hash_of(data)


@given(any_of(AnyCommand))
def test_a_command_survives_encoding(command: Any) -> None:
    assert records.decode_command(records.encode_command(command)) == command


@given(any_of(AnyReply))
def test_a_reply_survives_encoding(reply: Any) -> None:
    assert records.decode_reply(records.encode_reply(reply)) == reply


@given(structs(Task))
def test_a_task_survives_encoding(task: Task) -> None:
    assert records.decode_task(records.encode_task(task)) == task


@given(structs(WorkflowState))
def test_a_state_survives_encoding(state: WorkflowState) -> None:
    if state.status is Status.PAUSED:  # such a state says what ends the pause
        state = replace(state, waits=(Wait(UNPAUSE, "ann", 0, 0, 1), *state.waits))
    assert records.decode_state(records.encode_state(state)) == state


def test_a_hash_is_sixteen_bytes_that_any_change_changes() -> None:
    assert len(records.hash_of(b"x")) == 16
    assert records.hash_of(b"x") != records.hash_of(b"y")


@pytest.mark.parametrize(
    "decode",
    [
        records.decode_event_record,
        records.decode_command,
        records.decode_reply,
        records.decode_task,
        records.decode_state,
    ],
)
@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x90", b"\xc1"])
def test_what_is_damaged_is_for_the_operator(decode: Any, data: bytes) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot be read: .*restore the database from a backup"):
        decode(data)


# ---- histories


def history_of(lists: list[list[Any]], at: int, hashes: bytes) -> list[EventRecord]:
    history: list[EventRecord] = []
    event_id = 1
    for events in lists:
        history.append(EventRecord("w", "r", event_id, at + event_id, 3, event_id * 2, hashes, events))
        event_id += len(events)
    return history


@given(
    st.lists(st.lists(EVENTS, min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(0, 250_000_000_000_000_000),
    st.sampled_from([b"", b"\x00" * 16, bytes(range(16))]),
)
def test_a_history_comes_back_from_json_as_it_was(lists: list[list[Any]], at: int, hashes: bytes) -> None:
    history = history_of(lists, at, hashes)
    text = history_to_json(history)
    assert history_from_json(text) == history
    assert history_from_json(text.encode()) == history


def test_a_history_is_json_that_people_can_read() -> None:
    started = WorkflowStarted("Order", b'["burrata",{"cents":2000}]', 311, 5)
    history = history_of(
        [[started], [SignalReceived("picked_up", b"[]"), TimerStarted(1, 1_900_000_000_000_000)]],
        1_800_000_000_000_000,
        b"",
    )
    top = json.loads(history_to_json(history))
    assert (top["workflow_id"], top["run_id"]) == ("w", "r")
    assert top["events"][0] == {
        "event_id": 1,
        "at": "2027-01-15T08:00:00.000001Z",
        "type": "WorkflowStarted",
        "workflow_type": "Order",
        "input": ["burrata", {"cents": 2000}],
        "python": 311,
        "seed": 5,
        "record": {"input_partition": 3, "input_offset": 2, "previous_hash": ""},
    }
    assert top["events"][2] == {
        "event_id": 3,
        "at": "2027-01-15T08:00:00.000002Z",
        "type": "TimerStarted",
        "number": 1,
        "fires_at": "2030-03-17T17:46:40.000000Z",
    }


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (WorkflowStarted("Order", b"[]", 311, 5, delayed_until=1_900_000_000_000_000), "delayed_until"),
        (TimerStarted(1, 1_900_000_000_000_000), "fires_at"),
        (ActivityDeclined(1, 1, "nobody", 1_900_000_000_000_000), "retry_at"),
        (ActivityAttemptFailed(1, 1, FailureInfo("E", "m"), 1_900_000_000_000_000, "token"), "retry_at"),
    ],
)
def test_every_moment_of_a_history_is_shown_as_a_time(event: Any, field: str) -> None:
    (shown,) = json.loads(history_to_json(history_of([[event]], 0, b"")))["events"]
    assert shown[field] == "2030-03-17T17:46:40.000000Z"


def test_there_is_no_history_without_events() -> None:
    with pytest.raises(UsageError, match="no history without events"):
        history_to_json([])


GOOD = history_to_json(history_of([[TimerStarted(1, 5)]], 0, b""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a perdure history"),
        ("[]", "this is not a perdure history"),
        ("{}", "this is not a perdure history"),
        (
            GOOD.replace("perdure history 1", "perdure history 9"),
            "'perdure history 9', not 'perdure history 1'",
        ),
        (GOOD.replace('"TimerStarted"', '"TimerInvented"'), "TimerInvented"),
        (GOOD.replace('"number": 1', '"number": "one"'), "Expected `int`, got `str`"),
        (GOOD.replace('"number"', '"numbers"'), "numbers"),
        (GOOD.replace('"at": "1970', '"at": "in 1970'), "isoformat"),
        (GOOD.replace('"record"', '"records"'), "this is not a perdure history"),
        (GOOD[:-10], "this is not a perdure history"),
    ],
)
def test_an_invalid_history_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        history_from_json(text)
