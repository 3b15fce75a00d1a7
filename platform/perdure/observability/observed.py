"""The parts of one process that metrics and health read."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from perdure.adapters.kafka.ingest.ingest import Ingest
    from perdure.adapters.kafka.status import Status
    from perdure.adapters.postgres.progress import Progress
    from perdure.engine.processor import Engine
    from perdure.worker.attempt import Attempts
    from perdure.worker.steps import LocalSteps
    from perdure.worker.worker import Worker


@runtime_checkable
class Medium(Protocol):
    """Public reads of the log and the store, from any thread."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        ...

    def dead_letters(self) -> int:
        """Number of open dead letters."""
        ...


@dataclass(frozen=True, slots=True)
class Observed:
    """The parts of one process; None for parts that it does not have.

    Attributes:
        engine: decides.
        worker: runs activities.
        steps: runs local ones.
        attempts: the attempts of both.
        medium: the embedded log and store.
        kafka: how the Kafka clients are doing.
        projector: how the projector is doing.
        ingest: how the triggers are doing.
        api: the metrics of the HTTP API.
    """

    engine: Engine | None = None
    worker: Worker | None = None
    steps: LocalSteps | None = None
    _: KW_ONLY
    attempts: Attempts | None = None
    medium: Medium | None = None
    kafka: Status | None = None
    projector: Progress | None = None
    ingest: Ingest | None = None
    api: Collector | None = None
