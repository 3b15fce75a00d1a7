"""Runs the attempts of one process: threads, providers, and their loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from typing import TYPE_CHECKING, Final

from perdure.codec.payloads import JsonPayloads
from perdure.errors import InfrastructureError
from perdure.runtime.activity_clients import ActivityClients
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.processes import Children, ProcessAttempts
from perdure.worker.providers import OpenProviders
from perdure.worker.side_loop import SideLoop

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from perdure.app import App
    from perdure.client import Client
    from perdure.engine.processor import Engine
    from perdure.registry import Registry
    from perdure.worker.time_limits import Alarm

CLOSE_S: Final = 5.0
TURN_S: Final = 0.1
"""While providers open, a stop is noticed within this time."""


class Activities:
    """Runs attempts on one asyncio loop.

    Args:
        registry: which there are.
        app: says how payloads are encoded, and what is around each attempt.
        threads: how many sync functions run concurrently.
        alarm: measures the attempts' timeouts; by default the loop's clock does.

    Attributes:
        payloads: the same for the workflows' code.
        provided: the objects whose methods are activities.
        attempts: runs one.
    """

    def __init__(
        self,
        registry: Registry,
        app: App,
        threads: int,
        *,
        alarm: Alarm | None = None,
    ) -> None:
        self._clients: ActivityClients | None = None
        self.payloads = JsonPayloads.of(app)
        self.provided = OpenProviders(registry.providers)
        in_processes = any(each.executor == "process" for each in registry.activities.values())
        self.attempts = (ProcessAttempts if in_processes else Attempts)(
            registry.activities,
            self.payloads,
            ActivityThreads(threads),
            instances=self.provided.instances,
            alarm=alarm,
            interceptors=tuple(app.interceptors),
        )
        if isinstance(self.attempts, ProcessAttempts):
            self.attempts.children = Children()

    def connect_on(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Client]) -> None:
        """Give the attempts that run on a loop a client."""
        self._clients = self.attempts.clients = ActivityClients(make, loop)

    async def close_shared(self) -> None:
        """Close the client of the attempts, and kill their processes. Idempotent."""
        if isinstance(self.attempts, ProcessAttempts):
            await self.attempts.children.close()
        if self._clients is not None:
            await self._clients.close()


class SideActivities(Activities):
    """The same on a side loop, from `open` to `close`; both from another thread.

    Attributes:
        side: the loop and its thread.
    """

    def __init__(
        self,
        registry: Registry,
        app: App,
        threads: int,
    ) -> None:
        super().__init__(registry, app, threads)
        self.side = SideLoop("perdure-side")

    def connect(self, make: Callable[[], Client]) -> None:
        """Give attempts a client; before workers and steps are made.

        Args:
            make: makes it, when the first attempt asks for it; from any thread.
        """
        self.connect_on(self.side.loop, make)

    def start(self) -> None:
        """Start the loop. Nothing is provided yet: hold steps back until `provide` has returned."""
        self.side.start()

    def provide(self, engine: Engine | None, wake: Callable[[], None], is_stopping: threading.Event) -> None:
        """Open the providers.

        The engine is open by then, and runs batches meanwhile: a provider may open a client on the
        very database that this process serves, and ask it something.

        Args:
            engine: of this process, open; None when it has none.
            wake: ends the engine's wait for commands; from any thread.
            is_stopping: ends the wait for a provider.

        Raises:
            Exception: what a provider raised.
            InfrastructureError: the process was stopped first.
        """
        opening = asyncio.run_coroutine_threadsafe(self.provided.open(), self.side.loop)
        opening.add_done_callback(lambda _: wake())
        while not opening.done() and self.side.is_running:
            if is_stopping.is_set():
                opening.cancel()
                raise InfrastructureError("stopped before all providers (activity.provide) were open")
            if engine is None:
                wait((opening,), TURN_S)
            else:
                engine.run_batch(TURN_S)
        opening.result(0.0)

    def close(self) -> None:
        """Close what is provided and end the loop. Idempotent. Sync functions that still run are
        left behind.
        """
        try:
            if self.side.is_running:
                self.side.call(self.provided.close(), CLOSE_S)
                self.side.call(self.close_shared(), CLOSE_S)
        finally:
            self.side.stop()
            self.attempts.threads.close()
