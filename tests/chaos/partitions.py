"""What must hold of every partition: I2 and I4. Each event has its cause among the commands that
its transaction took, and no other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from perdure.model import commands as cm
from perdure.model import events as ev
from tests.chaos.contents import Decoded, Event, Violation

OF_REQUESTS = (ev.SignalReceived, ev.WorkflowCancelRequested, ev.WorkflowStarted, ev.WorkflowTerminated)
REQUESTS = (cm.SignalWorkflow, cm.CancelWorkflow, cm.StartWorkflow, cm.TerminateWorkflow)


def check_partitions(decoded: Decoded) -> Iterator[Violation]:
    """All partitions of events, and the engines' offsets."""
    yield from _check_inputs(decoded)
    yield from _check_commits(decoded)
    yield from _check_once(decoded)


def _check_inputs(decoded: Decoded) -> Iterator[Violation]:
    by_partition: dict[int, list[Event]] = defaultdict(list)
    for each in decoded.events:
        by_partition[each.found.partition].append(each)
    causes = Causes(decoded)
    for partition, events in by_partition.items():
        before, current, at = -1, -1, 0
        for found, record in events:
            if record.input_partition != partition:
                yield Violation("I4", str(found), f"its input lies on partition {record.input_partition}")
            if record.input_offset < current:
                yield Violation(
                    "I4", str(found), f"its input is {record.input_offset}, after one of {current}"
                )
            if record.at < at:
                yield Violation("I4", str(found), f"`at` is {record.at}, after {at}")
            if record.input_offset > current:
                before, current = current, record.input_offset
            at = max(at, record.at)
            yield from causes.check(Event(found, record), before, record.input_offset)


class Causes:
    """Where the commands lie that may have caused an event."""

    def __init__(self, decoded: Decoded) -> None:
        self._lows = decoded.contents.lows
        self._requests: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._reports: dict[tuple[str, int, str], list[int]] = defaultdict(list)
        self._tokens: dict[tuple[str, int], str] = {}
        for found, command in decoded.commands:
            if isinstance(command, REQUESTS) and command.request_id:
                self._requests[found.partition, command.request_id].append(found.offset)
            elif isinstance(command, cm.CompleteActivity):
                self._reports[command.run_id, command.number, command.token].append(found.offset)

    def check(self, event: Event, before: int, current: int) -> Iterator[Violation]:
        """The commands of the record's transaction lie after `before`, up to `current`."""
        found, record = event
        is_all_there = before + 1 >= self._lows.get(("commands", found.partition), 0)
        for each in record.events:
            if isinstance(each, ev.ActivityScheduled):
                self._tokens[record.run_id, each.number] = "" if each.options.is_step else each.token
            elif isinstance(each, ev.ActivityAttemptFailed):
                if self._tokens.get((record.run_id, each.number)):
                    self._tokens[record.run_id, each.number] = each.token
            elif isinstance(each, ev.ActivityCompleted):
                token = self._tokens.get((record.run_id, each.number), "")
                if token and is_all_there:
                    yield from self._check_completed(event, each.number, token, before, current)
            elif isinstance(each, OF_REQUESTS) and each.request_id and is_all_there:
                # none: of a client in the engine's process
                offsets = self._requests.get((found.partition, each.request_id), [])
                if offsets and not _lies_in(offsets, before, current):
                    yield Violation(
                        "I4",
                        f"{record.workflow_id}/{record.run_id}",
                        f"{type(each).__name__} in {found} is of the commands {before + 1} to {current}; "
                        "its request "
                        f"{each.request_id!r} lies at {offsets}",
                    )

    def _check_completed(
        self, event: Event, number: int, token: str, before: int, current: int
    ) -> Iterator[Violation]:
        found, record = event
        offsets = self._reports.get((record.run_id, number, token), [])
        if not _lies_in(offsets, before, current):
            where = f"{record.workflow_id}/{record.run_id}"
            what = (
                f"its report lies at {offsets}"
                if offsets
                else "no worker has reported it under the token of its attempt"
            )
            yield Violation(
                "I2",
                where,
                f"activity {number} is completed in {found} by the commands {before + 1} to {current}: "
                f"{what}",
            )


def _lies_in(offsets: Sequence[int], before: int, current: int) -> bool:
    return any(before < offset <= current for offset in offsets)


def _check_commits(decoded: Decoded) -> Iterator[Violation]:
    """The engines' offsets never go back, never stay behind the events, never pass the commands."""
    contents = decoded.contents
    last: dict[int, tuple[int, str]] = {}
    for partition, offset, owner in contents.commits:
        before, previous = last.get(partition, (-1, ""))
        if offset < before:
            message = f"{owner} has committed {offset}, after {before} by {previous}"
            yield Violation("I4", f"commands/{partition}", message)
        last[partition] = offset, owner
    done: dict[int, int] = defaultdict(int)
    for found, record in decoded.events:
        done[found.partition] = max(done[found.partition], record.input_offset + 1)
    for partition, offset in done.items():
        committed = max(
            contents.engine_offsets.get(partition, -1), last.get(partition, (-1, ""))[0]
        )  # the commits were read later
        if committed < offset:
            message = (
                f"the committed offset is {committed}, and the events are of commands up to {offset - 1}"
            )
            yield Violation("I4", f"commands/{partition}", message)
    for partition, offset in contents.engine_offsets.items():
        end = contents.ends.get(("commands", partition), offset)
        if offset > end:
            yield Violation(
                "I4",
                f"commands/{partition}",
                f"the committed offset is {offset}, and the commands end at {end}",
            )


def _check_once(decoded: Decoded) -> Iterator[Violation]:
    """I2: a request is in one run, once."""
    for request_id, runs in decoded.request_ids.items():
        if len(set(runs)) > 1:
            yield Violation("I2", request_id, f"the request is in {len(set(runs))} runs: {sorted(set(runs))}")
        elif len(set(runs)) == 1 and len(runs) > 1:
            yield Violation("I2", request_id, f"the request is {len(runs)} times in the history of {runs[0]}")
