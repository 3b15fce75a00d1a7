"""The invariants that must hold at every point, by their names in ARCHITECTURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from perdure.authoring.workflow_type import definition_of_run
from perdure.codec.records import hash_of_record
from perdure.core.machines.activity import task_of
from perdure.core.run import fold
from perdure.core.state import (
    ActivityState,
    ActivityStatus,
    ChildState,
    LaterState,
    Phase,
    RunState,
    TokenState,
)
from perdure.model import events as ev
from perdure.model.states import WorkflowState
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind
from perdure.replay.live import LiveRun

if TYPE_CHECKING:
    from perdure.engine.active import ActiveRun
    from perdure.engine.ports import Store
    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition

ENDS_ACTIVITY = (
    ev.ActivityCompleted,
    ev.ActivityFailed,
    ev.ActivityCancelRequested,
    ev.ActivityCancelled,
)
EndsChild: TypeAlias = ev.ChildRefused | ev.ChildCompleted | ev.ChildFailed | ev.ChildCancelled
ENDS_CHILD = (ev.ChildRefused, ev.ChildCompleted, ev.ChildFailed, ev.ChildCancelled)
EndsToken: TypeAlias = ev.TokenResolved | ev.TokenFailed | ev.TokenExpired
ENDS_TOKEN = (ev.TokenResolved, ev.TokenFailed, ev.TokenExpired)
ENDS_TIMER = (ev.TimerFired, ev.TimerCancelled)


def check_history(records: Sequence[ev.EventRecord], *, is_of_this_version: bool = True) -> None:
    """I1 to I4, of one run. The hashes are of the bytes as they were written: a version that adds a
    field writes others."""
    assert_gapless(records)
    if is_of_this_version:
        assert_chained(records)
    assert_one_terminal_event_last(records)
    assert_activities_end_once(records)
    assert_timers_fire_once_and_never_early(records)
    assert_each_is_answered_once(records, ev.ChildRequested, ENDS_CHILD)
    assert_each_is_answered_once(records, ev.MessageSent, (ev.MessageAnswered,))
    assert_each_is_answered_once(records, ev.TokenIssued, ENDS_TOKEN)
    assert_time_never_goes_back(records)


def assert_gapless(records: Sequence[ev.EventRecord]) -> None:
    """I1: each record begins where the one before ended."""
    next_id = 1
    for record in records:
        assert record.events, "I1: a record without events"
        assert record.first_event_id == next_id, (
            f"I1: event {record.first_event_id} after event {next_id - 1}"
        )
        next_id += len(record.events)


def assert_chained(records: Sequence[ev.EventRecord]) -> None:
    """I1: each record names the hash of the one before."""
    previous = b""
    for record in records:
        assert record.previous_hash == previous, (
            f"I1: the hash chain breaks before event {record.first_event_id}"
        )
        previous = hash_of_record(record)


def assert_one_terminal_event_last(records: Sequence[ev.EventRecord]) -> None:
    """I1: at most one, and nothing after it."""
    events = _events(records)
    terminal = [number for number, (_, event) in enumerate(events) if isinstance(event, ev.TERMINAL)]
    assert len(terminal) <= 1, f"I1: {len(terminal)} terminal events"
    assert not terminal or terminal[0] == len(events) - 1, "I1: events after the terminal one"


def assert_activities_end_once(records: Sequence[ev.EventRecord]) -> None:
    """I2: an activity is scheduled once, and ends at most once after that."""
    scheduled: set[int] = set()
    ended: set[int] = set()
    for _, event in _events(records):
        if isinstance(event, ev.ActivityScheduled):
            assert event.number == len(scheduled) + 1, "I2: activities are numbered from 1 without a gap"
            scheduled.add(event.number)
        elif isinstance(event, ENDS_ACTIVITY):
            assert event.number in scheduled, f"I2: activity {event.number} ends and was never scheduled"
            assert event.number not in ended, f"I2: activity {event.number} ends twice"
            ended.add(event.number)


def assert_each_is_answered_once(
    records: Sequence[ev.EventRecord],
    asked: type[ev.ChildRequested | ev.MessageSent | ev.TokenIssued],
    ends: tuple[type[EndsChild | ev.MessageAnswered | EndsToken], ...],
) -> None:
    """I2: a child is requested once, and ends at most once after that; so is a message answered,
    or a token."""
    open_: set[int] = set()
    count = 0
    for _, event in _events(records):
        if isinstance(event, ev.WorkflowStarted) and asked is ev.TokenIssued:
            count = len(event.tokens)  # a run before has issued them
            open_ = {n for n, each in enumerate(event.tokens, 1) if each.value is None and not each.failure}
        elif isinstance(event, asked):
            count += 1
            assert event.number == count, f"I2: {asked.__name__} are numbered from 1 without a gap"
            open_.add(count)
        elif isinstance(event, ends):
            assert event.number in open_, f"I2: {type(event).__name__} {event.number} is one too many"
            open_.remove(event.number)


def assert_timers_fire_once_and_never_early(records: Sequence[ev.EventRecord]) -> None:
    """I3: also those of retries and of a delayed start."""
    armed: dict[int, int] = {}
    ended: set[int] = set()
    retry_at: dict[int, int] = {}
    begins_at = resumed_at = 0
    for at, event in _events(records):
        match event:
            case ev.WorkflowStarted():
                begins_at = event.delayed_until
            case ev.WorkflowBegun():
                assert begins_at, "I3: begun, and was not delayed"
                assert at >= begins_at, "I3: begun early"
            case ev.TimerStarted():
                assert event.number not in armed, f"I3: timer {event.number} is started twice"
                armed[event.number] = event.fires_at
            case ev.TimerFired() | ev.TimerCancelled():
                assert event.number in armed, f"I3: timer {event.number} ends and was never started"
                assert event.number not in ended, f"I3: timer {event.number} ends twice"
                assert isinstance(event, ev.TimerCancelled) or at >= armed[event.number], (
                    f"I3: timer {event.number} fired early"
                )
                ended.add(event.number)
            case ev.ActivityAttemptFailed() | ev.ActivityDeclined():
                retry_at[event.number] = event.retry_at
            case ev.ActivityOverridden():
                retry_at[event.number] = at  # an operator's order
            case ev.ActivityRetried():
                is_due = at >= retry_at.pop(event.number) or at == resumed_at
                assert is_due, f"I3: activity {event.number} is tried again early"
            case ev.WorkflowResumed():
                resumed_at = at
            case _:
                pass


def assert_time_never_goes_back(records: Sequence[ev.EventRecord]) -> None:
    """I4."""
    times = [record.at for record in records]
    assert times == sorted(times), "I4: `at` goes back"


def assert_replays(records: Sequence[ev.EventRecord], definition: Definition, payloads: Payloads) -> None:
    """I5: new code repeats the recorded actions.

    Raises:
        ReplayError: it does not.
    """
    first = records[0]
    started = first.events[0]
    assert isinstance(started, ev.WorkflowStarted)
    live = LiveRun(
        definition, first.workflow_id, first.run_id, started=started, started_at=first.at, payloads=payloads
    )
    try:
        live.replay(records)
    finally:
        live.evict()


def assert_fold_is_stored(
    records: Sequence[ev.EventRecord],
    state: WorkflowState | None,
    timers: Sequence[Timer],
    tasks: Sequence[Task],
) -> None:
    """I6: the store holds what the events say.

    Args:
        records: of a run.
        state: of its workflow id; of a later run where there is one.
        timers: all.
        tasks: all.
    """
    run = fold(records)
    assert state is not None, "I6: a history without a state"
    if state.run_id == run.run_id:
        assert state.type == run.type
        assert state.status is run.status, f"I6: the state is {state.status}, the fold {run.status}"
        assert (state.started_at, state.closed_at) == (run.started_at, run.closed_at)
        assert (state.result, state.failure) == (run.result, run.failure)
        assert not run.reason or state.reason == run.reason
    else:
        assert run.phase.is_closed, "I6: two open runs of one workflow id"
    assert {timer for timer in timers if timer.run_id == run.run_id} == timers_of(run), "I6: timers"
    stored = {task.number: task for task in tasks if task.run_id == run.run_id}
    assert stored.keys() == tasks_of(run).keys(), "I6: tasks"
    for number, task in tasks_of(run).items():
        found = stored[number]
        assert (found.token, found.attempt, found.name, found.input) == (
            task.token,
            task.attempt,
            task.name,
            task.input,
        )
        assert (found.queue, found.idempotency_key, found.timeout_us) == (
            task.queue,
            task.idempotency_key,
            task.timeout_us,
        )


def timers_of(run: RunState) -> set[Timer]:
    """The timers that a run must have in the store: none while it is paused."""
    if run.phase.is_paused:
        return set()

    def timer(fires_at: int, kind: TimerKind, number: int = 0) -> Timer:
        return Timer(fires_at, run.run_id, kind, number, run.workflow_id)

    found = {timer(fires_at, TimerKind.CODE, number) for number, fires_at in run.timers.items()}
    for number, activity in run.activities.items():
        if activity.retry_at:
            found.add(timer(activity.retry_at, TimerKind.RETRY, number))
        give_up_after = activity.options.retry.give_up_after_us
        if give_up_after and activity.status is not ActivityStatus.EXHAUSTED:
            found.add(timer(activity.since + give_up_after, TimerKind.GIVE_UP, number))
    if not run.phase.is_closed and run.started.timeout_us:
        found.add(timer(run.started_at + run.started.timeout_us, TimerKind.TIMEOUT))
    if run.phase is Phase.DELAYED:
        found.add(timer(run.started.delayed_until, TimerKind.BEGIN))
    return found


def tasks_of(run: RunState) -> dict[int, Task]:
    """The tasks that a run must have in the store, by number."""
    out = (ActivityStatus.DISPATCHED, ActivityStatus.STARTED)
    return {
        number: task_of(run, activity)
        for number, activity in run.activities.items()
        if activity.status in out
        or (activity.status is ActivityStatus.STOPPING and (not activity.retry_at or activity.declined))
    }


def assert_live_is_folded(active: ActiveRun, store: Store) -> None:
    """I6: the cached state is the one that a reload would give, hash of the last record
    included."""
    state = active.state
    again = fold(store.events(state.workflow_id, state.run_id))
    again.last_hash = store.last_hash(state.workflow_id, state.run_id)
    assert as_data(state) == as_data(again), (
        f"the live state of {state.workflow_id} is not what its history folds to"
    )


def as_data(state: RunState) -> dict[str, Any]:
    """All slots, those of the activities and children, too."""
    data = {name: getattr(state, name) for name in RunState.__slots__}
    data["activities"] = {
        number: {name: getattr(activity, name) for name in ActivityState.__slots__}
        for number, activity in state.activities.items()
    }
    data["children"] = {
        number: {name: getattr(child, name) for name in ChildState.__slots__}
        for number, child in state.children.items()
    }
    data["tokens"] = {
        number: {name: getattr(token, name) for name in TokenState.__slots__}
        for number, token in state.tokens.items()
    }
    data["later"] = {
        number: {name: getattr(later, name) for name in LaterState.__slots__}
        for number, later in (state.later or {}).items()
    }
    data["parts"] = {kind: part for kind, part in (state.parts or {}).items() if part}
    return data


def check_everything(
    histories: Mapping[tuple[str, str], Sequence[ev.EventRecord]],
    store: Store,
    definitions: Mapping[str, Definition],
    payloads: Payloads,
) -> None:
    """I1 to I6, of all runs."""
    timers, tasks = store.timers(None, 1_000_000), list(store.tasks())
    for (workflow_id, run_id), records in histories.items():
        assert records, f"I8: run {run_id} of {workflow_id!r} was acknowledged and is not there"
        check_history(records)
        state = store.state(workflow_id)
        assert_fold_is_stored(records, state, timers, tasks)
        run = fold(records)
        if run.type in definitions and not was_suspended_last(records):
            definition = definition_of_run(definitions, run.started)
            assert definition is not None
            assert_replays(records, definition, payloads)
    run_ids = {run_id for _, run_id in histories}
    assert {timer.run_id for timer in timers} <= run_ids, "I6: timers of runs that nobody knows"
    assert {task.run_id for task in tasks} <= run_ids, "I6: tasks of runs that nobody knows"


def assert_records_lie_where_histories_say(
    histories: Mapping[tuple[str, str], Sequence[ev.EventRecord]],
    records: Sequence[tuple[str, bytes | None, bytes | None]],
) -> None:
    """Each record that a history holds was written once, in the order of its run, and no other."""
    told = {
        run: [
            (event.topic, event.key, event.value)
            for _, event in _events(history)
            if isinstance(event, ev.RecordProduced)
        ]
        for run, history in histories.items()
    }
    assert Counter(records) == Counter(record for records in told.values() for record in records)
    for run, wanted in told.items():
        assert [record for record in records if record in wanted] == wanted, (
            f"the records of {run} are out of order"
        )


def was_suspended_last(records: Sequence[ev.EventRecord]) -> bool:
    """Whether the code could not be trusted at the last report of the run, or when it closed."""
    marks = [
        event for _, event in _events(records) if isinstance(event, ev.WorkflowSuspended | ev.WorkflowResumed)
    ]
    return bool(marks) and isinstance(marks[-1], ev.WorkflowSuspended)


def _events(records: Sequence[ev.EventRecord]) -> list[tuple[int, ev.AnyEvent]]:
    return [(record.at, event) for record in records for event in record.events]
