"""The code of a run, shown its events one by one: what it sees, in which order, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import activity, workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import ActivityFailed, ActivityTimedOut, Failure
from perdure.model import actions as ac
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.replay.live import LiveRun

NOW = 1_700_000_000_000_000
PAYLOADS = JsonPayloads()


@activity.defn
async def charge() -> str:
    raise NotImplementedError


@activity.defn
async def tidy() -> str:
    raise NotImplementedError


@workflow.defn
class Early:
    """Ends with the signals that it got before it began."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @workflow.run
    async def main(self) -> list[str]:
        return [*self.told]

    @workflow.signal
    def tell(self, text: str) -> None:
        self.told.append(text)


@workflow.defn
class Busy:
    """Its handlers take their time; the run ends as its argument says."""

    def __init__(self) -> None:
        self.end = ""
        self.lengths: list[int] = []

    @workflow.run
    async def main(self) -> str:
        try:
            await workflow.wait_until(lambda: self.end)
        except asyncio.CancelledError as cancelled:
            return f"cancelled: {cancelled}"
        if self.end == "fail":
            raise Failure("as was asked")
        if self.end == "give up":
            raise asyncio.CancelledError("of its own accord")
        return str(self.lengths)

    @workflow.signal
    def finish(self, how: str) -> None:
        self.end = how

    @workflow.signal
    def measure(self) -> None:
        self.lengths.append(workflow.info().history_length)

    @workflow.query
    def measured(self) -> list[int]:
        return self.lengths

    @workflow.signal
    async def hold(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await tidy()

    @workflow.signal
    async def break_down(self, why: str) -> None:
        await workflow.wait_until(lambda: self.end)
        raise Failure(why)


@workflow.defn
async def pays() -> str:
    try:
        return await charge()
    except ActivityFailed as error:
        return f"{type(error).__name__} {isinstance(error, TimeoutError)} {error.attempts}"


class Played:
    """A run, and how far its history is."""

    def __init__(self, target: Any, **started: Any) -> None:
        self.started = ev.WorkflowStarted("type", b"[]", 311, 7, **started)
        self.live = LiveRun(
            workflow.definition_of(target),
            "w",
            "run-1",
            started=self.started,
            started_at=NOW,
            payloads=PAYLOADS,
        )
        self.length = 0
        self.events: list[ev.AnyEvent] = []

    def show(self, *events: ev.AnyEvent) -> list[ac.AnyAction]:
        """The last actions of the code."""
        wanted: list[ac.AnyAction] = []
        for event in events:
            self.length += 1
            self.events.append(event)
            wanted = self.live.apply(event, NOW + self.length, self.length)
        return wanted

    def begin(self) -> list[ac.AnyAction]:
        return self.show(self.started)


def signal(name: str, args: bytes = b"[]") -> ev.SignalReceived:
    return ev.SignalReceived(name, args, "")


def completed(value: bytes) -> list[ac.AnyAction]:
    return [ac.CompleteWorkflow(value)]


def failure(actions: list[ac.AnyAction]) -> FailureInfo:
    (action,) = actions
    assert isinstance(action, ac.FailWorkflow)
    return action.failure


def test_signals_that_came_before_a_delayed_start_are_handled_before_the_code_begins() -> None:
    run = Played(Early, delayed_until=NOW + 5)
    assert run.show(run.started, signal("tell", b'["a"]'), signal("tell", b'["b"]')) == []
    assert run.show(ev.WorkflowBegun()) == completed(b'["a","b"]')


def test_code_sees_the_length_of_the_history_at_each_event() -> None:
    run = Played(Busy)
    run.begin()
    run.show(signal("measure"))
    run.length += 7  # events that are not shown
    run.show(signal("measure"))
    assert run.show(signal("finish", b'["now"]')) == completed(b'"[2, 10]"')


def test_the_reason_of_a_cancellation_reaches_the_code() -> None:
    run = Played(Busy)
    run.begin()
    assert run.show(ev.WorkflowCancelRequested("too heavy", "")) == completed(b'"cancelled: too heavy"')


def test_a_run_that_cancels_itself_has_failed() -> None:
    run = Played(Busy)
    run.begin()
    failed = failure(run.show(signal("finish", b'["give up"]')))
    assert (failed.type, failed.message) == ("perdure.errors:Cancelled", "of its own accord")


def test_handlers_of_a_run_that_failed_are_cancelled_once_and_may_tidy_up() -> None:
    run = Played(Busy)
    run.begin()
    run.show(signal("hold"))
    (scheduled,) = run.show(signal("finish", b'["fail"]'))
    assert isinstance(scheduled, ac.ScheduleActivity)
    assert run.show(signal("measure")) == [], "what tidies up is left alone"
    assert failure(run.show(ev.ActivityCompleted(1, b'"tidy"'))).message == "as was asked"


def test_of_several_handlers_that_fail_in_one_activation_the_first_says_why_the_run_failed() -> None:
    run = Played(Busy)
    run.begin()
    run.show(signal("break_down", b'["first"]'), signal("break_down", b'["second"]'))
    assert failure(run.show(signal("finish", b'["now"]'))).message == "first"


def test_an_activity_that_had_no_result_in_time_is_a_time_out_and_another_is_not() -> None:
    for timed_out in (True, False):
        run = Played(pays)
        run.begin()
        event = ev.ActivityFailed(1, FailureInfo("builtins:OSError", "gone"), 3, timed_out=timed_out)
        name = (ActivityTimedOut if timed_out else ActivityFailed).__name__
        assert run.show(event) == completed(f'"{name} {timed_out} 3"'.encode())


def test_a_run_that_has_ended_has_no_further_actions() -> None:
    run = Played(Early)
    assert run.begin() == completed(b"[]")
    assert run.show(signal("tell", b'["late"]')) == []


def test_no_handler_runs_once_the_run_has_ended() -> None:
    run = Played(Busy)
    run.begin()
    assert run.show(signal("finish", b'["now"]')) == completed(b'"[]"')
    assert run.show(signal("break_down", b'["late"]'), signal("hold"), signal("measure")) == []
    assert run.live.query("measured", b"[]") == b"[]"


def test_after_a_replay_the_code_is_live_and_where_it_was() -> None:
    run = Played(Busy)
    run.begin()
    run.show(signal("measure"))
    again = Played(Busy)
    record = ev.EventRecord("w", "run-1", 1, NOW, -1, -1, b"", run.events)
    assert again.live.replay([record]) == []
    assert not again.live.loop.replaying
    again.length = 2
    assert again.show(signal("finish", b'["now"]')) == completed(b'"[2]"')
