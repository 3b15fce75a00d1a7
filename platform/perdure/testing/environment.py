"""A platform in memory, on the test's own asyncio loop, that skips time.

    async with testing.Environment() as env:
        order = await env.client.start("order-1", Order.process, "burrata")
        await env.sleep("30 days")
        assert await order.result() == "delivered"

When nothing can happen now and a caller waits (for a result, or in `env.sleep`), the clock jumps to
the next timer: ten years pass immediately. Activities and steps are the real ones, unless
`testing.fake` replaces them.

Time stands still while an activity runs, until the activity seems to hang: `env.sleep` then passes
time, so that its time limit is reached. What an activity has reported is always handled before time
passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from heapq import heappop, heappush
from math import ceil
from typing import TYPE_CHECKING, Final, NoReturn, Self

from perdure.adapters.memory.log import MemoryLog
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.reader import MemoryReader
from perdure.adapters.memory.store import MemoryStore
from perdure.adapters.process.channel import Channel
from perdure.adapters.process.transport import LocalTransport
from perdure.client import Client
from perdure.client.description import moment
from perdure.engine.processor import Settings
from perdure.errors import UsageError
from perdure.model.commands import AnyCommand, AwaitWorkflow, Request, StartWorkflow
from perdure.model.duration import Duration, microseconds
from perdure.model.source import calling_module, calling_place
from perdure.model.states import Status
from perdure.registry import Registry
from perdure.runtime.activities import Activities
from perdure.runtime.wired_engine import WiredEngine
from perdure.worker.worker import Worker

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.interceptor import Interceptor
    from perdure.model.replies import AnyReply

BEGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE: Final = "0.5s"
RESULT_PATIENCE: Final = 10
"""While an activity runs, a waiter for a result waits in real time, at most this many times the
patience before a timer fires.
"""
POLL_S: Final = 0.01
WAKE_TURNS: Final = 10
"""Turns of the loop for those that were woken, tasks of the test or of activities, to say what they
want next."""
THREADS: Final = 200
"""For sync activities, as many as a platform has."""


class SkippedTime:
    """The clock of engine and activities. Stands still until it is moved.

    Attributes:
        at: now, microseconds since 1970.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self._alarms: list[tuple[int, int]] = []
        self._pending: dict[int, Callable[[], None]] = {}
        self._count = 0

    def now(self) -> int:
        """Microseconds since 1970."""
        return self.at

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call a function after some seconds; returns a function that cancels this."""
        self._count = number = self._count + 1
        self._pending[number] = call
        heappush(self._alarms, (self.at + int(delay_s * 1e6), number))
        return partial(self._call_off, number)

    def _call_off(self, number: int) -> None:
        self._pending.pop(number, None)

    def next_at(self) -> int | None:
        """When the next function is called, microseconds."""
        alarms = self._alarms
        while alarms and alarms[0][1] not in self._pending:
            heappop(alarms)
        return alarms[0][0] if alarms else None

    def pass_to(self, at: int) -> bool:
        """It is that time now; whether a function was called."""
        self.at = max(self.at, at)
        is_due = False
        while (next_at := self.next_at()) is not None and next_at <= self.at:
            self._pending.pop(heappop(self._alarms)[1])()
            is_due = True
        return is_due

    def elapsed(self) -> int:
        """The same: time that is skipped has passed."""
        return self.at


class Environment:
    """Engine, worker and client in memory, with their own time.

    Args:
        registry: what is served; by default all that has been imported, where one name that has
            several meanings means what the calling module defines or imports.
        begin: the time at which it begins; has a time zone.
        patience: how long, in real time, `env.sleep` lets running activities finish before time
            passes over them. Make it longer for activities that do real and slow work.
        interceptors: around requests, commands, workflow code and attempts, outermost first; those
            of the app are around them.
        app: codec, interceptors and store of large payloads; by default those of the registry,
            which has them from the `App` of the calling module or of one that it imports from.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        begin: datetime = BEGIN,
        patience: Duration = PATIENCE,
        interceptors: Sequence[Interceptor] = (),
        app: App | None = None,
    ) -> None:
        self._registry = registry or Registry.seen_from(calling_module(), app)
        said = (app or self._registry.app).plus(None, interceptors)
        self._interceptors = tuple(said.interceptors)
        self._time = SkippedTime(int(begin.timestamp() * 1_000_000))
        self._patience_s = microseconds(patience) / 1e6
        self._medium = MemoryMedium()
        self._activities = Activities(self._registry, said, THREADS, alarm=self._time.call_later)
        self._awaited: dict[asyncio.Future[None], str] = {}
        self._passed_over: set[str] = set()
        self._sleepers: dict[asyncio.Future[None], int] = {}
        self._driver: asyncio.Task[None] | None = None
        self._fault: BaseException | None = None
        self._opened: Client | None = None

    @property
    def client(self) -> Client:
        """Talks to it.

        Raises:
            UsageError: the environment is not open.
        """
        if self._opened is None:
            raise UsageError(
                f"{calling_place()}: the environment is not open: write `async with testing.Environment() as "
                "env:` around it."
            )
        return self._opened

    def now(self) -> datetime:
        """Its time, in UTC."""
        return moment(self._time.at)

    async def sleep(self, duration: Duration) -> None:
        """Let time pass, timer by timer, and return when all that can happen by then has happened.

        An activity that continues for longer than the environment's patience is passed over: its
        own time limits are reached, and it may still run when this returns.

        Args:
            duration: how long.

        Raises:
            Exception: what ended the engine.
        """
        if self._fault is not None:
            raise self._fault
        _ = self.client  # it is open
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[woken] = self._time.at + microseconds(duration)
        self._moved.set()
        try:
            await asyncio.shield(woken)
        finally:
            self._sleepers.pop(woken, None)

    async def settle(self) -> None:
        """Return when all that can happen now has happened; no time passes."""
        await self.sleep("0s")

    async def restart(self) -> None:
        """Crash engine and worker, and start others on what was recorded: all code is brought back
        by replay.

        No `finally` or `except` block of a workflow runs. Activities that run are cut short and run
        again. The client, and handles from before, continue.
        """
        _ = self.client  # it is open
        await self._crash()
        self._boot()

    async def __aenter__(self) -> Self:
        self._moved = asyncio.Event()
        self._channel = _NotifyingChannel(self._moved)

        def connected() -> Client:
            transport = _CountedTransport(self._channel, MemoryReader(self._medium), self)
            return Client(transport, payloads=self._activities.payloads, interceptors=self._interceptors)

        self._activities.connect_on(asyncio.get_running_loop(), connected)
        await self._activities.provided.open()
        self._boot()
        self._opened = connected()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.close()
        await self._crash()
        await self._activities.provided.close()
        await self._activities.close_shared()
        self._activities.attempts.threads.close()

    # ---- private

    def _boot(self) -> None:
        loop = asyncio.get_running_loop()
        self._wired = WiredEngine(
            MemoryLog(self._channel, self._medium),
            MemoryStore(self._medium),
            self._registry,
            activities=self._activities,
            loop=loop,
            settings=Settings(join_s=0.0, skips_time=True),
            clock=self._time,
            interceptors=self._interceptors,
        )
        self._worker = Worker("testing", self._activities.attempts, self._channel.submit, is_leasing=False)
        self._wired.open()
        self._channel.deliveries.subscribe_tasks(self._worker.deliver, self._worker.cancel)
        self._driver = loop.create_task(self._drive())

    async def _crash(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait([self._driver])
        self._channel.deliveries.unsubscribe_tasks(self._worker.deliver)
        await self._worker.drain(0)
        await self._wired.steps.cancel_all()
        self._wired.close()

    async def _drive(self) -> None:
        try:
            while True:
                await self._turn()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits
            self._fault = error
            for woken in self._sleepers:
                if not woken.done():
                    woken.set_exception(error)
            self._channel.shut()

    async def _turn(self) -> None:
        """Run what can run now; else let time pass if a caller waits for that; else wait."""
        moved = self._moved
        if self._wired.engine.run_batch(0):
            await asyncio.sleep(0)
            return
        for _ in range(WAKE_TURNS):
            await asyncio.sleep(0)
        if moved.is_set() or self._channel.has_commands:
            moved.clear()
            return
        self._fail_stuck()
        until = self._next_at()
        if until is None:
            await moved.wait()
        elif self._is_idle or await self._are_passed_over(until):
            self._pass_to(until)
        moved.clear()

    @property
    def _is_idle(self) -> bool:
        return self._worker.is_idle and self._wired.steps.is_idle

    def _next_at(self) -> int | None:
        """The time at which something happens next, microseconds; None when no caller waits for it,
        or nothing will.
        """
        if not self._sleepers and not self._awaited:
            return None
        fires_at, alarm_at = self._wired.engine.next_timer_at(), self._time.next_at()
        return min(
            (at for at in (*self._sleepers.values(), fires_at, alarm_at) if at is not None), default=None
        )

    async def _are_passed_over(self, until: int) -> bool:
        """Wait for the activities that run; whether time may pass although they have not ended.

        The wait is counted in turns of the loop, so that a busy machine, which slows activities
        down, makes it longer.
        """
        running = {*self._worker.running_tokens, *self._wired.steps.running_tokens}
        is_reporting = self._worker.is_reporting or self._wired.steps.is_reporting
        if self._sleepers and running and running <= self._passed_over and not is_reporting:
            return True  # none has just ended: what it reports is handled before time passes
        wait_s = self._patience_s
        # a result is awaited: an activity that takes real time is no reason for a timeout
        if not self._sleepers:
            wait_s = max(wait_s, min((until - self._time.at) / 1e6, RESULT_PATIENCE * wait_s))
        for _ in range(ceil(wait_s / POLL_S)):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), POLL_S)
            if self._moved.is_set() or self._channel.has_commands or self._is_idle:
                return False
        self._passed_over = running
        return True

    def _pass_to(self, until: int) -> None:
        """It is that time now. What happens then comes before those that sleep until then."""
        is_due = self._time.pass_to(until)
        fires_at = self._wired.engine.next_timer_at()
        if is_due or (fires_at is not None and fires_at <= until):
            return
        for woken, at in list(self._sleepers.items()):
            if at <= until:
                del self._sleepers[woken]
                if not woken.done():
                    woken.set_result(None)

    @property
    def ambiguous(self) -> dict[str, str]:
        """Workflow types that cannot be started here, and why."""
        return self._registry.ambiguous

    def awaits(self, workflow_id: str) -> asyncio.Future[None]:
        """Count a caller that begins to wait for a result; the future raises if the run is
        suspended, which no code of the test will change.
        """
        stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited[stuck] = workflow_id
        self._moved.set()
        return stuck

    def awaits_no_more(self, stuck: asyncio.Future[None]) -> None:
        """Whether the result is available, or the wait was given up."""
        del self._awaited[stuck]
        stuck.cancel()
        self._moved.set()

    def _fail_stuck(self) -> None:
        for stuck, workflow_id in self._awaited.items():
            state = self._medium.written.states.get(workflow_id)
            if state is not None and state.status is Status.SUSPENDED and not stuck.done():
                stuck.set_exception(UsageError(f"workflow {workflow_id!r} is suspended: {state.reason}"))


