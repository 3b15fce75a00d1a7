"""A platform in memory, on the test's own asyncio loop, that skips time.

    async with testing.Environment() as env:
        order = await env.client.start("order-1", Order.process, "burrata")
        await env.sleep("30 days")
        assert await order.result() == "delivered"

When nothing can happen now and somebody waits (for a result, or in `env.sleep`), the clock jumps to the next timer: ten years pass
in no time. Activities and steps are the real ones, unless `testing.fake` replaces them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from perdure.client import Client
from perdure.client.description import moment
from perdure.codec.payloads import JsonPayloads
from perdure.engine.processor import Engine, Settings
from perdure.log.channel import Channel
from perdure.log.local import LocalTransport
from perdure.log.memory import MemoryLog
from perdure.medium.memory import MemoryMedium
from perdure.medium.reader import MemoryReader
from perdure.model.commands import AnyCommand, AwaitWorkflow, Request
from perdure.model.duration import Duration, microseconds
from perdure.registry import Registry
from perdure.store.memory import MemoryStore
from perdure.system import RandomIds
from perdure.worker.attempt import Attempts
from perdure.worker.providers import Provided
from perdure.worker.steps import LocalSteps
from perdure.worker.worker import Worker

if TYPE_CHECKING:
    from perdure.model.replies import AnyReply

BEGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)


class SkippedClock:
    """Stands still until it is set."""

    def __init__(self, at: int) -> None:
        self.at = at

    def now(self) -> int:
        """Microseconds since 1970."""
        return self.at


class Environment:
    """Engine, worker and client in memory, with their own time.

    Args:
        registry: what is served; by default all that has been imported.
        begin: the time at which it begins; has a time zone.
    """

    def __init__(self, registry: Registry | None = None, *, begin: datetime = BEGIN) -> None:
        self._registry = registry or Registry.of_everything_imported()
        self._clock = SkippedClock(int(begin.timestamp() * 1_000_000))
        self._medium = MemoryMedium()
        self._payloads = JsonPayloads(validate_on_encode=False)
        self._threads = ThreadPoolExecutor(thread_name_prefix="perdure-activity")
        self._provided = Provided(self._registry.providers)
        self._attempts = Attempts(self._registry.activities, self._payloads, self._threads, self._provided.instances)
        self._awaited = 0
        self._sleepers: dict[asyncio.Future[None], int] = {}
        self._driver: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    @property
    def client(self) -> Client:
        """Talks to it."""
        return self._client

    def now(self) -> datetime:
        """Its time, in UTC."""
        return moment(self._clock.at)

    async def sleep(self, duration: Duration) -> None:
        """Let time pass, timer by timer, and come back when all that can happen by then has happened.

        Args:
            duration: how long.
        """
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[woken] = self._clock.at + microseconds(duration)
        self._moved.set()
        try:
            await asyncio.shield(woken)
            self._raise_fault()
        finally:
            self._sleepers.pop(woken, None)

    async def settle(self) -> None:
        """Come back when all that can happen now has happened; no time passes."""
        await self.sleep("0s")

    async def restart(self) -> None:
        """Crash the engine and start another one on what was recorded: all code is brought back by replay."""
        await self._stop_driving()
        self._boot()

    async def __aenter__(self) -> Self:
        await self._provided.open()
        self._boot()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop_driving()
        await self._client.close()
        await self._worker.drain(0)
        await self._provided.close()
        self._engine.close()
        self._threads.shutdown(wait=False)

    # ---- private

    def _boot(self) -> None:
        channel = _HeardChannel(self._moved)
        log = MemoryLog(channel, self._medium)
        self._steps = LocalSteps(asyncio.get_running_loop(), self._attempts, channel.submit)
        self._worker = Worker("testing", self._attempts, channel.submit)
        settings = Settings(join_s=0.0)
        self._engine = Engine(
            log,
            MemoryStore(self._medium),
            self._clock,
            RandomIds(),
            self._steps,
            self._registry.workflows,
            self._payloads,
            settings,
        )
        self._engine.open()
        channel.subscribe_tasks(self._worker.deliver, self._worker.cancel)
        self._client = Client(_CountedTransport(channel, MemoryReader(self._medium), self), payloads=JsonPayloads())
        self._driver = asyncio.get_running_loop().create_task(self._drive())

    async def _stop_driving(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait([self._driver])

    async def _drive(self) -> None:
        while True:
            if self._engine.run_batch(0):
                await asyncio.sleep(0)
                continue
            for _ in range(3):  # whoever was woken by the last batch may have something to say
                await asyncio.sleep(0)
            if self._moved.is_set():
                self._moved.clear()
                continue
            if self._worker.is_idle and self._steps.is_idle and self._skip():
                continue
            await self._moved.wait()
            self._moved.clear()

    def _skip(self) -> bool:
        """Nothing can happen now: let time pass, if somebody waits for that. Whether there is something to look at again."""
        fires_at = self._engine.next_timer_at()
        first = min(self._sleepers.values(), default=None)
        if first is not None and (fires_at is None or first < fires_at):
            self._clock.at = max(self._clock.at, first)
            for woken, until in list(self._sleepers.items()):
                if until <= self._clock.at and not woken.done():
                    woken.set_result(None)
                    del self._sleepers[woken]
            return False
        if fires_at is None or (first is None and not self._awaited):
            return False
        self._clock.at = max(self._clock.at, fires_at)
        return True

    def _raise_fault(self) -> None:
        if self._driver is not None and self._driver.done():
            self._driver.result()

    def awaiting(self, change: int) -> None:
        """Somebody begins (1) or ceases (-1) to wait for a result."""
        self._awaited += change
        self._moved.set()


class _HeardChannel(Channel):
    """Says when something comes in."""

    def __init__(self, heard: asyncio.Event) -> None:
        super().__init__()
        self._heard = heard
        self._loop = asyncio.get_running_loop()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        super().submit(commands)
        self._loop.call_soon_threadsafe(self._heard.set)


class _CountedTransport(LocalTransport):
    """Tells the environment who waits for results."""

    def __init__(self, channel: Channel, reader: MemoryReader, environment: Environment) -> None:
        super().__init__(channel, reader)
        self._environment = environment

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        if not isinstance(command, AwaitWorkflow):
            return await super().request(command, timeout_s)
        self._environment.awaiting(1)
        try:
            return await super().request(command, timeout_s)
        finally:
            self._environment.awaiting(-1)
