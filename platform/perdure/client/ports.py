"""The ports of the client: who carries its requests, and what it reads. The adapters are in
`perdure.adapters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from perdure.codec.paging import PAGE_EVENTS

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence

    from perdure.client.listing import ListQuery
    from perdure.client.position import Position
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.events import EventRecord
    from perdure.model.replies import AnyReply, History
    from perdure.model.states import WorkflowState

T = TypeVar("T")


class Reader(Protocol):
    """Reads materialised state. Thread-safe; every call sees all writes completed before it, or
    `wait_for` waits for them.
    """

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id; None when it never was started.

        Raises:
            InfrastructureError: it cannot be read; the message says what to do. So for all methods.
        """
        ...

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run, in order; empty when there is none."""
        ...

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history of a run, cut where it is stored: it costs what the page costs,
        however long the history is.

        Args:
            workflow_id: of the workflow.
            run_id: of the run.
            from_event_id: the page begins with the record that holds this event, or with the last
                record; at least 1.
            limit: of events, from that one on. Records are not divided, so the page may hold some
                more; large ones make it end sooner. `next_event_id` says where the next page
                begins.

        Returns:
            Encoded records, none when there is no such run.
        """
        ...

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        ...

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status).

        Args:
            query: whose filters must hold; its order and page do not matter.
        """
        ...

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until reads reflect a position; whether it does.

        Args:
            position: that a write has returned.
            timeout_s: seconds.
        """
        ...

    def close(self) -> None:
        """Idempotent."""


class Transport(Protocol):
    """Carries requests to the engine and answers back. Belongs to one asyncio loop: that of the
    first request.
    """

    @property
    def reader(self) -> Reader:
        """The reader of materialised state. Its methods block: on a loop, use `read`."""
        ...

    @property
    def is_reader_near(self) -> bool:
        """Whether reading one state is a look-up, cheaper than asking the engine for it: a loop may
        do it by `reader`, without `read`.
        """
        ...

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Put a question to the reader, without holding the loop up.

        Raises:
            InfrastructureError: it cannot be read; the message says what to do.
        """
        ...

    async def position(self, workflow_id: str) -> Position:
        """A position that reflects all completed writes to a workflow id.

        Raises:
            InfrastructureError: it is unknown; the message says what to do.
        """
        ...

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Send a request and wait for its reply.

        Args:
            command: with a request id; `reply_to` is filled in here.
            timeout_s: seconds; `inf` for as long as there is an engine.

        Raises:
            EngineUnavailable: no engine answered in time; the message says what to do. Sending it
                again, under the same request id, is safe.
            InfrastructureError: it cannot be sent; the message says what to do.
        """
        ...

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply. Thread-safe; `close` waits until they are
        written.
        """

    async def close(self) -> None:
        """Close. Waiting requests fail with `EngineUnavailable`. Idempotent."""
