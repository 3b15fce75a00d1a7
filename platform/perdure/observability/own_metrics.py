"""Metrics of your own: those of prometheus_client's default registry, beside perdure's.

They must never cost the endpoint: a collector that raises, hangs, or gives what cannot be encoded
is left out, with one line in the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from perdure.model.described import described
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LIMIT_S: Final = 2.0
"""The time that all collectors may take together, seconds; scrapers wait ten."""
SAMPLES: Final = 100_000
"""The most values; a label with ever new values would make each scrape slower."""
OPENMETRICS: Final = "application/openmetrics-text"
OURS: Final = "perdure_"
PYTHON: Final = frozenset(
    family.name
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)
    for family in collector.collect()
)
"""Served with perdure's own: these are in each default registry."""
_logger: Final = logging.getLogger("perdure.metrics")


class OwnMetrics(Collector):
    """The metrics of a registry of yours, without those that would harm the others.

    Args:
        registry: yours.
        limit_s: how long the collectors may take.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._registry = registry
        self._limit_s = limit_s
        self._collecting: WatchedThread | None = None
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """The families that can be served."""
        families = [each for each in self._collected() if getattr(each, "name", "") not in PYTHON]
        seen = set[str](PYTHON)
        room = SAMPLES
        for family in families:
            if fault := _fault_of(family, seen, room):
                self._warn(fault)
            else:
                seen |= {family.name, *(sample.name for sample in family.samples)}
                room -= len(family.samples)
                yield family

    def _collected(self) -> list[Metric]:
        """The families of all collectors, read in a separate thread: one may hang."""
        found: list[Metric] = []
        with self._lock:
            if self._collecting is not None and self._collecting.is_alive():
                return []
            thread = WatchedThread(self._collect, "perdure-own-metrics", (found,))
            self._collecting = thread
            thread.start()
        thread.join(self._limit_s)
        if thread.is_alive():
            self._warn(f"metrics of yours are left out: a collector takes longer than {self._limit_s:g} s")
            return []
        return found

    def _collect(self, found: list[Metric]) -> None:
        for collector in self._collectors():
            try:
                found += collector.collect()
            except BaseException as error:  # noqa: BLE001 - the author's
                name = type(collector).__name__
                self._warn(f"the metrics of {name} are left out: it raised {described(error)}")

    def _collectors(self) -> Iterable[Any]:
        """Each alone, if the library shows them: `registry.collect` ends with the first failure."""
        known: dict[Any, Any] | None = getattr(self._registry, "_collector_to_names", None)
        return [self._registry] if known is None else list(known)

    def _warn(self, message: str) -> None:
        if message not in self._told and len(self._told) < 100:
            self._told.add(message)
            _logger.warning("%s", message)


def _fault_of(family: Metric, seen: AbstractSet[str], room: int) -> str:
    """Why a family cannot be served; empty: it can."""
    try:
        name = family.name
        names = {name, *(sample.name for sample in family.samples)}
        if any(each.startswith(OURS) for each in names):
            return f"the metric {name} is left out: names that begin with {OURS} are perdure's own"
        if clash := names & seen:
            return f"the metric {name} is left out: another one has the name {min(clash)}"
        if len(family.samples) > room:
            return f"the metric {name} is left out: all together may have {SAMPLES} values"
        labelled = {(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples}
        if len(labelled) < len(family.samples):
            return f"the metric {name} is left out: it has one value twice"
        alone = CollectorRegistry(auto_describe=False)
        alone.register(_Only(family))
        generate_latest(alone)
        choose_encoder(OPENMETRICS)[0](alone)
    except Exception as error:  # noqa: BLE001 - an object of the author's
        return f"a metric of yours is left out, since it cannot be encoded: {described(error)}"
    return ""


class _Only(Collector):
    """Gives one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """The family."""
        yield self._family
