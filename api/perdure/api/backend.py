"""What the API stands on: whom it asks, and what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perdure.api.turns import Turns

if TYPE_CHECKING:
    from perdure.api.feeds import Feed
    from perdure.client.ports import Reader, Transport
    from perdure.log.dead_letters import DeadLetters
    from perdure.registry import Registry

T = TypeVar("T")


class Operations(Protocol):
    """Task queues and who serves them. May wait: it is asked off the loop."""

    def queues(self) -> list[dict[str, Any]]:
        """One entry a task queue: `name`, `backlog` (tasks that no worker has ended; null: not known), `workers`."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """One entry a worker: `name`, `queues`, `host`."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Of one namespace.

    Attributes:
        namespace: its name.
        transport: carries requests; belongs to the server's loop.
        feed: tells of states that change.
        reader: what is read, when it is not the transport's own.
        registry: the workflow types that arguments are held against before anything is sent; None: the engine does.
        dead_letters: opens those of the namespace.
        operations: task queues and workers.
        closing: what else is let go of in the end.
        turns: of requests with one request id.
    """

    namespace: str
    transport: Transport
    feed: Feed
    reader: Reader | None = None
    registry: Registry | None = None
    dead_letters: Callable[[], DeadLetters] | None = None
    operations: Operations | None = None
    closing: Sequence[Callable[[], None]] = field(default=())
    turns: Turns = field(default_factory=Turns)

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Put a question to the reader, without holding the loop up."""
        reader = self.reader
        if reader is None:
            return await self.transport.read(question)
        return await asyncio.to_thread(question, reader)

    async def close(self) -> None:
        """Let go of all of it."""
        await self.feed.close()
        await self.transport.close()
        if self.reader is not None:
            await asyncio.to_thread(self.reader.close)
        for close in self.closing:
            await asyncio.to_thread(close)
