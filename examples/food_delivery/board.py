"""The drivers' board: the open orders, read once for however many drivers look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from food_delivery.workflows import OrderStatus
from perdure.errors import ClientError, InfrastructureError

if TYPE_CHECKING:
    from perdure.client import Client

LENGTH: Final = 30
PERIOD_S: Final = 0.5


@dataclass(frozen=True)
class Row:
    id: str
    status: OrderStatus


@dataclass(frozen=True)
class Board:
    """What drivers see: the open orders, or why they cannot be seen."""

    orders: list[Row]
    problem: str | None = None


async def read(client: Client) -> Board:
    """The newest open orders, at most 30, each with the view that the platform keeps of it."""
    try:
        runs = await client.list(type="Order", status="running", limit=LENGTH)
    except (ClientError, InfrastructureError) as error:
        return Board([], str(error))
    return Board([Row(run.workflow_id, client.decode_view(run, OrderStatus)) for run in runs if run.view])


class Watch:
    """While anybody looks, one task reads the board every half a second; a change goes to
    everybody."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watchers: set[asyncio.Queue[Board]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._latest: Board | None = None

    async def boards(self) -> AsyncIterator[Board]:
        """The board as it is, and again after every change."""
        queue: asyncio.Queue[Board] = asyncio.Queue()
        if self._latest is not None:
            queue.put_nowait(self._latest)
        self._watchers.add(queue)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def _read(self) -> None:
        while self._watchers:
            board = await read(self._client)
            if board != self._latest:
                self._latest = board
                for queue in self._watchers:
                    queue.put_nowait(board)
            await asyncio.sleep(PERIOD_S)
        self._reader = self._latest = None
