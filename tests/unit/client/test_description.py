"""How a run's waits are described."""

from __future__ import annotations

import pytest
from msgspec import json
from msgspec.structs import replace

from perdure.cli.output import Format
from perdure.cli.rendering import print_description
from perdure.client.description import LISTED, PendingOther, describe, moment
from perdure.client.waits import _in_words
from perdure.core.run import public_state, record, start
from perdure.model import events as ev
from perdure.model.options import ActivityOptions
from perdure.model.states import Status, Wait, WorkflowState

SECOND = 1_000_000


def waiting(*waits: Wait) -> WorkflowState:
    return WorkflowState("w", "r", "Order", Status.RUNNING, SECOND, SECOND, 0, 7, waits=waits)


def test_a_wait_of_an_unknown_kind_is_described_with_its_name_and_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = waiting(Wait("doorbell", "front", 2, 0, SECOND, 3 * SECOND), Wait("gate", "", 1))
    found = describe(state, None, None, {})
    assert found.others == (
        PendingOther("doorbell", "front", 2, moment(SECOND), moment(3 * SECOND)),
        PendingOther("gate", "", 1, None, None),
    )
    print_description(found, state, Format.TABLE)
    front, gate = capsys.readouterr().out.splitlines()[-2:]
    assert front.startswith("waits for doorbell front, since ")
    assert ", until " in front
    assert gate == "waits for gate 1"


def test_a_run_that_waits_for_nothing_of_the_platform_waits_for_a_signal_or_a_condition(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = waiting()
    print_description(describe(state, None, None, {}), state, Format.TABLE)
    assert capsys.readouterr().out.splitlines()[-1] == "waits for a signal, or for a condition in its code"
    for status in set(Status) - {Status.RUNNING}:
        state = replace(waiting(), status=status)
        print_description(describe(state, None, None, {}), state, Format.TABLE)
        assert "waits for" not in capsys.readouterr().out


def test_a_wait_that_has_a_list_of_its_own_is_in_no_other() -> None:
    waits = [Wait(kind, "", 1, 1, SECOND, SECOND) for kind in LISTED]
    assert describe(waiting(*waits), None, None, {}).others == ()


def test_an_activity_is_described_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    started = ev.WorkflowStarted("Order", b"[]", 311, 1)
    options = ActivityOptions(timeout_us=SECOND, queue="tills", summary="the bill of table 4")
    run = start("w", "r", started, SECOND)
    record(run, ev.ActivityScheduled(1, "charge", b"[]", options, "token"), SECOND)
    state = waiting(Wait("activity", "charge", 1, 1, SECOND, 0))
    found = describe(state, run, None, {})
    assert [each.summary for each in found.activities] == ["the bill of table 4"]
    print_description(found, state, Format.TABLE)
    assert 'waits for activity charge "the bill of table 4": ' in capsys.readouterr().out


def test_timers_and_children_are_described_with_their_summaries_and_a_run_with_its_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = replace(
        waiting(
            Wait("timer", "", 1, due_at=SECOND, summary="until **noon**"),
            Wait("child", "parcel", 1, scheduled_at=SECOND, summary="the parcel\x1b]0;x\x07"),
        ),
        memo=b'{"by":"Ada"}',
        details="**late**\r\x1b[31m<b>\nsince \u202enoon\0",
    )
    found = describe(state, None, None, {}, memo={"by": "Ada"})
    assert found.timers[0].summary == "until **noon**"
    assert found.children[0].summary == "the parcel\x1b]0;x\x07"
    assert (found.memo, found.details) == ({"by": "Ada"}, state.details)
    print_description(found, state, Format.TABLE)
    out = capsys.readouterr().out
    assert 'memo     {"by":"Ada"}' in out
    assert r"details  **late**\r\x1b[31m<b>" in out
    assert "\n         since \\u202enoon\\x00\n" in out
    assert 'waits for timer 1 "until **noon**": fires at ' in out
    assert r'waits for child parcel "the parcel\x1b]0;x\x07": since ' in out
    assert "\x1b[31m" not in out
    assert _in_words(found) == (
        'it waits for a timer "until **noon**", until 1970-01-01 00:00:01+00:00; and for '
        'its child parcel "the parcel\x1b]0;x\x07"'
    )
    print_description(found, state, Format.JSON)
    shown = json.decode(capsys.readouterr().out)
    assert (shown["memo"], shown["details"]) == ({"by": "Ada"}, state.details)
    assert shown["timers"][0]["summary"] == "until **noon**"


def test_an_activity_and_a_timer_are_described_from_the_history_with_their_summaries() -> None:
    run = start("w", "r", ev.WorkflowStarted("Order", b"[]", 311, 1), SECOND)
    record(run, ev.TimerStarted(1, SECOND, "first"), SECOND)
    record(run, ev.TimerStarted(2, 2 * SECOND, "second"), SECOND)
    record(run, ev.TimerFired(1), SECOND)
    record(run, ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(), "token"), SECOND)
    found = describe(public_state(run, b""), run, None, {})
    assert [(each.number, each.summary) for each in found.timers] == [(2, "second")]
