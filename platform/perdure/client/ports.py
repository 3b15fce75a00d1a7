"""The ports of the client: a transport for its requests, and a reader. The adapters are in
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
    """Reads materialised state. Thread-safe. Every call sees all writes that were completed before
    it, unless the reader lags: then `wait_for` waits for them.
    """

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id; None if it was never started.

        Raises:
            InfrastructureError: it cannot be read; the message says what to do. This applies to all
                methods.
        """
        ...

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run, in order; empty when there is none."""
        ...

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history of a run. Its cost depends on the page, not on the length of the
        history.

        Args:
            workflow_id: the workflow's id.
            run_id: the run's id.
            from_event_id: the page begins with the record that holds this event, or with the last
                record; at least 1.
            limit: the number of events, from that one on. Records are not divided, so the page may
                hold some more; large records make it end sooner. `next_event_id` says where the
                next page begins.

        Returns:
            Encoded records; none if there is no such run.
        """
        ...

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        ...

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status).

        Args:
            query: has the filters; its order and page are ignored.
        """
        ...

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until reads reflect a position; return whether they do.

        Args:
            position: returned by a write.
            timeout_s: seconds.
        """
        ...

    def close(self) -> None:
        """Idempotent."""


class Transport(Protocol):
    """Carries requests to the engine and its replies back. Belongs to one asyncio loop: that of the
    first request.
    """

    @property
    def reader(self) -> Reader:
        """The reader of materialised state. Its methods block: on a loop, use `read`."""
        ...

    @property
    def is_reader_near(self) -> bool:
        """Whether reading one state is a quick look-up, so that a loop may call `reader` directly
        instead of `read`.
        """
        ...

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Call the reader without blocking the loop.

        Raises:
            InfrastructureError: it cannot be read; the message says what to do.
        """
        ...

    async def position(self, workflow_id: str) -> Position:
        """A position that reflects all completed writes to a workflow id.

        Raises:
            InfrastructureError: the position is unknown; the message says what to do.
        """
        ...

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Send a request and wait for its reply.

        Args:
            command: has a request id; `reply_to` is filled in here.
            timeout_s: seconds; `inf` for as long as there is an engine.

        Raises:
            EngineUnavailable: no engine answered in time; the message says what to do. Repeating
                the request with the same request id is safe.
            InfrastructureError: it cannot be sent; the message says what to do.
        """
        ...

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply. Thread-safe; `close` waits until they are
        written.
        """

    async def close(self) -> None:
        """Close. Waiting requests fail with `EngineUnavailable`. Idempotent."""