class _NotifyingChannel(Channel):
    """Says when something comes in."""

    def __init__(self, heard: asyncio.Event) -> None:
        super().__init__()
        self._heard = heard
        self._loop = asyncio.get_running_loop()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        super().submit(commands)
        with suppress(RuntimeError):  # a thread of an activity that outlives the test: the loop is closed
            self._loop.call_soon_threadsafe(self._heard.set)

    def end(self) -> None:
        """The engine was stopped: requests wait for the next one."""

    def shut(self) -> None:
        """The engine was stopped for good: requests fail."""
        super().end()


class _CountedTransport(LocalTransport):
    """Counts the callers that wait for results."""

    def __init__(self, channel: Channel, reader: MemoryReader, environment: Environment) -> None:
        super().__init__(channel, reader)
        self._environment = environment

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        if isinstance(command, StartWorkflow) and (fault := self._environment.ambiguous.get(command.type)):
            raise UsageError(fault)
        if not isinstance(command, AwaitWorkflow):
            return await super().request(command, timeout_s)
        stuck = self._environment.awaits(command.workflow_id)
        answer = asyncio.ensure_future(super().request(command, timeout_s))
        try:
            await asyncio.wait((answer, stuck), return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else _raised(stuck)
        finally:
            answer.cancel()
            self._environment.awaits_no_more(stuck)


def _raised(stuck: asyncio.Future[None]) -> NoReturn:
    stuck.result()
    raise AssertionError("the future holds an exception")
