"""What must hold of every run by itself: I1, I2, I3, I4 within a run, I6."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.codec.frames import unframed
from perdure.codec.records import hash_of
from perdure.core.run import fold
from perdure.core.state import RunState
from perdure.model.events import EventRecord
from perdure.model.states import WorkflowState
from tests.chaos.contents import Decoded, Event, Violation
from tests.simulation.invariants import (
    assert_activities_end_once,
    assert_one_terminal_event_last,
    assert_time_never_goes_back,
    assert_timers_fire_once_and_never_early,
)

OF_RECORDS: tuple[Callable[[Sequence[EventRecord]], None], ...] = (
    assert_one_terminal_event_last,
    assert_activities_end_once,
    assert_timers_fire_once_and_never_early,
    assert_time_never_goes_back,
)
"""The rules that runs on one machine are held to as well. Each says which invariant it is about."""


def check_runs(decoded: Decoded) -> Iterator[Violation]:
    """All runs, and the states of all workflow ids."""
    folded: dict[str, dict[str, RunState]] = {}
    for (workflow_id, run_id), events in decoded.histories.items():
        where = f"{workflow_id}/{run_id}"
        yield from _check_place(where, events, decoded.contents.partitions.get("events", 0))
        yield from _check_chain(where, events)
        records = [each.record for each in events]
        for rule in OF_RECORDS:
            yield from _asserted(where, rule, records)
        try:
            folded.setdefault(workflow_id, {})[run_id] = fold(records)
        except (ValueError, KeyError) as error:
            yield Violation("I6", where, f"the history cannot be folded: {error!r}")
    for workflow_id, runs in folded.items():
        yield from _check_state(workflow_id, runs, decoded.states.get(workflow_id))
    for workflow_id, state in decoded.states.items():
        if (workflow_id, state.run_id) not in decoded.histories.keys() | decoded.deleted:
            yield Violation("I6", workflow_id, f"the state is of run {state.run_id}, which has no history")


def _asserted(
    where: str, rule: Callable[[Sequence[EventRecord]], None], records: Sequence[EventRecord]
) -> Iterator[Violation]:
    try:
        rule(records)
    except AssertionError as error:
        invariant, _, message = str(error).partition(": ")
        yield Violation(invariant, where, message)


def _check_place(where: str, events: Sequence[Event], count: int) -> Iterator[Violation]:
    for found, record in events:
        place = (
            partition_of(record.workflow_id.encode(errors="surrogatepass"), count)
            if count
            else found.partition
        )
        if found.partition != place:
            yield Violation(
                "I1", where, f"{found} lies on partition {found.partition}, its workflow id on {place}"
            )
        key = f"{record.workflow_id}/{record.run_id}/{record.first_event_id}".encode()
        if found.key != key:
            yield Violation("I1", where, f"{found} has the key {found.key!r}, which should be {key!r}")


def _check_chain(where: str, events: Sequence[Event]) -> Iterator[Violation]:
    """I1, over the Avro that is in the topic, whether framed for a registry or not; and I4: no
    two records hold the same event."""
    next_id, previous = 1, b""
    for found, record in events:
        if not record.events:
            yield Violation("I1", where, f"{found} holds no events")
        if record.first_event_id < next_id:
            yield Violation("I4", where, f"{found} holds event {record.first_event_id} a second time")
        elif record.first_event_id > next_id:
            yield Violation(
                "I1", where, f"event {record.first_event_id} ({found}) follows event {next_id - 1}"
            )
        elif record.previous_hash != previous:
            yield Violation("I1", where, f"the hash chain breaks before event {next_id} ({found})")
        next_id, previous = (
            record.last_event_id + 1,
            hash_of(unframed(found.value or b"", found.schema or b"")[0]),
        )


def _check_state(
    workflow_id: str, runs: dict[str, RunState], state: WorkflowState | None
) -> Iterator[Violation]:
    """I6: the public state is what the events of the last run fold to."""
    still_open = [run_id for run_id, run in runs.items() if not run.phase.is_closed]
    if len(still_open) > 1:
        yield Violation("I6", workflow_id, f"{len(still_open)} open runs: {still_open}")
    if state is None:
        yield Violation("I6", workflow_id, "a history, and no state")
        return
    run = runs.get(state.run_id)
    if run is None:
        return
    last = max(runs.values(), key=lambda each: each.started_at)
    if last.started_at > run.started_at:
        yield Violation("I6", workflow_id, f"the state is of run {run.run_id}, and {last.run_id} is newer")
    for name in ("type", "status", "started_at", "closed_at", "result", "failure"):
        if getattr(state, name) != getattr(run, name):
            yield Violation(
                "I6",
                workflow_id,
                f"{name} is {getattr(state, name)!r} in the state, {getattr(run, name)!r} by the events",
            )
    if run.reason and state.reason != run.reason:
        yield Violation(
            "I6", workflow_id, f"the reason is {state.reason!r} in the state, {run.reason!r} by the events"
        )
