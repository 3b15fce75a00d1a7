"""One state, read the cheapest way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.states import WorkflowState


async def state_of(transport: Transport, workflow_id: str) -> WorkflowState | None:
    """The state of a workflow id, None if it was never started. Reads on another thread unless it
    is one look-up.

    Raises:
        InfrastructureError: the state cannot be read.
    """
    if transport.is_reader_near:
        return transport.reader.state(workflow_id)
    return await transport.read(lambda reader: reader.state(workflow_id))
