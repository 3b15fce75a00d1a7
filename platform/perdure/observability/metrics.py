"""Metrics for Prometheus, made from the counters when they are asked for. docs/howto/observe.md
explains each.
"""

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
from perdure.observability.own_metrics import OwnMetrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from perdure.adapters.kafka.ingest.ingest import Ingest
    from perdure.adapters.kafka.status import Status
    from perdure.adapters.postgres.progress import Progress
    from perdure.engine.counts import Buckets
    from perdure.engine.processor import Engine
    from perdure.observability.observed import Medium, Observed

SHARE: Final = 100
"""Share of the time that counting workflows may take (one hundredth); between counts, the last
result is served.
"""

KAFKA: Final = (
    ("transactions", "Committed transactions, including claims of partitions."),
    ("aborted", "Transactions that were aborted and retried."),
    ("fenced", "Times this engine was fenced and released its partitions."),
    ("claimed", "Partitions taken over."),
    ("owners_fenced", "Stuck partition owners fenced by this engine."),
    ("events_ahead", "Partitions whose events were ahead of the committed offset: split transactions."),
    ("dead_letters", "Records that could not be processed and became dead letters."),
    ("rerouted", "Commands moved from a wrong partition to the right one."),
    ("forwarded", "Commands submitted by this process for partitions of other engines."),
    ("undeliverable", "Replies and tasks dropped for lack of a destination topic."),
)

PROJECTOR: Final = (
    ("events", "Events written to PostgreSQL."),
    ("states", "States written to PostgreSQL."),
    ("transactions", "Committed PostgreSQL transactions."),
    ("unreadable", "Records that could not be decoded, stored in the table unreadable."),
    ("rows_without_values", "Rows stored without values that PostgreSQL cannot represent."),
    ("fenced", "Times that another projector took over a partition."),
    ("deleted", "Workflows deleted at the end of their retention."),
)

INGEST: Final = (
    ("records", "Records read from topics of other systems."),
    ("commands", "Starts and signals caused by these records."),
    ("dead_letters", "Records that no trigger could decode, written to the dead letters."),
    ("skipped", "Records skipped because no trigger's `when` matched."),
)


