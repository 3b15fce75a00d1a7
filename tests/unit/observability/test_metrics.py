"""Counters as Prometheus reads them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from perdure.adapters.kafka.ingest.ingest import Ingest, IngestCounts
from perdure.adapters.kafka.status import Status
from perdure.adapters.postgres.progress import Progress
from perdure.api.measures import Measures
from perdure.codec.payloads import JsonPayloads
from perdure.engine.counts import Buckets, Counts, LoopPhase, Pulse
from perdure.engine.ports import Batch
from perdure.engine.processor import Engine
from perdure.errors import InfrastructureError
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.observability.accepting import Acceptor, ConnectionLimits
from perdure.observability.metrics import SHARE, Metrics
from perdure.observability.observed import Observed
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.worker import Worker

HOUSE = Path(__file__).parents[3]


class _Engine:
    """The attributes that the metrics read."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.pulse = Pulse()
        self.pulse.turn(LoopPhase.TAKING, 60.0)
        self.runs = _Runs()
        self.leased = 2
        self.clock_ahead_us = 0

    @property
    def engine(self) -> Engine:
        return cast("Engine", self)


class _Ingest:
    """The attributes that the metrics read."""

    def __init__(self) -> None:
        self.counts = IngestCounts(records=9, commands=6, dead_letters=2, skipped=1)
        self.lag = {("shop.orders", 2): 5}

    @property
    def ingest(self) -> Ingest:
        return cast("Ingest", self)


class _Runs:
    replays = 7

    def __len__(self) -> int:
        return 3


class _Medium:
    def __init__(self) -> None:
        self.asked = 0
        self.is_broken = False

    def counts(self) -> dict[tuple[str, str], int]:
        self.asked += 1
        if self.is_broken:
            raise InfrastructureError("the database is damaged")
        return {("Order", "running"): 4}

    def dead_letters(self) -> int:
        return 1


def families_of(observed: Observed) -> set[str]:
    return {
        family.name + ("_total" if family.type == "counter" else "") for family in Metrics(observed).collect()
    }


def scraped(observed: Observed) -> dict[str, float]:
    """Every sample by its name and labels, as a Prometheus server would have it."""
    registry = CollectorRegistry()
    registry.register(Metrics(observed))
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_a_value_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    buckets = Buckets((1, 10))
    for value in (0, 1, 2, 10, 11, 500):
        buckets.add(value)
    assert buckets.counts == [2, 2, 2]
    assert buckets.total == 524


def test_batches_commands_and_events_are_counted() -> None:
    one = _Engine()
    commands = [
        cm.StartWorkflow("a", type="Order"),
        cm.StartWorkflow("b", type="Order"),
        cm.BeginWorkflow("c"),
    ]
    record = ev.EventRecord(
        "a", "r", 1, 0, -1, -1, b"", [ev.WorkflowStarted("Order", b"[]", 311, 1), ev.WorkflowBegun()]
    )
    one.counts.took(commands)
    one.counts.committed(Batch(events=[(record, b"")]), len(commands), 700, 4_000)
    one.counts.aborted += 4
    samples = scraped(Observed(engine=one.engine))
    assert samples["perdure_commands_total{kind=StartWorkflow}"] == 2
    assert samples["perdure_commands_total{kind=BeginWorkflow}"] == 1
    assert samples["perdure_events_total{kind=WorkflowStarted}"] == 1
    assert samples["perdure_events_total{kind=WorkflowBegun}"] == 1
    assert samples["perdure_batches_total{outcome=committed}"] == 1
    assert samples["perdure_batches_total{outcome=aborted}"] == 4
    assert samples["perdure_batch_commands_bucket{le=3.0}"] == 1
    assert samples["perdure_batch_commands_bucket{le=1.0}"] == 0
    assert samples["perdure_batch_commands_sum"] == 3
    assert samples["perdure_transaction_seconds_bucket{le=0.003}"] == 0
    assert samples["perdure_transaction_seconds_bucket{le=0.01}"] == 1
    assert samples["perdure_batch_seconds_sum"] == 0.0047
    assert samples["perdure_batch_seconds_count"] == 1
    assert samples["perdure_replays_total"] == 7
    assert samples["perdure_cached_runs"] == 3
    assert samples["perdure_leased_attempts"] == 2


