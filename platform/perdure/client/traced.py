"""Requests with a span around them, when somebody traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure import tracing

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.commands import SignalWorkflow, StartWorkflow
    from perdure.model.replies import AnyReply


async def traced(transport: Transport, command: StartWorkflow | SignalWorkflow, name: str, timeout_s: float) -> AnyReply:
    """Ask; what it leads to belongs to the span that is current here."""
    if (tracer := tracing.installed) is None:
        return await transport.request(command, timeout_s)
    with tracer.span(name, "client", {"workflow_id": command.workflow_id}) as span:
        return await transport.request(replace(command, trace=span.trace), timeout_s)
