"""Traces through client, engine and workers, by OpenTelemetry; needs the extra `otel`.

from perdure.observability import traces
traces.install()    # in a client of yours: spans go to your program's provider
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from perdure import tracing
from perdure.errors import UsageError
from perdure.model.traceparent import traceparent

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

_NEEDED: Final = "traces need OpenTelemetry: pip install 'perdure[otel]'"


def install(provider: TracerProvider | None = None) -> None:
    """Trace in this process from now on.

    Args:
        provider: where spans go; OpenTelemetry's global one by default.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.trace import get_tracer
    except ModuleNotFoundError:
        raise UsageError(_NEEDED) from None
    tracing.install(_Tracer(get_tracer("perdure", tracer_provider=provider)))


def export(service: str) -> None:
    """Trace, and send spans by OTLP over HTTP, as OpenTelemetry's own variables say
    (OTEL_EXPORTER_OTLP_ENDPOINT, …).

    Args:
        service: the name of the process, unless OTEL_SERVICE_NAME has one.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        otlp: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError:
        raise UsageError(_NEEDED) from None
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(otlp.OTLPSpanExporter()))
    install(provider)


class _Span:
    """`tracing.Span`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def trace(self) -> str:
        """As the header `traceparent` has it."""
        context = self._span.get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def failed(self, reason: str) -> None:
        """Mark the span as failed."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, reason))


class _Tracer:
    """`tracing.Tracer`."""

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {
            "client": SpanKind.CLIENT,
            "internal": SpanKind.INTERNAL,
            "consumer": SpanKind.CONSUMER,
        }

    @contextmanager
    def span(
        self, name: str, kind: tracing.Kind, attributes: Mapping[str, str | int], parent: str = ""
    ) -> Generator[tracing.Span]:
        """A span around a block."""
        context: Any = self._propagator.extract({"traceparent": parent}) if traceparent(parent) else None
        named = {f"perdure.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(name, context, self._kinds[kind], named) as span:
            yield _Span(span)
