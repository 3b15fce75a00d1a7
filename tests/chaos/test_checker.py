"""Topics as they must be pass the checker; each way in which they must not be is found, under its
name."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.codec.avro import COMMANDS, DEAD_LETTERS, EVENTS, REPLIES, STATE, TASKS, Wire
from perdure.codec.frames import FRAMED, frame
from perdure.codec.records import hash_of
from perdure.core.run import fold, public_state
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.dead_letters import DeadLetter
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions
from perdure.model.replies import Accepted, Refused
from perdure.model.tasks import Task
from tests.chaos.checker import Verdict, check
from tests.chaos.contents import Commit, Contents, Decoded, Found
from tests.chaos.promises import Acknowledged, Bounds
from tests.chaos.reading import commit_of, java_hash

PARTITIONS = 2
SECOND = 1_000_000
AT = 1_800_000_000 * SECOND
ORDER = "order-1"
RUN = "run-1"


class Forge:
    """A namespace with one order, as an engine and a worker leave it; tests spoil it.

    Args:
        is_closed: whether the order has ended.
    """

    def __init__(self, *, is_closed: bool = True) -> None:
        self.records: list[Found] = []
        self.partition = partition_of(ORDER.encode(), PARTITIONS)
        self.history: list[ev.EventRecord] = []
        self.at = AT
        self.journal: list[Acknowledged] = [
            Acknowledged("start-1", ORDER, RUN),
            Acknowledged("signal-1", ORDER, RUN),
        ]
        self.commits: list[Commit] = [Commit(self.partition, 0, "a")]
        self.task_offset = 0
        self._offsets: dict[tuple[str, int], itertools.count[int]] = {}
        self._previous = b""
        options = ActivityOptions()
        self.command(cm.StartWorkflow(ORDER, request_id="start-1", reply_to="kafka:0:x", type="Order"))
        self.event(
            ev.WorkflowStarted("Order", b"[]", 311, 7, "start-1"),
            ev.ActivityScheduled(1, "charge", b"[]", options, "t1"),
        )
        self.task("t1", 1)
        self.reply(Accepted("start-1", RUN))
        self.command(cm.SignalWorkflow(ORDER, request_id="signal-1", reply_to="kafka:0:x", name="confirm"))
        self.event(ev.SignalReceived("confirm", b"[]", "signal-1"))
        self.reply(Accepted("signal-1", RUN))
        self.command(cm.CompleteActivity(ORDER, RUN, number=1, token="t1"))
        self.event(ev.ActivityCompleted(1, b"null"), ev.TimerStarted(1, self.at + 3 * SECOND))
        if is_closed:
            self.at += 2 * SECOND
            self.event(ev.TimerFired(1), ev.WorkflowCompleted(b'"done"'))
        self.state()

    # ---- what an engine, a worker and a client write

    def put(
        self, topic: str, partition: int, value: bytes | None, wire: Wire[Any], key: str | None = None
    ) -> Found:
        offset = next(self._offsets.setdefault((topic, partition), itertools.count()))
        found = Found(
            topic, partition, offset, key.encode() if key is not None else None, value, wire.header[1]
        )
        self.records.append(found)
        return found

    def command(self, command: cm.AnyCommand, partition: int | None = None) -> int:
        place = self.partition if partition is None else partition
        return self.put("commands", place, COMMANDS.encode(command), COMMANDS, command.workflow_id).offset

    @property
    def taken(self) -> int:
        return max(
            (each.offset for each in self.of("commands") if each.partition == self.partition), default=-1
        )

    def event(self, *events: ev.AnyEvent, commit: bool = True, **fields: Any) -> None:
        """The next record of the order, in a transaction that has taken all commands so far."""
        self.at += SECOND
        next_id = self.history[-1].last_event_id + 1 if self.history else 1
        given: dict[str, Any] = {
            "run_id": RUN,
            "first_event_id": next_id,
            "at": self.at,
            "input_partition": self.partition,
            "input_offset": self.taken,
            "previous_hash": self._previous,
        }
        record = ev.EventRecord(workflow_id=ORDER, **given | fields, events=list(events))
        data = EVENTS.encode(record)
        self.history.append(record)
        self._previous = hash_of(data)
        self.put("events", self.partition, data, EVENTS, f"{ORDER}/{record.run_id}/{record.first_event_id}")
        if commit:
            self.commits.append(Commit(self.partition, self.taken + 1, "a"))

    def state(self, **fields: Any) -> None:
        run = fold([each for each in self.history if each.run_id == self.history[-1].run_id])
        state = public_state(run, b"{}")
        self.put(
            "state", self.partition, STATE.encode(msgspec.structs.replace(state, **fields)), STATE, ORDER
        )

    def task(self, token: str, number: int) -> None:
        task = Task(ORDER, RUN, number, 1, token, "charge", "default", b"[]", 60 * SECOND, "key", self.at)
        self.put("tasks.default", 0, TASKS.encode(task), TASKS)
        self.task_offset += 1

    def reply(self, reply: Any) -> None:
        self.put("replies", 0, REPLIES.encode(reply), REPLIES, "kafka:0:x")

    # ---- to spoil it

    def of(self, topic: str) -> list[Found]:
        return [each for each in self.records if each.topic == topic]

    def replace(self, found: Found, **fields: Any) -> None:
        self.records[self.records.index(found)] = replace(found, **fields)

    def again(self, topic: str, number: int) -> None:
        """A record once more, at the end."""
        found = self.of(topic)[number]
        self.records.append(replace(found, offset=next(self._offsets[found.place])))

    def contents(self, **fields: Any) -> Contents:
        places = {place: next(offsets) for place, offsets in self._offsets.items()}
        given: dict[str, Any] = {
            "lows": dict.fromkeys(places, 0),
            "ends": dict(places),
            "stable_ends": dict(places),
            "engine_offsets": {self.commits[-1].partition: self.commits[-1].offset} if self.commits else {},
            "task_offsets": {("tasks.default", 0): self.task_offset},
            "commits": self.commits,
            "read_at_us": self.at + SECOND,
        }
        counts = {
            "commands": PARTITIONS,
            "events": PARTITIONS,
            "state": PARTITIONS,
            "tasks.default": 1,
            "replies": 1,
            "dead-letters": 1,
        }
        return Contents(self.records, counts, **given | fields)

    def check(self, bounds: Bounds | None = None, **fields: Any) -> Verdict:
        return check(self.contents(**fields), self.journal, bounds or Bounds(must_end=True), at_rest=True)


def found(verdict: Verdict, text: str) -> bool:
    return any(text in each.message for each in verdict.violations)


def test_topics_as_they_must_be_pass() -> None:
    verdict = Forge().check()
    assert verdict.is_good, verdict.violations
    assert verdict.counts["runs"] == 1
    assert verdict.counts["events"] == 7
    assert verdict.statuses == {"completed": 1}
    assert verdict.open_runs == []


Spoil = Callable[[Forge], Any]


def missing_record(forge: Forge) -> None:
    forge.records.remove(forge.of("events")[1])


def changed_bytes(forge: Forge) -> None:
    """A record that was edited is well-formed, and its hash is another."""
    first = forge.of("events")[0]
    record = EVENTS.decode(first.value or b"", first.schema)
    started: Any = record.events[0]
    changed = msgspec.structs.replace(
        record, events=[msgspec.structs.replace(started, seed=8), *record.events[1:]]
    )
    forge.replace(first, value=EVENTS.encode(changed))


def after_the_end(forge: Forge) -> None:
    forge.event(ev.SignalReceived("late", b"[]"))


def two_ends(forge: Forge) -> None:
    forge.event(ev.WorkflowTerminated("once more"))


def wrong_partition(forge: Forge) -> None:
    for each in forge.of("events"):
        forge.replace(each, partition=1 - forge.partition)


def wrong_key(forge: Forge) -> None:
    forge.replace(forge.of("events")[1], key=b"order-1/run-1/7")


def completed_twice(forge: Forge) -> None:
    forge.command(cm.CompleteActivity(ORDER, RUN, number=1, token="t1"))
    forge.event(ev.ActivityCompleted(1, b"null"))


def completed_and_failed(forge: Forge) -> None:
    forge.event(ev.ActivityFailed(1, FailureInfo("builtins:ValueError", "no"), 1))


def completed_under_another_token(forge: Forge) -> None:
    report = forge.of("commands")[2]
    forge.replace(report, value=COMMANDS.encode(cm.CompleteActivity(ORDER, RUN, number=1, token="other")))


def completed_by_a_report_of_before(forge: Forge) -> None:
    """The report lies among commands whose offsets were committed by an earlier transaction."""
    signal, report = forge.of("commands")[1:3]
    forge.replace(signal, value=report.value)
    forge.replace(report, value=signal.value)


def signal_twice(forge: Forge) -> None:
    forge.event(ev.SignalReceived("confirm", b"[]", "signal-1"))


def request_in_two_runs(forge: Forge) -> None:
    started = ev.WorkflowStarted("Order", b"[]", 311, 7, "start-1")
    forge.event(started, run_id="run-2", first_event_id=1, previous_hash=b"")


def timer_early(forge: Forge) -> None:
    forge.event(ev.TimerStarted(2, forge.at + 60 * SECOND))
    forge.event(ev.TimerFired(2))


def timer_twice(forge: Forge) -> None:
    forge.event(ev.TimerFired(1))


def time_goes_back(forge: Forge) -> None:
    forge.event(ev.SignalReceived("late", b"[]"), at=AT)


def events_twice(forge: Forge) -> None:
    forge.again("events", 1)


def input_goes_back(forge: Forge) -> None:
    forge.event(ev.CommandIgnored("FireTimer", "late"), input_offset=0)


def input_of_another_partition(forge: Forge) -> None:
    forge.event(ev.CommandIgnored("FireTimer", "late"), input_partition=1 - forge.partition)


def offsets_go_back(forge: Forge) -> None:
    forge.commits += [Commit(forge.partition, 1, "zombie"), Commit(forge.partition, forge.taken + 1, "a")]


def offsets_behind_events(forge: Forge) -> None:
    del forge.commits[-2:]


def offsets_beyond_commands(forge: Forge) -> None:
    forge.commits.append(Commit(forge.partition, 1_000, "a"))


def effect_before_its_cause(forge: Forge) -> None:
    """A signal is recorded by a transaction that ends before the signal's command."""
    forge.event(ev.SignalReceived("more", b"[]", "signal-2"))
    forge.command(cm.SignalWorkflow(ORDER, request_id="signal-2", name="more"))