def registry_of(observed: Observed) -> CollectorRegistry:
    """Everything there is to measure about a process, Python and the operating system included, and
    what its code measures itself.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Metrics(observed))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(OwnMetrics())
    return registry


class Metrics(Collector):
    """Our metrics.

    Args:
        observed: the observed parts of the process.
    """

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._workflows: dict[tuple[str, str], int] = {}
        self._count_again_at = 0.0

    def collect(self) -> Iterator[Metric]:
        """All metrics, with their current values."""
        observed = self._observed
        yield _gauge(
            "perdure_live", "Whether the process's loop is making progress.", is_live(observed).is_well
        )
        yield _gauge("perdure_ready", "Whether the process is ready for work.", is_ready(observed).is_well)
        yield _gauge(
            "perdure_dead_threads", "Threads and tasks of this process that died.", len(threads.dead())
        )
        help_ = "Seconds since the last iteration of the slowest asyncio loop."
        yield _gauge(
            "perdure_loop_blocked_seconds",
            help_,
            max((each.silent_s for each in threads.pulses()), default=0.0),
        )
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
            help_ = "Unprocessed commands in owned partitions."
            yield _by("perdure_kafka_lag_records", help_, "partition", observed.kafka.lag)

    def _of_attempts(self) -> Iterator[Metric]:
        observed = self._observed
        if observed.attempts is not None:
            ended = CounterMetricFamily("perdure_attempts", "Finished attempts.", labels=("kind", "outcome"))
            for (kind, outcome), count in sorted(observed.attempts.outcomes.copy().items()):
                ended.add_metric((kind, outcome), count)
            yield ended
        running = {"activity": observed.worker.running} if observed.worker is not None else {}
        if observed.steps is not None:
            running["step"] = observed.steps.running
        if running:
            yield _by("perdure_attempts_running", "Running attempts.", "kind", running)
        if observed.worker is not None:
            help_ = "Tasks in this process waiting for a slot or a thread."
            yield _gauge("perdure_tasks_waiting", help_, observed.worker.waiting)
            help_ = "Waiting time of the oldest waiting task in this process."
            yield _gauge(
                "perdure_worker_oldest_waiting_task_seconds", help_, observed.worker.oldest_waiting_s
            )

    def _of_medium(self, medium: Medium) -> Iterator[Metric]:
        try:
            self._count(medium)
            letters = medium.dead_letters()
        except InfrastructureError:
            return  # health says what is wrong with the database
        family = GaugeMetricFamily(
            "perdure_workflows", "Workflows by type and status of the last run.", labels=("type", "status")
        )
        for (type_, status), count in sorted(self._workflows.items()):
            family.add_metric((type_, status), count)
        yield family
        yield _gauge(
            "perdure_dead_letters_open", "Open dead letters: neither retried nor dropped yet.", letters
        )

    def _count(self, medium: Medium) -> None:
        begun = monotonic()
        if begun < self._count_again_at:
            return
        self._workflows = medium.counts()
        ended = monotonic()
        self._count_again_at = ended + SHARE * (ended - begun)


def _of_engine(engine: Engine) -> Iterator[Metric]:
    counts = engine.counts
    batches = CounterMetricFamily("perdure_batches", "Batches by outcome.", labels=("outcome",))
    batches.add_metric(("committed",), sum(counts.batch_us.counts))
    batches.add_metric(("aborted",), counts.aborted)
    yield batches
    yield _buckets("perdure_batch_commands", "Commands per committed batch.", counts.batch_commands)
    yield _buckets(
        "perdure_batch_seconds",
        "Time from a batch's first command to the end of its commit.",
        counts.batch_us,
        1e6,
    )
    yield _buckets("perdure_transaction_seconds", "Time to commit a batch.", counts.transaction_us, 1e6)
    yield _buckets(
        "perdure_timer_lateness_seconds",
        "Delay of timers: time fired minus time due.",
        counts.lateness_us,
        1e6,
    )
    yield _kinds("perdure_commands", "Commands handled.", counts.commands)
    yield _kinds("perdure_events", "Events recorded.", counts.events)
    yield _counter("perdure_tasks_dispatched", "Attempts dispatched.", counts.tasks)
    yield _counter(
        "perdure_poisoned_commands",
        "Commands that failed their batch and became dead letters.",
        counts.poisoned,
    )
    help_ = (
        "Commands that became dead letters, by reason: poisoned, refused while nobody waited for the "
        "answer, or unanswerable."
    )
    letters = CounterMetricFamily("perdure_commands_dead_lettered", help_, labels=("reason",))
    for reason in ("poisoned", "refused", "unanswerable"):
        letters.add_metric((reason,), counts.letters[reason])
    yield letters
    yield _counter("perdure_removed_runs", "Closed runs that were removed.", counts.removed)
    yield _gauge(
        "perdure_oldest_due_removal_seconds",
        "How long the closed run is due for removal that is due the longest.",
        counts.oldest_due_us / 1e6,
    )
    help_ = "Engine time minus this machine's clock; negative while the engine does not follow a clock jump."
    yield _gauge("perdure_clock_ahead_seconds", help_, engine.clock_ahead_us / 1e6)
    yield _counter("perdure_replays", "Runs restored by replaying their history.", engine.runs.replays)
    yield _gauge("perdure_cached_runs", "Runs in memory.", len(engine.runs))
    yield _gauge(
        "perdure_leased_attempts",
        "Attempts running for over two seconds, tracked by heartbeats.",
        engine.leased,
    )


def _of_kafka(status: Status) -> Iterator[Metric]:
    for name, help_ in KAFKA:
        yield _counter(f"perdure_kafka_{name}", help_, getattr(status.counts, name))
    yield _gauge("perdure_kafka_owned_partitions", "Partitions owned by this engine.", len(status.owned))
    restoring = status.restoring.copy()
    help_ = "Events left to read before a partition is served."
    yield _by("perdure_kafka_restore_remaining_records", help_, "partition", restoring)


def _of_projector(progress: Progress) -> Iterator[Metric]:
    for name, help_ in PROJECTOR:
        yield _counter(f"perdure_projector_{name}", help_, getattr(progress.counts, name))
    lag = GaugeMetricFamily(
        "perdure_projector_lag_records",
        "Records of a partition not yet in the tables.",
        labels=("topic", "partition"),
    )
    for (topic, partition), records in sorted(progress.lag.copy().items()):
        lag.add_metric((topic, str(partition)), records)
    yield lag


def _of_ingest(ingest: Ingest) -> Iterator[Metric]:
    for name, help_ in INGEST:
        yield _counter(f"perdure_ingest_{name}", help_, getattr(ingest.counts, name))
    lag = GaugeMetricFamily(
        "perdure_ingest_lag_records",
        "Records of a partition not yet processed by triggers.",
        labels=("topic", "partition"),
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
        name,
        help_,
        buckets=list(zip(bounds, _running(counts), strict=True)),
        sum_value=buckets.total / divisor,
    )


def _running(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total
