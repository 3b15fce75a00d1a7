"""Backend of the API: the transport that carries its requests, and the reader that serves its
reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from msgspec import Struct

from perdure.api.encoding_turn import EncodingTurn
from perdure.api.request_locks import RequestLocks
from perdure.codec.payloads import JsonPayloads
from perdure.codec.readable import Readable
from perdure.errors import ReadLags

if TYPE_CHECKING:
    from perdure.api.feeds import Feed
    from perdure.client.ports import Reader, Transport
    from perdure.client.position import Position
    from perdure.model.states import WorkflowState
    from perdure.ports.dead_letters import DeadLetters
    from perdure.registry import Registry

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
PLAIN: Final = JsonPayloads()
"""The payloads without an app: JSON is recorded unchanged."""

LARGE_THREADS: Final = 8
"""Threads for large reads: lists, histories, dead letters. Reads of a single state never wait for
these."""
POLL_INTERVAL_S: Final = 0.005
LONGEST_LOOK_S: Final = 0.1
"""The first pause between two checks of a position; each pause is half as long again as the
previous one."""


class Operations(Protocol):
    """Task queues and the workers that serve them. May block: it is called in a thread."""

    def queues(self) -> list[dict[str, Any]]:
        """One entry per task queue: `name`, `backlog` (the number of unfinished tasks; null: not
        known), `workers`.
        """
        ...

    def workers(self) -> list[dict[str, Any]]:
        """One entry per worker: `name`, `queues`, `host`."""
        ...


class Large:
    """Threads for large data. Many threads may wait for stores, but only one at a time decodes and
    encodes.

    Attributes:
        turn: use `with large.turn():` around decoding and encoding.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LARGE_THREADS, "perdure-api-large")
        self.turn = EncodingTurn()

    async def run(self, work: Callable[..., T], *values: Any) -> T:
        """Run a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *values)

    def close(self) -> None:
        """Accept no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend of one namespace.

    Attributes:
        namespace: its name.
        transport: carries requests; belongs to the server's loop.
        feed: publishes changed states.
        reader: serves reads, unless the transport's own does.
        registry: workflow types, to validate arguments before sending; None: the engine validates.
        dead_letters: opens the namespace's dead letters.
        operations: task queues and workers.
        closing: other parts to close.
        turns: serialises requests with the same request id.
        payloads: the codec and the store of the app, for values that come and go as JSON.
        large: the threads for large reads.
    """

    namespace: str
    transport: Transport
    feed: Feed
    _: KW_ONLY
    reader: Reader | None = None
    registry: Registry | None = None
    dead_letters: Callable[[], DeadLetters] | None = None
    operations: Operations | None = None
    closing: Sequence[Callable[[], None]] = field(default=())
    turns: RequestLocks = field(default_factory=RequestLocks)
    payloads: JsonPayloads = PLAIN
    large: Large = field(default_factory=Large)

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Call the reader without blocking the loop."""
        reader = self.reader
        if reader is None:
            return await self.transport.read(question)
        return await asyncio.to_thread(question, reader)

    @property
    def readable(self) -> Readable:
        """Decodes what the app's codec has encoded."""
        return Readable(self.payloads)

    async def opened(self, found: S) -> S:
        """A state or a reply with its payloads as JSON, where they can be read here."""
        work = self.readable.struct
        return await asyncio.to_thread(work, found) if self.payloads.may_wait else work(found)

    async def encoded(self, data: bytes, what: str) -> bytes:
        """The payload of JSON that a caller has sent.

        Raises:
            PayloadError: it is over the limit, or cannot be encoded now.
        """
        if self.payloads.may_wait:
            return await asyncio.to_thread(self.payloads.of_json, data, what=what)
        return self.payloads.of_json(data, what=what)

    async def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of a workflow id; does not use a thread if it is one look-up."""
        if self.reader is None and self.transport.is_reader_near:
            return self.transport.reader.state(workflow_id)
        return await self.read(lambda reader: reader.state(workflow_id))

    async def read_large(self, question: Callable[[Reader], T]) -> T:
        """As `read`, for large results. The called function must decode and encode `with
        backend.large.turn()`.
        """
        return await self.large.run(question, self.reader or self.transport.reader)

    async def reached(self, position: Position, seconds: float) -> bool:
        """Wait until reads reflect a position; return whether they do. No thread is blocked."""
        deadline = time.monotonic() + seconds
        pause_s = POLL_INTERVAL_S
        while not await self.read(lambda reader: reader.wait_for(position, 0)):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(LONGEST_LOOK_S, 1.5 * pause_s)
        return True

    async def has_all(self, seconds: float, workflow_id: str = "") -> None:
        """Wait until reads reflect everything that the feed has published.

        Args:
            seconds: the longest wait.
            workflow_id: only changes of this workflow count; empty: of all.

        Raises:
            ReadLags: they do not.
        """
        if self.reader is None:
            return  # the transport's own reader always does
        positions = (
            [await self.transport.position(workflow_id)] if workflow_id else await self.feed.positions()
        )
        for position in positions:
            if not await self.reached(position, seconds):
                raise ReadLags(
                    f"reads are still behind position {position} after {seconds:g} s; check `perdure "
                    "projector`"
                )

    async def close(self) -> None:
        """Close all parts."""
        self.large.close()
        await self.feed.close()
        await self.transport.close()
        if self.reader is not None:
            await asyncio.to_thread(self.reader.close)
        for close in self.closing:
            await asyncio.to_thread(close)
