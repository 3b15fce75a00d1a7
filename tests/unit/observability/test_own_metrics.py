"""Metrics of authors on `/metrics`: they are there, and never break it."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from perdure.observability import own_metrics
from perdure.observability.metrics import registry_of
from perdure.observability.observed import Observed
from perdure.observability.own_metrics import OwnMetrics
from perdure.observability.server import ObservabilityServer


class Yields(Collector):
    """A collector of an author."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._make()


def gauge(name: str, *values: float) -> Metric:
    family = GaugeMetricFamily("x", "Of an author.", labels=("which",))
    family.name = name
    for number, value in enumerate(values or (1.0,)):
        family.add_metric((str(number),), value)
    family.samples = [sample._replace(name=name) for sample in family.samples]
    return family


def odd_label() -> Metric:
    family = GaugeMetricFamily("odd", "Of an author.", labels=("which",))
    family.add_metric(("\ud800",), 1.0)
    return family


def odd_value() -> Metric:
    family = GaugeMetricFamily("odd", "Of an author.")
    family.add_metric((), "many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return family


def twice() -> Metric:
    family = GaugeMetricFamily("odd", "Of an author.")
    family.add_metric((), 1.0)
    family.add_metric((), 2.0)
    return family


def hidden() -> Metric:
    family = gauge("harmless")
    family.samples[0] = family.samples[0]._replace(name="perdure_live")
    return family


def raises() -> list[Metric]:
    raise RuntimeError("the shop is closed")


def leaves() -> list[Metric]:
    raise SystemExit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (raises, "the metrics of Yields are left out: it raised RuntimeError: the shop is closed"),
        (leaves, "it raised SystemExit"),
        (lambda: [gauge("perdure_live")], "perdure_live is left out: names that begin with perdure_"),
        (lambda: [gauge("perdure_mine")], "names that begin with perdure_ are perdure's own"),
        (lambda: [hidden()], "harmless is left out: names that begin with perdure_"),
        (lambda: [odd_label()], "cannot be encoded"),
        (lambda: [odd_value()], "cannot be encoded"),
        (lambda: [twice()], "odd is left out: it has one value twice"),
        (lambda: [gauge("one"), gauge("one")], "one is left out: another one has the name one"),
        (lambda: [gauge("many", 1, 2, 3, 4)], "may have 3 values"),
        (lambda: [object()], "cannot be encoded"),
        (lambda: 3, "left out"),
    ],
)
def test_what_would_break_the_endpoint_is_left_out(
    make: Callable[[], Any],
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_metrics, "SAMPLES", 3)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Yields(make))
    Gauge("good", "Is served.", registry=registry).set(5)
    own = OwnMetrics(registry)
    whole = CollectorRegistry(auto_describe=False)
    whole.register(own)
    with caplog.at_level(logging.WARNING, "perdure.metrics"):
        text = generate_latest(whole).decode()
        choose_encoder(own_metrics.OPENMETRICS)[0](whole)
    names = [family.name for family in text_string_to_metric_families(text)]
    assert [each for each in names if each != "one"] == ["good"]
    assert "perdure" not in text.replace("perdure's own", "")
    told = [record.message for record in caplog.records]
    assert len(told) == len(set(told))
    assert any(message in each for each in told)


def test_a_collector_that_hangs_costs_the_limit_once(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    asked: list[int] = []

    def hangs() -> list[Metric]:
        asked.append(1)
        go_on.wait()
        return [gauge("late")]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Yields(hangs))
    own = OwnMetrics(registry, limit_s=0.01)
    with caplog.at_level(logging.WARNING, "perdure.metrics"):
        assert [list(own.collect()) for _ in range(3)] == [[], [], []]
    assert asked == [1]  # the second scrape does not start another one
    assert "takes longer than 0.01 s" in caplog.text
    go_on.set()
    waited = OwnMetrics(registry)
    assert [family.name for family in waited.collect()] == ["late"]


def test_what_the_default_registry_has_is_served_with_perdures_own() -> None:
    ours = registry_of(Observed())
    orders = Counter("shop_orders", "Orders of the shop.", ("city",))
    try:
        orders.labels("Bari").inc(3)
        server = ObservabilityServer(Observed())
        server.start()
        try:
            with urllib.request.urlopen(f"{server.url}/metrics") as answer:
                text = answer.read().decode()
        finally:
            server.stop()
    finally:
        from prometheus_client import REGISTRY

        REGISTRY.unregister(orders)
    assert 'shop_orders_total{city="Bari"} 3.0' in text
    names = [family.name for family in text_string_to_metric_families(text)]
    assert len(names) == len(set(names))
    assert {family.name for family in ours.collect()} <= {*names, "perdure_live"}
    assert text.count("# TYPE python_info ") == 1
