"""How a run's waits are described."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from perdure.cli.output import Format
from perdure.cli.rendering import print_description
from perdure.client.description import LISTED, PendingOther, describe, moment
from perdure.core.run import record, start
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
