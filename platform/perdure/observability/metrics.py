"""Metrics for Prometheus, made from the counters when they are asked for. docs/howto/observe.md explains each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from perdure import threads
from perdure.errors import InfrastructureError
from perdure.observability.health import is_live, is_ready

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from perdure.adapters.kafka.ingest.ingest import Ingest
    from perdure.adapters.kafka.status import Status
    from perdure.adapters.postgres.progress import Progress
    from perdure.engine.counts import Buckets
    from perdure.engine.processor import Engine
    from perdure.observability.observed import Medium, Observed

SHARE: Final = 100
"""Counting workflows reads an index: it may take a hundredth of the time, the last answer serves meanwhile."""

KAFKA: Final = (
    ("transactions", "Transactions that were committed, claims of partitions included."),
    ("aborted", "Transactions that were not committed, and done again."),
    ("fenced", "Times this engine lost its transactional id and gave its partitions up."),
    ("claimed", "Partitions that were taken over."),
    ("owners_fenced", "Stuck owners of a partition that this engine fenced."),
    ("events_ahead", "Partitions whose events were ahead of the committed offset: a transaction was split."),
    ("dead_letters", "Records that could not be taken and were written to the dead letters."),
    ("rerouted", "Commands that lay on the wrong partition and were put on the right one."),
    ("forwarded", "Commands of this process for partitions of other engines."),
    ("undeliverable", "Replies and tasks that had nowhere to go."),
)

PROJECTOR: Final = (
    ("events", "Events that were written to PostgreSQL."),
    ("states", "States that were written to PostgreSQL."),
    ("transactions", "Transactions with PostgreSQL that were committed."),
    ("unreadable", "Records that could not be decoded and are kept in the table unreadable."),
    ("bare", "Rows whose values PostgreSQL does not take."),
    ("fenced", "Times that another projector had taken a partition."),
    ("deleted", "Workflows that were deleted because their retention had ended."),
)

INGEST: Final = (
    ("records", "Records of other systems that were read."),
    ("commands", "Starts and signals that they led to."),
    ("dead_letters", "Records that meant nothing to a trigger."),
    ("passed_over", "Records for which no trigger's `when` holds."),
)


def registry_of(observed: Observed) -> CollectorRegistry:
    """Everything there is to measure about a process, Python and the operating system included."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Metrics(observed))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Metrics(Collector):
    """Our metrics.

    Args:
        observed: what is looked at.
    """

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._workflows: dict[tuple[str, str], int] = {}
        self._count_again_at = 0.0

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        observed = self._observed
        yield _gauge("perdure_live", "Whether the process's loop goes on.", is_live(observed).is_well)
        yield _gauge("perdure_ready", "Whether the process does its work.", is_ready(observed).is_well)
        yield _gauge("perdure_dead_threads", "Threads and tasks of this process that have died.", len(threads.dead()))
        help_ = "For how long the asyncio loop that is furthest behind has not gone round."
        yield _gauge("perdure_loop_blocked_seconds", help_, max((each.silent_s for each in threads.pulses()), default=0.0))
        if observed.engine is not None:
            yield from _of_engine(observed.engine)
        yield from self._of_attempts()
        if observed.medium is not None:
            yield from self._of_medium(observed.medium)
        if observed.kafka is not None:
            yield from _of_kafka(observed.kafka)
        if observed.projector is not None:
            yield from _of_projector(observed.projector)
        if observed.ingest is not None:
            yield from _of_ingest(observed.ingest)
        if observed.api is not None:
            yield from observed.api.collect()
        if observed.kafka is not None and observed.engine is not None:
            observed.kafka.is_lag_wanted = True  # looked at from now on
            help_ = "Commands in the partitions that are owned which have not been taken."
            yield _by("perdure_kafka_lag_records", help_, "partition", observed.kafka.lag)

    def _of_attempts(self) -> Iterator[Metric]:
        observed = self._observed
        if observed.attempts is not None:
            ended = CounterMetricFamily("perdure_attempts", "Attempts that have ended.", labels=("kind", "outcome"))
            for (kind, outcome), count in sorted(observed.attempts.outcomes.copy().items()):
                ended.add_metric((kind, outcome), count)
            yield ended
        running = {"activity": observed.worker.running} if observed.worker is not None else {}
        if observed.steps is not None:
            running["step"] = observed.steps.running
        if running:
            yield _by("perdure_attempts_running", "Attempts that run now.", "kind", running)
        if observed.worker is not None:
            help_ = "Tasks in this process that wait for a running attempt to end, or for a thread."
            yield _gauge("perdure_tasks_waiting", help_, observed.worker.waiting)
            help_ = "For how long the task has waited in this process that has waited longest."
            yield _gauge("perdure_worker_oldest_waiting_task_seconds", help_, observed.worker.oldest_waiting_s)

    def _of_medium(self, medium: Medium) -> Iterator[Metric]:
        try:
            self._count(medium)
            letters = medium.dead_letters()
        except InfrastructureError:
            return  # health says what is wrong with the database
        family = GaugeMetricFamily(
            "perdure_workflows", "Workflow ids by the last run's type and status.", labels=("type", "status")
        )
        for (type_, status), count in sorted(self._workflows.items()):
            family.add_metric((type_, status), count)
        yield family
        yield _gauge("perdure_dead_letters_open", "Records that could not be taken, neither retried nor dropped yet.", letters)

    def _count(self, medium: Medium) -> None:
        begun = monotonic()
        if begun < self._count_again_at:
            return
        self._workflows = medium.counts()
        ended = monotonic()
        self._count_again_at = ended + SHARE * (ended - begun)