def state_of_another_status(forge: Forge) -> None:
    forge.state(status="running", closed_at=0, result=b"")


def state_with_another_result(forge: Forge) -> None:
    forge.state(result=b'"other"')


def no_state(forge: Forge) -> None:
    forge.records.remove(forge.of("state")[0])


def state_without_history(forge: Forge) -> None:
    forge.state(workflow_id="order-2", run_id="run-2")


def two_open_runs(forge: Forge) -> None:
    for run_id in ("run-2", "run-3"):
        forge.event(
            ev.WorkflowStarted("Order", b"[]", 311, 7), run_id=run_id, first_event_id=1, previous_hash=b""
        )


def unfoldable(forge: Forge) -> None:
    forge.event(ev.TimerFired(9))


def acknowledged_and_lost(forge: Forge) -> None:
    forge.journal.append(Acknowledged("signal-2", ORDER, RUN))


def acknowledged_in_another_run(forge: Forge) -> None:
    forge.journal.append(Acknowledged("start-1", ORDER, "run-9"))


def answered_and_lost(forge: Forge) -> None:
    forge.reply(Accepted("signal-2", RUN))


def answered_with_no_run(forge: Forge) -> None:
    forge.reply(Accepted("start-2", "run-2", is_new=False))


def taken_without_a_trace(forge: Forge) -> None:
    forge.command(cm.SignalWorkflow(ORDER, request_id="signal-2", reply_to="kafka:0:x", name="more"))
    forge.commits.append(Commit(forge.partition, forge.taken + 1, "a"))


