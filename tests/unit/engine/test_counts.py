"""The engine's counters."""

from __future__ import annotations

import pytest

from perdure.engine import counts as module
from perdure.engine.counts import Buckets, Counts, LoopPhase, Pulse
from perdure.engine.ports import Batch
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.tasks import Task


def test_a_value_is_counted_in_the_bucket_whose_bound_it_does_not_pass() -> None:
    buckets = Buckets((1, 10))
    for value in (0, 1, 2, 10, 11, 500):
        buckets.add(value)
    assert (buckets.counts, buckets.total) == ([2, 2, 2], 524)


def test_a_committed_batch_is_counted_with_its_events_tasks_and_times() -> None:
    batch = Batch()
    events: list[ev.AnyEvent] = [ev.WorkflowBegun(), ev.TimerFired(1), ev.TimerFired(2)]
    batch.events = [(ev.EventRecord("w", "run-1", 2, 1, -1, -1, b"", events), b"")]
    batch.tasks["run-1", 1] = Task("w", "run-1", 1, 1, "t", "charge", "default", b"[]", 1, "key", 0)
    counts = Counts()
    counts.took([cm.ResumeWorkflow("w"), cm.ResumeWorkflow("w")])
    counts.committed(batch, 2, 4_000, 3_000)
    assert counts.commands == {cm.ResumeWorkflow: 2}
    assert counts.events == {ev.WorkflowBegun: 1, ev.TimerFired: 2}
    assert counts.tasks == 1
    assert (counts.batch_commands.total, counts.batch_us.total, counts.transaction_us.total) == (
        2,
        7_000,
        3_000,
    )


def test_a_pulse_says_what_the_loop_does_since_when_and_for_how_long_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = [5_000_000]
    monkeypatch.setattr(module, "monotonic_ns", lambda: now_ns[0])
    pulse = Pulse()
    assert (pulse.doing, pulse.since_ns) == (LoopPhase.CLOSED, 5_000_000)
    pulse.turn(LoopPhase.TAKING, 60.0)
    now_ns[0] += 7_000
    assert (pulse.doing, pulse.limit_s) == (LoopPhase.TAKING, 60.0)
    assert pulse.turn(LoopPhase.HANDLING) == 7
    assert (pulse.doing, pulse.limit_s, pulse.since_ns) == (LoopPhase.HANDLING, 0.0, 5_007_000)
