"""Alerts and dashboards ask for metrics that exist, and an alert comes with what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from perdure.adapters.kafka.status import Status
from perdure.adapters.postgres.progress import Progress
from perdure.codec.payloads import JsonPayloads
from perdure.observability.metrics import Metrics
from perdure.observability.observed import Observed
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.worker import Worker
from tests.chart.rendered import CHART, EVERYTHING, EXTERNAL, ROOT, render
from tests.unit.observability import test_metrics as measured

ALERTS: list[dict[str, Any]] = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["alerts"]
DASHBOARDS = sorted((CHART / "files/dashboards").glob("*.json"))


def series() -> set[str]:
    """All that a release may show, by the names that expressions use."""
    attempts = Attempts({}, JsonPayloads(), ActivityThreads(1), instances={})
    engine, medium, ingest = measured._Engine().engine, measured._Medium(), measured._Ingest().ingest
    worker = Worker("w", attempts, lambda reports: None)
    everything = Observed(
        engine,
        worker,
        None,
        attempts=attempts,
        medium=medium,
        kafka=Status(),
        projector=Progress(measured.untold),
        ingest=ingest,
    )
    registry = CollectorRegistry()
    registry.register(Metrics(everything))
    found: set[str] = set()
    for family in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        found |= {family.name + suffix for suffix in suffixes}
    return found


def asked_for(expression: str) -> set[str]:
    return set(re.findall(r"\bperdure_\w+", expression))


def test_every_expression_asks_for_what_there_is() -> None:
    known = series()
    for alert in ALERTS:
        assert asked_for(alert["expr"]), alert["alert"]
        assert asked_for(alert["expr"]) <= known, alert["alert"]
    expressions = [
        target["expr"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(expressions) > 20
    for expression in expressions:
        assert asked_for(expression) <= known, expression


def test_every_alert_is_in_the_runbook() -> None:
    text = (ROOT / "docs/howto/kubernetes.md").read_text()
    sections = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert sections == [alert["alert"] for alert in ALERTS]


def test_alerts_are_those_of_the_release() -> None:
    (rule,) = [each for each in render(EVERYTHING, EXTERNAL) if each["kind"] == "PrometheusRule"]
    rules = rule["spec"]["groups"][0]["rules"]
    assert [each["alert"] for each in rules] == [alert["alert"] for alert in ALERTS]
    assert all(
        'release="shop",namespace="prod"' in each["expr"] and "$RELEASE" not in each["expr"] for each in rules
    )
    assert rules[0]["annotations"]["runbook_url"].endswith("#perdurenotready")
