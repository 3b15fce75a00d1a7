"""What was promised to those outside: I8 nothing acknowledged is lost, I9 every run that can move
does, I10 all comes back to rest."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from perdure.core.run import fold
from perdure.core.state import ActivityState, ActivityStatus, Phase, RunState
from perdure.model.replies import Accepted, Refused
from tests.chaos.contents import Decoded, Found, Violation
from tests.chaos.partitions import REQUESTS

SECOND_US = 1_000_000


class Acknowledged(msgspec.Struct, frozen=True):
    """A request that a client has seen answered with yes, as it wrote it down."""

    request_id: str
    workflow_id: str
    run_id: str


class OpenRun(NamedTuple):
    """A run that has not ended, and what it waits for."""

    workflow_id: str
    run_id: str
    why: str


@dataclass(frozen=True)
class Bounds:
    """When a wait is too long.

    Attributes:
        late_s: after which a timer should have fired, a retry been dispatched, and a task that was
            taken been leased or reported.
        must_end: every run: one that is open is a violation, whatever it waits for.
    """

    late_s: float = 30.0
    must_end: bool = False


def read_journal(file: Path) -> list[Acknowledged]:
    """One JSON object a line. Lines that say something else are passed over."""
    lines = (json.loads(line) for line in file.read_text().splitlines() if line.startswith("{"))
    return [msgspec.convert(line["acknowledged"], Acknowledged) for line in lines if "acknowledged" in line]


# ---- I8


def check_acknowledged(decoded: Decoded, journal: Iterable[Acknowledged]) -> Iterator[Violation]:
    """By the clients' own journal, by the replies, and by the commands that were taken."""
    known = decoded.request_ids
    for each in journal:
        runs = known.get(each.request_id, [])
        if (each.workflow_id, each.run_id) not in runs:
            found = f"it is in {runs}" if runs else "no history holds it"
            yield Violation(
                "I8",
                f"{each.workflow_id}/{each.run_id}",
                f"request {each.request_id!r} was acknowledged to a client: {found}",
            )
    run_ids = {run_id for _, run_id in decoded.histories.keys() | decoded.deleted}
    for reply in decoded.replies:
        if isinstance(reply, Accepted) and reply.run_id not in run_ids:
            yield Violation(
                "I8",
                reply.run_id,
                f"request {reply.request_id!r} was answered with a run that has no history",
            )
        elif (
            isinstance(reply, Accepted)
            and reply.is_new
            and reply.request_id not in known
            and not decoded.deleted
        ):
            yield Violation(
                "I8",
                reply.run_id,
                f"request {reply.request_id!r} was answered with yes, and no history holds it",
            )
    yield from _check_taken(decoded, set(known))


def _check_taken(decoded: Decoded, known: set[str]) -> Iterator[Violation]:
    """A request that was taken left a trace: it is in a history, was answered, is a dead letter, or
    is elsewhere once more."""
    contents = decoded.contents
    if decoded.deleted or any(low for (topic, _), low in contents.lows.items() if topic == "replies"):
        contents.notes.append(
            "replies or runs have been deleted: whether every request left a trace cannot be told"
        )
        return
    known = known | {reply.request_id for reply in decoded.replies if isinstance(reply, Accepted | Refused)}
    buried = {
        (letter.topic.partition(".")[2], letter.partition, letter.offset) for letter in decoded.dead_letters
    }
    places: dict[str, set[int]] = defaultdict(set)
    for found, command in decoded.commands:
        if isinstance(command, REQUESTS):
            places[command.request_id].add(found.partition)
    for found, command in decoded.commands:
        if not isinstance(command, REQUESTS) or not command.request_id or not command.reply_to:
            continue
        is_taken = found.offset < contents.engine_offsets.get(found.partition, -1)
        has_trace = command.request_id in known or (found.topic, found.partition, found.offset) in buried
        if is_taken and not has_trace and len(places[command.request_id]) == 1:
            what = f"{type(command).__name__} {command.request_id!r}"
            yield Violation(
                "I8", str(found), f"{what} was taken, and left no trace: in no history, and never answered"
            )


# ---- I9


