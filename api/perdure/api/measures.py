"""The API's own metrics: requests, refusals, failed sign-ins, connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from perdure.observability.accepting import Acceptor

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of buckets, seconds; the longest wait that a client may ask for is a minute."""
NO_ROUTE: Final = "none"
GONE: Final = "gone"
"""The status of a request whose client went away before the answer began."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Measures(Collector):
    """The metrics of one process; updated on the server's loop, collected from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._acceptors: list[Acceptor] = []
        self._requests = Counter(
            "perdure_api_requests",
            "Requests by route, method and status class.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "perdure_api_request_seconds",
            "Time from a request's headers to the start of its response.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "perdure_api_refusals",
            "Responses with status 400 and above, by status.",
            ("status",),
            registry=self._registry,
        )
        self._sign_ins = Counter(
            "perdure_api_failed_sign_ins",
            "Requests without a credential (missing) or with one that is not valid (invalid).",
            ("reason",),
            registry=self._registry,
        )

    def watch(self, acceptor: Acceptor) -> None:
        """Report the connections of an acceptor, too."""
        self._acceptors.append(acceptor)

    def answered(self, scope: Any, status: int, began_at: float, answered_at: float) -> None:
        """Count a response.

        Args:
            scope: the ASGI scope, with the route that answered.
            status: the HTTP status; 0: the client went away before.
            began_at: when the request began, by `time.monotonic()`.
            answered_at: when the answer began.
        """
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(route, method, f"{status // 100}xx" if status else GONE).inc()
        if status:
            self._seconds.labels(route, method).observe(answered_at - began_at)
        if status >= 400:
            self._refusals.labels(str(status)).inc()

    def sign_in_failed(self, *, is_given: bool) -> None:
        """Count a failed sign-in."""
        self._sign_ins.labels("invalid" if is_given else "missing").inc()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._registry.collect()
        if not self._acceptors:
            return
        open_ = sum(each.open for each in self._acceptors)
        waiting = sum(each.waiting for each in self._acceptors)
        connections = GaugeMetricFamily(
            "perdure_api_connections", "Open connections by state.", labels=("state",)
        )
        connections.add_metric(("waiting",), waiting)
        connections.add_metric(("working",), open_ - waiting)
        yield connections
        ended = CounterMetricFamily(
            "perdure_api_connections_ended",
            "Connections closed or refused by this server.",
            labels=("reason",),
        )
        for reason in ("refused", "gave_way", "timed_out", "too_large"):
            ended.add_metric((reason,), sum(getattr(each.counts, reason) for each in self._acceptors))
        yield ended


def now() -> float:
    """The current time, for `Measures.answered`."""
    return time.monotonic()