def not_taken(forge: Forge) -> None:
    forge.command(cm.SignalWorkflow(ORDER, request_id="signal-2", name="more"))


def task_not_taken(forge: Forge) -> None:
    forge.task("t9", 9)
    forge.task_offset -= 1


SPOILT: Sequence[tuple[str, Spoil, str]] = [
    ("I1", missing_record, "follows event"),
    ("I1", changed_bytes, "hash chain breaks"),
    ("I1", after_the_end, "after the terminal one"),
    ("I1", two_ends, "2 terminal events"),
    ("I1", wrong_partition, "its workflow id on"),
    ("I1", wrong_key, "has the key"),
    ("I2", completed_twice, "ends twice"),
    ("I2", completed_and_failed, "ends twice"),
    ("I2", completed_under_another_token, "no worker has reported it"),
    ("I2", completed_by_a_report_of_before, "its report lies at [1]"),
    ("I2", signal_twice, "2 times in the history"),
    ("I2", request_in_two_runs, "is in 2 runs"),
    ("I3", timer_early, "fired early"),
    ("I3", timer_twice, "timer 1 ends twice"),
    ("I4", time_goes_back, "`at`"),
    ("I4", events_twice, "a second time"),
    ("I4", input_goes_back, "after one of"),
    ("I4", input_of_another_partition, "its input lies on partition"),
    ("I4", offsets_go_back, "zombie has committed 1"),
    ("I4", offsets_behind_events, "the committed offset is"),
    ("I4", offsets_beyond_commands, "the commands end at"),
    ("I4", effect_before_its_cause, "lies at [3]"),
    ("I6", state_of_another_status, "status is"),
    ("I6", state_with_another_result, "result is"),
    ("I6", no_state, "a history, and no state"),
    ("I6", state_without_history, "has no history"),
    ("I6", two_open_runs, "2 open runs"),
    ("I6", unfoldable, "cannot be folded"),
    ("I8", acknowledged_and_lost, "no history holds it"),
    ("I8", acknowledged_in_another_run, "was acknowledged to a client: it is in"),
    ("I8", answered_and_lost, "answered with yes, and no history holds it"),
    ("I8", answered_with_no_run, "answered with a run that has no history"),
    ("I8", taken_without_a_trace, "left no trace"),
    ("I10", not_taken, "1 records have not been taken"),
    ("I10", task_not_taken, "1 records have not been taken"),
]


