"""Traces: an interceptor that makes spans, in place when `perdure.observability.traces.install`
installed it.

A trace goes from the client through the engine to the workers as text (`perdure.model.traceparent`)
in the field `trace` of StartWorkflow, SignalWorkflow, WorkflowStarted and Task: in the record, so
that it is there after a crash and in a month.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec.structs import replace

from perdure import interceptor
from perdure.interceptor import Interceptor
from perdure.model.commands import FailActivity, SignalWorkflow, StartWorkflow

if TYPE_CHECKING:
    from perdure.model.commands import AnyCommand, AttemptReport, Request
    from perdure.model.replies import AnyReply
    from perdure.model.tasks import Task

Kind = Literal["client", "internal", "consumer"]


class Span(Protocol):
    """Something that is being done."""

    @property
    def trace(self) -> str:
        """Its traceparent, for the next process; empty when it is not recorded."""
        ...

    def failed(self, reason: str) -> None:
        """Mark it as failed."""


class Tracer(Protocol):
    """Makes spans."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, str | int], parent: str = ""
    ) -> AbstractContextManager[Span]:
        """A span around a block, the current one within it.

        Args:
            name: of what is done.
            kind: as OpenTelemetry has them.
            attributes: what it is about.
            parent: its traceparent; empty: the span that is current.
        """
        ...


class Tracing(Interceptor):
    """Makes a span of each start and signal, in the client and in the engine, and of each attempt.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def request(self, command: Request, send: Callable[[Request], Awaitable[AnyReply]]) -> AnyReply:
        """Attach the effects of a start or a signal to the span that is current where it is
        sent.
        """
        match command:
            case StartWorkflow(signal_name=""):
                name = f"start {command.type}"
            case StartWorkflow(signal_name=signal) | SignalWorkflow(name=signal):
                name = f"signal {signal}"
            case _:
                return await send(command)
        with self._tracer.span(name, "client", {"workflow_id": command.workflow_id}) as span:
            return await send(replace(command, trace=span.trace))

    def handle(self, command: AnyCommand, handle: Callable[[AnyCommand], None]) -> None:
        """Attach the effects of a start, now and later, to the span created here."""
        match command:
            case StartWorkflow():
                about = {"workflow_id": command.workflow_id, "workflow_type": command.type}
                with self._tracer.span(f"workflow {command.type}", "internal", about, command.trace) as span:
                    handle(replace(command, trace=span.trace))
            case SignalWorkflow():
                about = {"workflow_id": command.workflow_id, "signal": command.name}
                with self._tracer.span(f"handle signal {command.name}", "internal", about, command.trace):
                    handle(command)
            case _:
                handle(command)

    async def attempt(self, task: Task, run: Callable[[Task], Awaitable[AttemptReport]]) -> AttemptReport:
        """An attempt belongs to the span of the start."""
        about: dict[str, str | int] = {
            "workflow_id": task.workflow_id,
            "run_id": task.run_id,
            "attempt": task.attempt,
            "queue": task.queue,
        }
        with self._tracer.span(f"activity {task.name}", "consumer", about, task.trace) as span:
            report = await run(task)
            if type(report) is FailActivity:
                span.failed(f"{report.failure.type}: {report.failure.message}")
            return report


_tracing: Tracing | None = None


def install(tracer: Tracer | None) -> None:
    """Trace this process from now on; None: stop tracing."""
    global _tracing
    if _tracing is not None:
        interceptor.remove(_tracing)
    _tracing = Tracing(tracer) if tracer is not None else None
    if _tracing is not None:
        interceptor.install(_tracing)
