"""One process, one file: wiring."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.adapters.process.transport import LocalTransport
from perdure.client import Client
from perdure.codec.columns import shapes_of
from perdure.embedded.ingesting import EmbeddedIngest
from perdure.embedded.wiring import adapters_of, path_of
from perdure.engine.operator_log import to_stderr
from perdure.engine.processor import DEFAULTS, Engine, Settings
from perdure.model.tasks import Task
from perdure.registry import Registry
from perdure.runtime.activities import SideActivities
from perdure.runtime.process import Process
from perdure.runtime.wired_engine import WiredEngine
from perdure.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.client.ports import Reader
    from perdure.engine.operator_log import Report
    from perdure.interceptor import Interceptor
    from perdure.model.payloads import AnyCodec
    from perdure.worker.side_loop import SideLoop


class Platform(Process):
    """Engine, steps and worker of one database, in this process.

    Args:
        registry: what is served.
        url: `sqlite:///app.db`, or `memory://` for one that ends with the process.
        codec: encrypts or compresses payloads; by default that of the registry's app.
        settings: of the engine.
        concurrency: concurrent activities.
        report: gets messages for the operator.
        interceptors: around commands, workflow code, attempts and the requests of its clients,
            outermost first; those of the registry's app are around them.

    Attributes:
        worker: runs activities; like `steps` and `attempts`, to be read only.
        steps: runs local activities.
        attempts: counts both.

    Raises:
        UsageError: the address is not understood.
    """

    def __init__(
        self,
        registry: Registry,
        url: str,
        *,
        codec: AnyCodec | None = None,
        settings: Settings = DEFAULTS,
        concurrency: int = 200,
        report: Report | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        super().__init__("engine and worker")
        self._registry = registry
        self._url = url
        self._report = report or to_stderr
        self._ingest: EmbeddedIngest | None = None
        app = registry.app.plus(codec, interceptors)
        self._interceptors = tuple(app.interceptors)
        self._adapters = adapters_of(
            url, shapes_of({name: each.view for name, each in registry.workflows.items()})
        )
        self._activities = SideActivities(registry, app, concurrency)
        self._activities.connect(self.client)
        self.attempts = self._activities.attempts
        self._wired = WiredEngine(
            self._adapters.log,
            self._adapters.store,
            registry,
            activities=self._activities,
            loop=self.side.loop,
            settings=settings,
            report=report,
            interceptors=self._interceptors,
        )
        self.steps = self._wired.steps
        name = f"{os.getpid()}@{socket.gethostname()}"
        self.worker = Worker(name, self.attempts, self._adapters.log.submit, concurrency)
        self.side.watch.on_blocked = self.worker.blocked

    @property
    def engine(self) -> Engine:
        """The engine; only its own thread may use it."""
        return self._wired.engine

    @property
    def side(self) -> SideLoop:
        """The loop on which steps and activities run; a web application may use it, too."""
        return self._activities.side

    def reader(self) -> Reader:
        """A reader of the same medium; the caller must close it."""
        return self._adapters.reader()

    def client(self) -> Client:
        """A client in this process, for one asyncio loop."""
        return Client(self.transport(), payloads=self._activities.payloads, interceptors=self._interceptors)

    def transport(self) -> LocalTransport:
        """The transport of a client's requests, for one asyncio loop."""
        return LocalTransport(self._adapters.channel, self._adapters.reader())

    def state_feed(self) -> LocalStateFeed:
        """Publishes every changed state, on one asyncio loop."""
        return LocalStateFeed(self._adapters.channel)

    # ---- on the engine's thread

    def _open(self) -> None:
        # The file exists and is owned before a provider connects to it. Tasks wait in the channel,
        # steps are held.
        self._activities.start()
        self.steps.hold()
        self._wired.open()
        self._activities.provide(self.engine, self._wake, self._is_stopping)
        self.steps.release()
        self._adapters.channel.deliveries.subscribe_tasks(self._deliver, self._cancel)
        self._ingest = self._begin_ingest()

    def _begin_ingest(self) -> EmbeddedIngest | None:
        """Start the ingest of the file's records."""
        if not self._url.startswith("sqlite:") or not any(
            each.triggers for each in self._registry.workflows.values()
        ):
            return None
        ingest = EmbeddedIngest(
            Path(path_of(self._url)).absolute(), self._registry, self._activities.payloads, self._report
        )
        ingest.start()
        return ingest

    def _deliver(self, tasks: list[Task]) -> None:
        self.side.loop.call_soon_threadsafe(self.worker.deliver, tasks)

    def _cancel(self, tokens: list[str]) -> None:
        self.side.loop.call_soon_threadsafe(self.worker.cancel, tokens)

    def _wake(self) -> None:
        self._adapters.log.wake()

    def _drain(self, grace_s: float) -> None:
        self.side.call(self.worker.drain(grace_s))

    def _close(self) -> None:
        if self._ingest is not None:
            self._ingest.stop()
        try:
            self._wired.close()
        finally:
            self._activities.close()
