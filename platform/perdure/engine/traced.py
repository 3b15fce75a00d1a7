"""Starts and signals with a span around them, when somebody traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure.model.commands import SignalWorkflow, StartWorkflow

if TYPE_CHECKING:
    from perdure.engine.handling import Handler
    from perdure.model.commands import AnyCommand
    from perdure.tracing import Tracer


def handle_traced(tracer: Tracer, handler: Handler, command: AnyCommand) -> None:
    """Handle one command. What a start leads to, now and later, belongs to the span that is made of it here."""
    match command:
        case StartWorkflow():
            about = {"workflow_id": command.workflow_id, "workflow_type": command.type}
            with tracer.span(f"workflow {command.type}", "internal", about, command.trace) as span:
                handler.handle(replace(command, trace=span.trace))
        case SignalWorkflow():
            about = {"workflow_id": command.workflow_id, "signal": command.name}
            with tracer.span(f"handle signal {command.name}", "internal", about, command.trace):
                handler.handle(command)
        case _:
            handler.handle(command)