def test_buckets_are_cumulative_and_end_with_all() -> None:
    one = _Engine()
    for late_us in (200, 2_000, 2_000_000, 90_000_000):
        one.counts.lateness_us.add(late_us)
    samples = scraped(Observed(engine=one.engine))
    name = "perdure_timer_lateness_seconds_bucket"
    assert [samples[f"{name}{{le={le}}}"] for le in ("0.001", "0.003", "1.0", "5.0", "+Inf")] == [
        1,
        2,
        2,
        3,
        4,
    ]


def test_workflows_are_not_counted_more_often_than_it_costs() -> None:
    medium = _Medium()
    registry = CollectorRegistry()
    metrics = Metrics(Observed(medium=medium))
    registry.register(metrics)
    metrics._count_again_at = float("inf")
    before = medium.asked
    generate_latest(registry)
    assert medium.asked == before
    metrics._count_again_at = 0.0
    assert b'perdure_workflows{status="running",type="Order"} 4.0' in generate_latest(registry)
    assert medium.asked == before + 1


def test_what_took_long_to_count_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    medium, now = _Medium(), 100.0
    registry = CollectorRegistry()
    metrics = Metrics(Observed(medium=medium))
    registry.register(metrics)
    medium.asked = 0
    metrics._count_again_at = 0.0

    def pass_by() -> float:
        nonlocal now
        now += 1.0  # so that a count takes one second
        return now

    monkeypatch.setattr("perdure.observability.metrics.monotonic", pass_by)
    generate_latest(registry)
    assert medium.asked == 1
    now += SHARE - 2
    generate_latest(registry)
    assert medium.asked == 1, "a share of the time at most"
    now += 2
    generate_latest(registry)
    assert medium.asked == 2


def test_the_projector_is_measured_by_topic_and_partition() -> None:
    progress = Progress(untold)
    progress.lag = {("events", 3): 9, ("state", 0): 0}
    samples = scraped(Observed(projector=progress))
    assert samples["perdure_projector_lag_records{partition=3,topic=events}"] == 9
    assert samples["perdure_projector_lag_records{partition=0,topic=state}"] == 0


def test_a_broken_database_leaves_the_other_metrics() -> None:
    one, medium = _Engine(), _Medium()
    medium.is_broken = True
    samples = scraped(Observed(engine=one.engine, medium=medium))
    assert "perdure_dead_letters_open" not in samples
    assert samples["perdure_live"] == 1


def test_kafka_is_measured_by_partition() -> None:
    status = Status()
    status.owned = frozenset({0, 3})
    status.restoring = {5: 1200}
    status.counts.fenced = 2
    status.lag = {0: 12, 3: 0}
    samples = scraped(Observed(engine=_Engine().engine, kafka=status))
    assert status.is_lag_wanted
    assert samples["perdure_kafka_owned_partitions"] == 2
    assert samples["perdure_kafka_restore_remaining_records{partition=5}"] == 1200
    assert samples["perdure_kafka_fenced_total"] == 2
    assert samples["perdure_kafka_lag_records{partition=0}"] == 12
    assert samples["perdure_ready"] == 0


def test_triggers_are_measured_by_topic_and_partition() -> None:
    samples = scraped(Observed(ingest=_Ingest().ingest))
    assert samples["perdure_ingest_records_total"] == 9
    assert samples["perdure_ingest_dead_letters_total"] == 2
    assert samples["perdure_ingest_skipped_total"] == 1
    assert samples["perdure_ingest_lag_records{partition=2,topic=shop.orders}"] == 5


def untold(message: str, /, **where: str | int) -> None: ...


def test_every_metric_is_explained_and_nothing_else() -> None:
    explained = set(re.findall(r"`(perdure_\w+)`", (HOUSE / "docs" / "howto" / "observe.md").read_text()))
    attempts = Attempts({}, JsonPayloads(), ActivityThreads(1), instances={})
    worker = Worker("w", attempts, lambda reports: None)
    api = Measures()
    with socket.socket() as listener:
        api.watch(Acceptor(listener, ConnectionLimits()))
    observed = Observed(
        _Engine().engine,
        worker,
        None,
        attempts=attempts,
        medium=_Medium(),
        kafka=Status(),
        projector=Progress(untold),
        ingest=_Ingest().ingest,
        api=api,
    )
    assert families_of(observed) == explained