@pytest.mark.parametrize(
    ("invariant", "spoil", "said"), SPOILT, ids=[spoil.__name__ for _, spoil, _ in SPOILT]
)
def test_a_violation_is_found_by_its_name(invariant: str, spoil: Spoil, said: str) -> None:
    forge = Forge()
    spoil(forge)
    verdict = forge.check()
    assert any(each.invariant == invariant and said in each.message for each in verdict.violations), (
        verdict.violations
    )
    assert not verdict.is_good
    assert invariant in verdict.broken
    assert verdict.as_json()["broken"][invariant] >= 1


def test_an_open_transaction_is_not_at_rest() -> None:
    forge = Forge()
    ends = forge.contents().ends
    verdict = forge.check(ends=ends, stable_ends={**ends, ("events", forge.partition): 1})
    assert verdict.broken == {"I10"}
    assert found(verdict, "a transaction is open from 1 on")


def test_bytes_that_are_no_record_are_found_but_commands_become_dead_letters() -> None:
    forge = Forge()
    forge.put("commands", forge.partition, b"garbage", COMMANDS)
    forge.commits.append(Commit(forge.partition, forge.taken + 1, "a"))
    assert forge.check().is_good
    forge.put("events", forge.partition, b"garbage", EVENTS)
    assert forge.check().broken == {"record"}


# ---- I9


def test_a_run_that_has_not_ended_says_what_it_waits_for() -> None:
    forge = Forge(is_closed=False)
    verdict = forge.check(Bounds())
    assert verdict.is_good, verdict.violations
    assert [each.why for each in verdict.open_runs] == ["timer 1 fires in 1 s"]
    assert forge.check(Bounds(must_end=True)).broken == {"I9"}


def test_a_timer_that_is_overdue_is_found() -> None:
    forge = Forge(is_closed=False)
    verdict = forge.check(Bounds(), read_at_us=forge.at + 60 * SECOND)
    assert verdict.broken == {"I9"}
    assert found(verdict, "timer 1 was due 58 s ago")


def with_open_activity(*, task: bool = True, taken: bool = True) -> Forge:
    forge = Forge(is_closed=False)
    forge.event(ev.TimerCancelled(1), ev.ActivityScheduled(2, "send", b"[]", ActivityOptions(), "t2"))
    forge.state()
    if task:
        forge.task("t2", 2)
        forge.task_offset -= not taken
    return forge


def test_a_task_that_never_was_written_is_found() -> None:
    assert found(with_open_activity(task=False).check(Bounds()), "has no task in the topic of its queue")


def test_a_task_that_a_worker_lost_is_found() -> None:
    forge = with_open_activity()
    assert forge.check(Bounds()).is_good
    verdict = forge.check(Bounds(), read_at_us=forge.at + 60 * SECOND)
    assert verdict.broken == {"I9"}
    assert found(verdict, "which neither leased nor reported it")


def test_a_task_that_waits_for_a_worker_is_explained() -> None:
    forge = with_open_activity(taken=False)
    verdict = check(forge.contents(read_at_us=forge.at + 600 * SECOND), forge.journal)
    assert verdict.is_good, verdict.violations
    assert "waits for a worker" in verdict.open_runs[0].why


def test_a_lease_that_outlives_the_attempt_is_found() -> None:
    forge = with_open_activity()
    forge.event(ev.ActivityStarted(2, 1, "worker-1"))
    assert forge.check(Bounds(), read_at_us=forge.at + 60 * SECOND).is_good
    assert found(forge.check(Bounds(), read_at_us=forge.at + 120 * SECOND), "runs on worker-1")


def test_a_retry_that_does_not_come_is_found() -> None:
    forge = with_open_activity()
    broken = FailureInfo("builtins:ConnectionError", "no")
    forge.event(ev.ActivityAttemptFailed(2, 1, broken, forge.at + 2 * SECOND, "t3"))
    assert forge.check(Bounds()).is_good
    assert forge.check(Bounds(), read_at_us=forge.at + 60 * SECOND).broken == {"I9"}


