"""Actions of code to events, and back."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.actions import fits, in_words, to_event
from perdure.core.registry import RECORDED_AS
from perdure.model import actions as ac
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions
from tests.unit.core.driven import NOW, Driven

ACTIONS: list[Any] = [
    ac.ScheduleActivity(2, "charge", b"[1]", ActivityOptions()),
    ac.CancelActivity(1),
    ac.StartTimer(2, NOW),
    ac.CancelTimer(1),
    ac.CompleteWorkflow(b"1"),
    ac.FailWorkflow(FailureInfo("app:Sad")),
    ac.EndCancelled(),
    ac.ProduceRecord(2, "shop.shipped", b"order-1", b"{}", ()),
    ac.StartChild(2, "order-1/parcel", "Parcel", b"[]", "cancel", "start", 0),
    ac.CancelChild(1),
    ac.SendMessage(2, "signal", "other", "go", b"[]"),
    ac.ApplyPatch("new-fee"),
    ac.ContinueAsNew(b"[1]", "run-2"),
    ac.CompleteUpdate(1, b"1"),
    ac.FailUpdate(2, FailureInfo("app:Sad")),
    ac.IssueToken(2, "5ec2e7", 0, False),
    ac.SetAttributes(2, b'{"region":"eu"}'),
    ac.StopActivity(1),
    ac.AbandonActivity(1),
    ac.RetryCompensation(1, "refund", 1, FailureInfo("app:Sad"), NOW),
    ac.CompleteCompensation(1),
    ac.FailCompensation(1, "refund", FailureInfo("app:Sad"), 1),
    ac.SetDetails("waits for **Ada**"),
]


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.schedule()
    driven.record(ev.TimerStarted(1, NOW))
    driven.record(ev.ChildRequested(1, "parcel", "Parcel", b"[]"))
    return driven


def test_every_action_is_tested() -> None:
    assert {type(action) for action in ACTIONS} == set(RECORDED_AS.values())


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_the_event_of_an_action_fits_it_and_no_other(run: Driven, action: Any) -> None:
    event = to_event(run.state, action, lambda: "token")
    assert event is not None
    assert [other for other in ACTIONS if fits(event, other)] == [action]
    assert in_words(event) == in_words(action)


@pytest.mark.parametrize(
    "action",
    [ac.CancelActivity(9), ac.StopActivity(9), ac.AbandonActivity(9), ac.CancelTimer(9), ac.CancelChild(9)],
)
def test_cancelling_what_is_over_leaves_no_event(run: Driven, action: Any) -> None:
    assert to_event(run.state, action, lambda: "token") is None


def test_a_cancelled_run_ends_with_the_reason_it_was_given(run: Driven) -> None:
    run.record(ev.WorkflowCancelRequested("rain"))
    assert to_event(run.state, ac.EndCancelled(), lambda: "token") == ev.WorkflowCancelled("rain")


@pytest.mark.parametrize(
    ("recorded", "wanted"),
    [
        (
            ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(), "t"),
            ac.ScheduleActivity(1, "refund", b"[]", ActivityOptions()),
        ),
        (
            ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(), "t"),
            ac.ScheduleActivity(2, "charge", b"[]", ActivityOptions()),
        ),
        (ev.TimerStarted(1, NOW), ac.StartTimer(2, NOW)),
        (ev.RecordProduced(1, "shipped", None, b""), ac.ProduceRecord(2, "shipped", None, b"", ())),
        (ev.RecordProduced(1, "shipped", None, b""), ac.ProduceRecord(1, "lost", None, b"", ())),
        (ev.TimerCancelled(1), ac.CancelTimer(2)),
        (
            ev.ChildRequested(1, "parcel", "Parcel", b"[]"),
            ac.StartChild(1, "letter", "Parcel", b"[]", "cancel", "start", 0),
        ),
        (
            ev.ChildRequested(1, "parcel", "Parcel", b"[]"),
            ac.StartChild(1, "parcel", "Letter", b"[]", "cancel", "start", 0),
        ),
        (ev.ChildCancelRequested(1), ac.CancelChild(2)),
        (ev.MessageSent(1, "signal", "other", "go"), ac.SendMessage(1, "cancel", "other", "go", b"")),
        (ev.MessageSent(1, "signal", "other", "go"), ac.SendMessage(1, "signal", "nobody", "go", b"")),
        (ev.ActivityCancelRequested(1), ac.CancelActivity(2)),
    ],
)
def test_another_number_or_name_does_not_fit(recorded: Any, wanted: Any) -> None:
    assert not fits(recorded, wanted)


def test_other_arguments_and_times_fit() -> None:
    recorded = ev.ActivityScheduled(1, "charge", b"[1]", ActivityOptions(), "t")
    assert fits(recorded, ac.ScheduleActivity(1, "charge", b"[2]", ActivityOptions("other")))
    assert fits(ev.TimerStarted(1, NOW), ac.StartTimer(1, NOW + 5))
