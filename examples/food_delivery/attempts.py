"""The bad network between us and the world: attempts fail at random, and each is written down for
the pages to show.

It is kept in memory, by the process that runs the activities: after a restart it begins empty,
while the orders do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from typing import Final, Literal

from perdure import activity
from perdure.errors import Failure

FAILURE_RATE: Final = float(os.environ.get("FOOD_FAILURE_RATE", "0.7"))

Outcome = Literal["done", "refused", "nobody answered", "answer lost"]


@dataclass(frozen=True)
class Attempt:
    order_id: str
    what: str
    is_message: bool
    key: str
    number: int
    outcome: Outcome


@contextlib.contextmanager
def attempt(order_id: str, what: str, *, is_message: bool = False) -> Generator[None]:
    """One try over the bad network. Half of its failures lose the question. The others lose the
    answer, which is worse: the thing was done, nobody knows, and it will be asked for again. That
    is what an idempotency key is for."""
    luck = random.random()
    outcome: Outcome = "nobody answered"
    try:
        if luck < FAILURE_RATE / 2:
            raise ConnectionError("nobody answered")
        try:
            yield
            outcome = "done"
        except Failure:
            outcome = "refused"
            raise
        finally:
            if luck < FAILURE_RATE:
                outcome = "answer lost"
                raise ConnectionError("it may have been done, but the answer was lost")
    finally:
        info = activity.info()
        feed.publish(Attempt(order_id, what, is_message, info.idempotency_key, info.attempt, outcome))


class Feed:
    """The latest attempts, and those who watch for more. The activities and the pages may live on
    different threads."""

    def __init__(self) -> None:
        self._latest: deque[Attempt] = deque(maxlen=1000)
        self._watchers: dict[asyncio.Queue[Attempt], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def publish(self, entry: Attempt) -> None:
        with self._lock:
            self._latest.append(entry)
            for queue, loop in self._watchers.items():
                loop.call_soon_threadsafe(queue.put_nowait, entry)

    async def watch(self) -> AsyncIterator[Attempt]:
        """The latest attempts, oldest first, then every further one."""
        queue: asyncio.Queue[Attempt] = asyncio.Queue()
        with self._lock:
            for entry in self._latest:
                queue.put_nowait(entry)
            self._watchers[queue] = asyncio.get_running_loop()
        try:
            while True:
                yield await queue.get()
        finally:
            with self._lock:
                del self._watchers[queue]


feed: Final = Feed()
