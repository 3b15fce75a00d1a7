"""Alive, ready, and why not."""

from __future__ import annotations

from typing import cast

import pytest

from perdure.adapters.kafka.status import Status
from perdure.engine.counts import LoopPhase, Pulse
from perdure.engine.processor import IDLE_S, Engine
from perdure.observability.health import COMMIT_S, HANGS_S, is_live, is_ready
from perdure.observability.observed import Observed


class _Engine:
    def __init__(self, doing: LoopPhase, lasts_s: float = 0.0, limit_s: float = 0.0) -> None:
        self.pulse = Pulse()
        self.pulse.turn(doing, limit_s)
        self.pulse.since_ns -= int(lasts_s * 1e9)


def engine(doing: LoopPhase, lasts_s: float = 0.0, limit_s: float = 0.0) -> Engine:
    return cast("Engine", _Engine(doing, lasts_s, limit_s))


def on_kafka(owned: frozenset[int] = frozenset({1})) -> Status:
    status = Status()
    status.owned = owned
    return status


@pytest.mark.parametrize(
    "doing", [LoopPhase.OPENING, LoopPhase.TAKING, LoopPhase.HANDLING, LoopPhase.COMMITTING]
)
def test_a_loop_that_moves_is_alive(doing: LoopPhase) -> None:
    assert is_live(Observed(engine=engine(doing))).is_well


def test_a_loop_that_waits_for_commands_is_alive() -> None:
    observed = Observed(engine=engine(LoopPhase.TAKING, IDLE_S + 1, IDLE_S))
    assert is_live(observed).is_well
    assert is_ready(observed).is_well


@pytest.mark.parametrize("doing", [LoopPhase.HANDLING, LoopPhase.COMMITTING])
def test_a_loop_that_hangs_is_dead_and_says_in_what(doing: LoopPhase) -> None:
    health = is_live(Observed(engine=engine(doing, HANGS_S + 1)))
    assert health.reasons == (f"the engine's loop hangs: it has been {doing} for 61 s",)


def test_a_take_that_never_returns_is_dead() -> None:
    assert not is_live(Observed(engine=engine(LoopPhase.TAKING, IDLE_S + HANGS_S + 1, IDLE_S))).is_well


def test_a_broker_that_is_down_for_ten_minutes_is_no_reason_to_restart() -> None:
    status = on_kafka()
    status.waits("a transaction to be committed")
    observed = Observed(engine=engine(LoopPhase.COMMITTING, 600), kafka=status)
    assert is_live(observed).is_well
    assert is_ready(observed).reasons == (
        "a batch is being committed, for 600.0 s",
        "waiting for the broker: a transaction to be committed",
    )


def test_an_engine_that_is_not_open_yet_is_not_ready() -> None:
    assert is_ready(Observed(engine=engine(LoopPhase.CLOSED))).reasons == ("the engine is not open",)
    assert is_ready(Observed(engine=engine(LoopPhase.OPENING, 2))).reasons == (
        "the engine is opening its log, for 2.0 s",
    )


def test_a_slow_commit_is_reported() -> None:
    assert is_ready(Observed(engine=engine(LoopPhase.COMMITTING, COMMIT_S / 2))).is_well
    assert is_ready(Observed(engine=engine(LoopPhase.COMMITTING, COMMIT_S * 2))).reasons == (
        "a batch is being committed, for 2.0 s",
    )


def test_the_reason_of_the_last_aborted_batch_is_reported() -> None:
    one = engine(LoopPhase.TAKING)
    one.pulse.trouble = "no space left"
    assert is_ready(Observed(engine=one)).reasons == ("no space left",)


def test_a_restore_of_a_partition_reports_its_progress() -> None:
    status = on_kafka()
    status.restoring = {4: 900}
    assert is_ready(Observed(engine=engine(LoopPhase.TAKING), kafka=status)).reasons == (
        "partition 4 is being restored, 900 events to go",
    )


def test_an_engine_without_partitions_is_not_ready() -> None:
    assert is_ready(Observed(engine=engine(LoopPhase.TAKING), kafka=on_kafka(frozenset()))).reasons == (
        "no partition is assigned to this engine",
    )


def test_a_worker_needs_no_partition_of_commands() -> None:
    assert is_ready(Observed(kafka=on_kafka(frozenset()))).is_well


def test_a_worker_that_has_not_joined_its_queues_is_not_ready() -> None:
    status = on_kafka(frozenset())
    status.joining = {"gpu", "default"}
    status.trouble = "Connect failed"
    assert is_ready(Observed(kafka=status)).reasons == (
        "waiting for the broker: the workers of default, gpu have not admitted this one yet (Connect failed)",
    )
    assert is_live(Observed(kafka=status)).is_well