def _of_engine(engine: Engine) -> Iterator[Metric]:
    counts = engine.counts
    batches = CounterMetricFamily("perdure_batches", "Batches by what became of them.", labels=("outcome",))
    batches.add_metric(("committed",), sum(counts.batch_us.counts))
    batches.add_metric(("aborted",), counts.aborted)
    yield batches
    yield _buckets("perdure_batch_commands", "Commands in a committed batch.", counts.batch_commands)
    yield _buckets("perdure_batch_seconds", "From a batch's first command to the end of its commit.", counts.batch_us, 1e6)
    yield _buckets("perdure_transaction_seconds", "The commit of a batch alone.", counts.transaction_us, 1e6)
    yield _buckets("perdure_timer_lateness_seconds", "How much later than asked timers fired.", counts.lateness_us, 1e6)
    yield _kinds("perdure_commands", "Commands that were handled.", counts.commands)
    yield _kinds("perdure_events", "Events that were recorded.", counts.events)
    yield _counter("perdure_tasks_dispatched", "Attempts that were given out.", counts.tasks)
    yield _counter("perdure_poisoned_commands", "Commands that spoilt their batch and became dead letters.", counts.poisoned)
    help_ = "Commands that became dead letters, by reason: poisoned, refused while nobody waited for the answer, or unanswerable."
    letters = CounterMetricFamily("perdure_commands_dead_lettered", help_, labels=("reason",))
    for reason in ("poisoned", "refused", "unanswerable"):
        letters.add_metric((reason,), counts.letters[reason])
    yield letters
    help_ = "How far the engine's time is ahead of this machine's clock; negative while a jump of the clock is not followed."
    yield _gauge("perdure_clock_ahead_seconds", help_, engine.clock_ahead_us / 1e6)
    yield _counter("perdure_replays", "Runs whose code was brought back by replaying its history.", engine.runs.replays)
    yield _gauge("perdure_cached_runs", "Runs in memory.", len(engine.runs))
    yield _gauge(
        "perdure_leased_attempts", "Attempts that have run for two seconds and are heard of by heartbeats.", engine.leased
    )


def _of_kafka(status: Status) -> Iterator[Metric]:
    for name, help_ in KAFKA:
        yield _counter(f"perdure_kafka_{name}", help_, getattr(status.counts, name))
    yield _gauge("perdure_kafka_owned_partitions", "Partitions whose commands this engine handles.", len(status.owned))
    restoring = status.restoring.copy()
    help_ = "Events still to be read before a partition is served."
    yield _by("perdure_kafka_restore_remaining_records", help_, "partition", restoring)


def _of_projector(progress: Progress) -> Iterator[Metric]:
    for name, help_ in PROJECTOR:
        yield _counter(f"perdure_projector_{name}", help_, getattr(progress.counts, name))
    lag = GaugeMetricFamily(
        "perdure_projector_lag_records", "Records of a partition that are not in the tables yet.", labels=("topic", "partition")
    )
    for (topic, partition), records in sorted(progress.lag.copy().items()):
        lag.add_metric((topic, str(partition)), records)
    yield lag


def _of_ingest(ingest: Ingest) -> Iterator[Metric]:
    for name, help_ in INGEST:
        yield _counter(f"perdure_ingest_{name}", help_, getattr(ingest.counts, name))
    lag = GaugeMetricFamily(
        "perdure_ingest_lag_records", "Records of a partition that triggers have not taken yet.", labels=("topic", "partition")
    )
    for (topic, partition), records in sorted(ingest.lag.copy().items()):
        lag.add_metric((topic, str(partition)), records)
    yield lag


def _counter(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_, value=value)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _by(name: str, help_: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((str(key),), value)
    return family


def _kinds(name: str, help_: str, counts: Mapping[type[Any], int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=("kind",))
    named = {kind.__name__: count for kind, count in dict(counts).items()}
    for kind, count in sorted(named.items()):
        family.add_metric((kind,), count)
    return family


def _buckets(name: str, help_: str, buckets: Buckets, divisor: float = 1.0) -> Metric:
    counts = buckets.counts.copy()
    bounds = [*(str(float(bound / divisor)) for bound in buckets.bounds), "+Inf"]
    return HistogramMetricFamily(
        name, help_, buckets=list(zip(bounds, _running(counts), strict=True)), sum_value=buckets.total / divisor
    )


def _running(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total
