"""Traces go from the client through the engine to the workers, and cost nothing when nobody wants
them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from perdure import activity, tracing, workflow
from perdure.client import Client
from perdure.core.start import started_event
from perdure.embedded import Platform
from perdure.model.commands import StartWorkflow
from perdure.model.events import WorkflowStarted
from perdure.observability import traces
from perdure.registry import Registry

PROVIDER = TracerProvider()
EXPORTER = InMemorySpanExporter()
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))


@activity.defn(name="traced_charge", retry=activity.Retry(first_interval="1ms"))
async def charge() -> str:
    with trace.get_tracer("shop", tracer_provider=PROVIDER).start_as_current_span("ask the bank"):
        if activity.info().attempt == 1:
            raise ConnectionError("the bank is away")
    return "paid"


@activity.defn(name="traced_print")
def print_label() -> str:
    with trace.get_tracer("shop", tracer_provider=PROVIDER).start_as_current_span("ask the printer"):
        return "printed"


@workflow.defn
class TracedOrder:
    def __init__(self) -> None:
        self.is_approved = False

    @workflow.run
    async def process(self) -> str:
        await workflow.wait_until(lambda: self.is_approved)
        return await charge() + await print_label()

    @workflow.signal
    def approve(self) -> None:
        self.is_approved = True


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform(Registry.of([TracedOrder], [charge, print_label]), "memory://") as platform:
        yield platform


@pytest.fixture
def traced() -> Iterator[None]:
    EXPORTER.clear()
    traces.install(PROVIDER)
    yield
    tracing.install(None)


async def order(client: Client) -> WorkflowStarted:
    """One, from its start to its end; its first event."""
    with trace.get_tracer("shop", tracer_provider=PROVIDER).start_as_current_span("checkout"):
        handle = await client.start("order-1", TracedOrder.process)
        await handle.signal(TracedOrder.approve)
    assert await handle.result() == "paidprinted"
    started = (await client.history("order-1"))[0].events[0]
    assert isinstance(started, WorkflowStarted)
    await client.close()
    return started


def spans() -> dict[str, list[ReadableSpan]]:
    """Those that have ended, by name."""
    found: dict[str, list[ReadableSpan]] = {}
    for span in EXPORTER.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def parent_of(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent is not None else 0


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def test_a_trace_goes_from_the_client_through_the_engine_to_the_workers(
    platform: Platform, traced: None
) -> None:
    asyncio.run(order(platform.client()))
    found = spans()
    (checkout,), (start,), (engine,) = (
        found["checkout"],
        found["start TracedOrder"],
        found["workflow TracedOrder"],
    )
    attempts, (printing,) = found["activity traced_charge"], found["activity traced_print"]
    assert parent_of(start) == id_of(checkout)
    assert parent_of(engine) == id_of(start)
    assert [parent_of(attempt) for attempt in attempts] == [id_of(engine)] * 2
    assert parent_of(printing) == id_of(engine)
    assert [parent_of(inner) for inner in found["ask the bank"]] == [id_of(attempt) for attempt in attempts]
    assert parent_of(found["ask the printer"][0]) == id_of(printing)
    (signal,), (handling,) = found["signal approve"], found["handle signal approve"]
    assert parent_of(signal) == id_of(checkout)
    assert parent_of(handling) == id_of(signal)
    assert (
        len({span.context.trace_id for each in found.values() for span in each if span.context is not None})
        == 1
    )
    assert (start.kind, engine.kind, printing.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.CONSUMER)


def test_spans_say_what_they_are_about_and_whether_it_failed(platform: Platform, traced: None) -> None:
    asyncio.run(order(platform.client()))
    first, second = spans()["activity traced_charge"]
    assert first.attributes is not None
    assert first.attributes["perdure.workflow_id"] == "order-1"
    assert first.attributes["perdure.attempt"] == 1
    assert not first.status.is_ok
    assert first.status.description == "builtins:ConnectionError: the bank is away"
    assert second.attributes is not None
    assert second.attributes["perdure.attempt"] == 2
    assert second.status.is_ok


def test_without_tracing_no_trace_is_recorded(platform: Platform) -> None:
    EXPORTER.clear()
    started = asyncio.run(order(platform.client()))
    assert started.trace == ""
    assert set(spans()) == {"checkout", "ask the bank", "ask the printer"}


def test_when_the_client_does_not_trace_the_engine_begins(platform: Platform) -> None:
    EXPORTER.clear()

    async def start() -> None:
        client = platform.client()
        await client.start("order-2", TracedOrder.process)
        traces.install(PROVIDER)
        await client.start("order-3", TracedOrder.process)
        await client.close()

    try:
        asyncio.run(start())
    finally:
        tracing.install(None)
    assert len(spans()["workflow TracedOrder"]) == 1


def test_an_invalid_traceparent_is_dropped() -> None:
    command = StartWorkflow("a", type="T", trace="x" * 56)
    assert started_event(command, 1, 2, 311).trace == ""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert started_event(StartWorkflow("a", type="T", trace=good), 1, 2, 311).trace == good