def test_a_suspended_run_says_why() -> None:
    forge = Forge(is_closed=False)
    forge.event(ev.WorkflowSuspended("it reads a clock"))
    forge.state()
    verdict = forge.check(Bounds(), read_at_us=forge.at + 600 * SECOND)
    assert verdict.is_good, verdict.violations
    assert verdict.open_runs[0].why == "is suspended: it reads a clock"


# ---- what is no violation


def test_what_was_under_way_at_the_first_look_is_no_violation_at_the_second() -> None:
    forge = Forge()
    first = forge.check()
    forge.command(cm.SignalWorkflow(ORDER, request_id="signal-2", name="more"))
    moving = forge.check()
    assert moving.broken == {"I10"}
    assert moving.confirmed_by(first).is_good
    assert first.confirmed_by(moving).is_good
    assert moving.confirmed_by(moving).broken == {"I10"}


def test_a_refused_or_dead_letter_request_is_traced() -> None:
    forge = Forge()
    forge.command(cm.SignalWorkflow(ORDER, request_id="refused", reply_to="kafka:0:x", name="more"))
    forge.reply(Refused("refused", "closed", "a closed run takes no more messages"))
    offset = forge.command(cm.SignalWorkflow(ORDER, request_id="buried", reply_to="kafka:0:x", name="more"))
    forge.commits.append(Commit(forge.partition, forge.taken + 1, "a"))
    letter = DeadLetter(
        "ns.commands", forge.partition, offset, -1, "oversized", "too large", forge.at, None, b""
    )
    assert forge.check().broken == {"I8"}
    forge.put("dead-letters", 0, DEAD_LETTERS.encode(letter), DEAD_LETTERS)
    assert forge.check().is_good, forge.check().violations


def test_a_repeated_request_counts_once() -> None:
    forge = Forge()
    forge.command(cm.SignalWorkflow(ORDER, request_id="signal-1", reply_to="kafka:0:x", name="confirm"))
    forge.reply(Accepted("signal-1", RUN, is_new=False))
    forge.commits.append(Commit(forge.partition, forge.taken + 1, "a"))
    assert forge.check().is_good, forge.check().violations


def test_a_registrys_frame_is_not_part_of_a_record() -> None:
    forge = Forge()
    for each in forge.of("events")[:2]:
        forge.replace(each, value=frame(7) + (each.value or b""), schema=(each.schema or b"") + FRAMED)
    assert forge.check().is_good, forge.check().violations


def test_a_deleted_run_is_not_reviewed() -> None:
    forge = Forge()
    forge.put("events", forge.partition, None, EVENTS, f"{ORDER}/{RUN}/1")
    verdict = check(forge.contents())
    assert verdict.is_good, verdict.violations
    assert verdict.counts["runs"] == 0
    assert any("deleted" in note for note in verdict.notes)


def test_commands_that_were_deleted_by_age_are_not_missed() -> None:
    forge = Forge()
    for each in forge.of("commands"):
        forge.records.remove(each)
    assert forge.check().broken == {"I2"}
    assert forge.check(lows={("commands", forge.partition): 9}).is_good


# ---- what the coordinator writes down


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def test_committed_offsets_are_read_from_the_coordinators_topic() -> None:
    key = struct.pack(">h", 1) + text("ns.engine") + text("ns.commands") + struct.pack(">i", 3)
    old = struct.pack(">hqi", 3, 42, -1) + text("ns.a") + struct.pack(">q", 0)
    new = struct.pack(">hqi", 4, 43, -1) + b"\x05ns.b" + struct.pack(">q", 0)
    assert commit_of("ns.engine", key, old) == Commit(3, 42, "ns.a")
    assert commit_of("ns.engine", key, new) == Commit(3, 43, "ns.b")
    assert commit_of("other.engine", key, old) is None
    assert commit_of("ns.engine", struct.pack(">h", 2) + text("ns.engine"), b"") is None
    assert commit_of("ns.engine", key, None) is None


@pytest.mark.parametrize(
    ("value", "wanted"), [("", 0), ("a", 97), ("hello", 99162322), ("polygenelubricants", -(1 << 31))]
)
def test_hashes_of_groups_are_javas(value: str, wanted: int) -> None:
    assert java_hash(value) == wanted


def test_decoding_keeps_the_order_of_partitions() -> None:
    forge = Forge()
    forge.records.reverse()
    assert [each.record.first_event_id for each in Decoded(forge.contents()).events] == [1, 3, 4, 6]
