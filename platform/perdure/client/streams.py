"""Reads streams: values that a run gives out while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast, runtime_checkable

from perdure import errors
from perdure.client.reading import state_of

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.payloads import Payloads
    from perdure.model.streams import StreamPage, StreamRecord

T = TypeVar("T")

PAGE: Final = 1_000
FIRST_LOOK_S: Final = 0.005
LONGEST_LOOK_S: Final = 0.1
"""Between two looks at a stream that has nothing new; each is twice as long as the one before."""


@runtime_checkable
class StreamSource(Protocol):
    """A reader that has streams, too."""

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream; it may wait a little for values.

        Args:
            workflow_id: whose stream it is.
            name: of the stream.
            after: an offset: values after it.
            limit: of values.

        Raises:
            InfrastructureError: it cannot be read; the message says what to do.
        """
        ...


async def page_of(transport: Transport, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
    """A page of a stream, read off the loop.

    Raises:
        InfrastructureError: it cannot be read; the message says what to do.
    """
    if not isinstance(transport.reader, StreamSource):
        raise errors.InfrastructureError("streams cannot be read by this address")
    return await transport.read(
        lambda reader: cast("StreamSource", reader).stream(workflow_id, name, after, limit)
    )


class Numbers:
    """Tells values of workflow code that are there twice: one that was written before its run was
    suspended may be written again when it is resumed.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def is_new(self, record: StreamRecord) -> bool:
        """Whether the reader has not had it."""
        if record.activity:
            return True
        if record.number <= self._seen.get(record.run_id, 0):
            return False
        self._seen[record.run_id] = record.number
        return True


class StreamReader(Generic[T]):
    """Iterates over the values of a stream: those that are there, then those that come, until the
    run has closed.

    Attributes:
        offset: of the last value; give it as `after` to read on from there.
        number: of the last value; counts those of the run, or of the attempt, from 1.
        run_id: that wrote it.
        attempt: of the activity or step that wrote it, from 1; 0: workflow code.
    """

    def __init__(
        self, transport: Transport, payloads: Payloads, workflow_id: str, name: str, type: Any, after: int
    ) -> None:
        self._transport = transport
        self._payloads = payloads
        self._workflow_id = workflow_id
        self._name = name
        self._type = type
        self._waiting: list[tuple[int, StreamRecord]] = []
        self._numbers = Numbers()
        self._next = self.offset = after
        self._look_s = FIRST_LOOK_S
        self.number = 0
        self.run_id = ""
        self.attempt = 0

    def __aiter__(self) -> StreamReader[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            while self._waiting:
                offset, record = self._waiting.pop()
                if not self._numbers.is_new(record):
                    continue
                what = f"a value of stream {self._name!r}"
                value: T = self._payloads.decode(record.value, self._type, what=what)
                self.offset, self.number = offset, record.number
                self.run_id, self.attempt = record.run_id, record.attempt
                return value
            if not await self._read():
                raise StopAsyncIteration

    async def _read(self) -> bool:
        """Read a page, or wait for one; False: no more will come."""
        if await self._page():
            return True
        state = await state_of(self._transport, self._workflow_id)
        if state is None:
            raise errors.WorkflowNotFound(f"no workflow has the id {self._workflow_id!r}")
        if state.status.is_closed:  # what it wrote last may have come between the two reads
            return await self._page()
        await asyncio.sleep(self._look_s)
        self._look_s = min(2 * self._look_s, LONGEST_LOOK_S)
        return True

    async def _page(self) -> bool:
        page = await page_of(self._transport, self._workflow_id, self._name, self._next, PAGE)
        has_moved = page.next != self._next
        self._next = page.next
        self._waiting = page.values[::-1]
        if page.values:
            self._look_s = FIRST_LOOK_S
        return bool(page.values) or has_moved
