"""Liveness and readiness of the process, with the reasons.

Alive means that the loop makes progress; if it does not, a restart may help. A broker or a database
that does not answer is no reason for a restart: the process is then alive but not ready, and says
why.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Final

from perdure import threads
from perdure.engine.counts import LoopPhase

if TYPE_CHECKING:
    from perdure.adapters.kafka.status import Status
    from perdure.engine.counts import Pulse
    from perdure.observability.observed import Observed
    from perdure.worker.worker import Worker

HANGS_S: Final = 60.0
"""A batch that has been handled for this long will not end. Code that blocks is interrupted after
two seconds a run."""
PROJECTOR_HANGS_S: Final = 180.0
"""A transaction with PostgreSQL is given up long before: no connection, or none that answers, for
30 s."""
STARVES_S: Final = 60.0
"""If tasks wait and none has begun for this long, the worker is stuck, or far too small."""
COMMIT_S: Final = 1.0
"""A commit that takes longer makes the process not ready."""


@dataclass(frozen=True, slots=True)
class Health:
    """Result of a health check.

    Attributes:
        reasons: the problems, as text; empty if there are none.
    """

    reasons: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether there are no reasons."""
        return not self.reasons


def is_live(observed: Observed) -> Health:
    """Whether every thread and loop is making progress."""
    return Health((*threads.dead(), *_hung_loops(), *_of_main_loop(observed).reasons))


def _hung_loops() -> list[str]:
    return [
        f"the loop of {pulse.name} hangs: no iteration for {pulse.silent_s:.0f} s{_because(pulse)}"
        for pulse in threads.pulses()
        if pulse.silent_s > HANGS_S
    ]


def _because(pulse: threads.Pulse) -> str:
    return f" ({pulse.trouble})" if pulse.trouble else ""


def _of_main_loop(observed: Observed) -> Health:
    if observed.projector is not None and 0 < observed.projector.pulse < monotonic() - PROJECTOR_HANGS_S:
        return Health(
            (f"the projector's loop hangs: no iteration for {monotonic() - observed.projector.pulse:.0f} s",)
        )
    if observed.engine is None:
        return Health()
    pulse = observed.engine.pulse
    doing, lasts_s = _lasts(pulse)
    waits = observed.kafka.waiting_for if observed.kafka is not None else ""
    if waits or doing in {LoopPhase.OPENING, LoopPhase.CLOSED} or lasts_s < HANGS_S + pulse.limit_s:
        return Health()
    return Health((f"the engine's loop hangs: it has been {doing} for {lasts_s:.0f} s",))


def is_ready(observed: Observed) -> Health:
    """Whether the process is ready for work."""
    reasons: list[str] = []
    if observed.engine is not None:
        reasons += _of_pulse(observed.engine.pulse)
    if observed.kafka is not None:
        reasons += _of_kafka(observed.kafka, has_engine=observed.engine is not None)
    if observed.projector is not None and (waits := observed.projector.waiting_for):
        reasons.append(waits if not observed.projector.trouble else f"{waits} ({observed.projector.trouble})")
    reasons += [pulse.trouble for pulse in threads.pulses() if pulse.trouble and pulse.silent_s <= HANGS_S]
    if observed.worker is not None:
        reasons += _of_worker(observed.worker)
    return Health((*is_live(observed).reasons, *reasons))


def _of_worker(worker: Worker) -> list[str]:
    waits_s = min(worker.oldest_waiting_s, worker.since_last_begin_s)
    if waits_s < STARVES_S:
        return []
    waiting, running = worker.waiting, worker.running
    return [
        (
            f"{waiting} tasks are waiting and none has started for {waits_s:.0f} s: {running} running "
            f"attempts "
            "occupy all slots or threads"
        )
    ]


def _of_pulse(pulse: Pulse) -> list[str]:
    doing, lasts_s = _lasts(pulse)
    if doing is LoopPhase.CLOSED:
        return ["the engine is not open"]
    if doing is LoopPhase.OPENING:
        return [f"the engine is opening its log, for {lasts_s:.1f} s"]
    if pulse.trouble:
        return [pulse.trouble]
    if doing is LoopPhase.COMMITTING and lasts_s > COMMIT_S:
        return [f"a batch is being committed, for {lasts_s:.1f} s"]
    return []


def _of_kafka(status: Status, *, has_engine: bool) -> list[str]:
    reasons: list[str] = []
    if waits := status.waiting_for:
        reasons.append(f"waiting for the broker: {waits}")
    restoring = status.restoring.copy()
    for partition, left in sorted(restoring.items()):
        reasons.append(f"partition {partition} is being restored, {left} events to go")
    trouble = f" ({status.trouble})" if status.trouble else ""
    if joining := status.joining.copy():
        reasons.append(
            f"waiting for the broker: the workers of {', '.join(sorted(joining))} have not admitted this "
            f"one yet{trouble}"
        )
    if has_engine and not (reasons or status.owned):
        reasons.append(f"no partition is assigned to this engine{trouble}")
    return reasons


def _lasts(pulse: Pulse) -> tuple[LoopPhase, float]:
    doing, since_ns = pulse.doing, pulse.since_ns
    return doing, (monotonic_ns() - since_ns) / 1e9