def check_open_runs(decoded: Decoded, bounds: Bounds) -> tuple[list[OpenRun], list[Violation]]:
    """What every open run waits for, and those that wait for something that should have come."""
    still_open: list[OpenRun] = []
    violations: list[Violation] = []
    for (workflow_id, run_id), events in decoded.histories.items():
        try:
            run = fold([each.record for each in events])
        except (ValueError, KeyError):
            continue  # said by I6
        if run.phase.is_closed:
            continue
        whys = list(_waits(decoded, run, bounds))
        waits = "; ".join(why for why, _ in whys) or "waits for a signal"
        still_open.append(OpenRun(workflow_id, run_id, waits))
        where = f"{workflow_id}/{run_id}"
        violations += [Violation("I9", where, why) for why, is_late in whys if is_late]
        if bounds.must_end and not any(is_late for _, is_late in whys):
            violations.append(Violation("I9", where, f"has not ended: {waits}"))
    return still_open, violations


def _waits(decoded: Decoded, run: RunState, bounds: Bounds) -> Iterator[tuple[str, bool]]:
    """What a run waits for, and whether it has waited too long."""
    now = decoded.contents.read_at_us
    late = now - int(bounds.late_s * SECOND_US)
    if run.phase is Phase.SUSPENDED:
        yield f"is suspended: {run.reason}", not run.reason
        return
    if run.phase.is_paused:
        yield f"is paused: {run.reason}", False
        return
    if run.phase is Phase.DELAYED:
        yield "its start is delayed", run.started.delayed_until < late
    if (timeout := run.started.timeout_us) and run.started_at + timeout < late:
        yield "its own timeout has passed, and it is open", True
    for number, fires_at in run.timers.items():
        ago_s = (now - fires_at) / SECOND_US
        yield (
            (
                f"timer {number} was due {ago_s:.0f} s ago"
                if ago_s > 0
                else f"timer {number} fires in {-ago_s:.0f} s"
            ),
            fires_at < late,
        )
    for activity in run.activities.values():
        yield _activity_waits(decoded, run, activity, now, late)


def _activity_waits(
    decoded: Decoded, run: RunState, activity: ActivityState, now: int, late: int
) -> tuple[str, bool]:
    what = f"activity {activity.number} ({activity.name}), attempt {activity.attempt},"
    if activity.retry_at:
        return (
            f"{what} is dispatched again in {(activity.retry_at - now) / SECOND_US:.0f} s",
            activity.retry_at < late,
        )
    if activity.options.is_step:
        return (
            f"{what} is a step that has not ended",
            activity.scheduled_at + activity.options.timeout_us < late,
        )
    if activity.status is ActivityStatus.STARTED:
        return f"{what} runs on {activity.worker}", run.last_at + activity.options.timeout_us < late
    dispatched = [found for found, _ in decoded.tasks.get(activity.token, [])]
    if not dispatched:
        has_all = not any(
            low for (topic, _), low in decoded.contents.lows.items() if topic.startswith("tasks.")
        )
        return f"{what} has no task in the topic of its queue", has_all
    waiting = [found for found in dispatched if _is_waiting(decoded, found)]
    if waiting:
        return f"{what} waits for a worker ({waiting[0]})", False
    return (
        f"{what} was taken by a worker ({dispatched[-1]}), which neither leased nor reported it",
        run.last_at < late,
    )


def _is_waiting(decoded: Decoded, task: Found) -> bool:
    return task.offset >= decoded.contents.task_offsets.get(task.place, -1)


# ---- I10


def check_at_rest(decoded: Decoded) -> Iterator[Violation]:
    """Nothing is left to be taken, and no transaction is open."""
    contents = decoded.contents
    offsets = {
        ("commands", partition): offset for partition, offset in contents.engine_offsets.items()
    } | contents.task_offsets
    left: dict[tuple[str, int], int] = defaultdict(int)
    for found in contents.records:
        if (found.topic == "commands" or found.topic.startswith("tasks.")) and found.offset >= offsets.get(
            found.place, -1
        ):
            left[found.place] += 1
    for (topic, partition), count in sorted(left.items()):
        yield Violation("I10", f"{topic}/{partition}", f"{count} records have not been taken")
    for place, stable in sorted(contents.stable_ends.items()):
        if stable < contents.ends[place]:
            yield Violation(
                "I10",
                f"{place[0]}/{place[1]}",
                f"a transaction is open from {stable} on; the partition ends at {contents.ends[place]}",
            )
