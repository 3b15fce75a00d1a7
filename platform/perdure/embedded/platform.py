"""One process, one file: wiring."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from perdure.client import Client
from perdure.codec.columns import shapes_of
from perdure.codec.payloads import JsonPayloads, PayloadCodec
from perdure.embedded.ingesting import EmbeddedIngest
from perdure.embedded.side_loop import SideLoop
from perdure.embedded.wiring import adapters_of, path_of
from perdure.engine.processor import DEFAULTS, Engine, Settings
from perdure.engine.report import to_stderr
from perdure.errors import InfrastructureError
from perdure.log.local import LocalTransport
from perdure.log.state_feed import LocalStateFeed
from perdure.model.tasks import Task
from perdure.registry import Registry
from perdure.replay import eviction, guard
from perdure.replay.watchdog import Watchdog
from perdure.system import RandomIds, SystemClock
from perdure.worker.attempt import Attempts
from perdure.worker.providers import Provided
from perdure.worker.steps import LocalSteps
from perdure.worker.worker import Worker

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.engine.report import Report

GRACE_S: Final = 10.0


class Platform:
    """Engine, steps and worker of one database, in this process.

    Args:
        registry: what is served.
        url: `sqlite:///app.db`, or `memory://` for one that is gone with the process.
        codec: encrypts or compresses payloads.
        settings: of the engine.
        concurrency: activities at once.
        report: told in words what an operator should know.

    Attributes:
        worker: runs activities; with `steps` and `attempts` for those who look, not touch.
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
        codec: PayloadCodec | None = None,
        settings: Settings = DEFAULTS,
        concurrency: int = 200,
        report: Report | None = None,
    ) -> None:
        self._registry = registry
        self._url = url
        self._report = report or to_stderr
        self._ingest: EmbeddedIngest | None = None
        self._codec = codec
        self._settings = settings
        self._concurrency = concurrency
        self._adapters = adapters_of(url, shapes_of({name: each.view for name, each in registry.workflows.items()}))
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="perdure-activity")
        self._side = SideLoop("perdure-side")
        self._provided = Provided(registry.providers)
        payloads = JsonPayloads(codec=codec, validate_on_encode=False)
        self.attempts = Attempts(registry.activities, payloads, self._threads, self._provided.instances)
        self.steps = LocalSteps(self._side.loop, self.attempts, self._adapters.log.submit)
        self._engine = Engine(
            self._adapters.log,
            self._adapters.store,
            SystemClock(),
            RandomIds(),
            self.steps,
            registry.workflows,
            payloads,
            settings,
            report,
        )
        name = f"{os.getpid()}@{socket.gethostname()}"
        self.worker = Worker(name, self.attempts, self._adapters.log.submit, concurrency)
        self._thread: threading.Thread | None = None
        self._is_stopping = threading.Event()
        self._has_stopped = threading.Event()
        self._fault: BaseException | None = None
        self._grace_s = GRACE_S
        self._watchdog: Watchdog | None = None

    @property
    def engine(self) -> Engine:
        """The engine; only its own thread may use it."""
        return self._engine

    @property
    def side(self) -> SideLoop:
        """Where steps and activities run; a web application may, too."""
        return self._side

    def start(self) -> None:
        """Serve, with the engine in a thread of its own; returns once the database is open.

        Raises:
            InfrastructureError: the database cannot be used; the message says what to do.
        """
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="perdure-engine", daemon=True)
        self._thread.start()
        opened.wait()
        if self._fault is not None:
            raise self._fault

    def run_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve, with the engine on this thread (best the main one: then code that blocks can always be interrupted), until `stop`.

        Args:
            ready: called once the database is open.

        Raises:
            InfrastructureError: the database cannot be used (any more); the message says what to do.
        """
        opened = threading.Event()
        self._run(opened, ready)
        if self._fault is not None:
            raise self._fault

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop: attempts that run may end within the grace, then the engine closes. From any thread but the engine's. Idempotent.

        Args:
            grace_s: seconds.
        """
        self.request_stop(grace_s)
        if self._thread is not None:
            self._thread.join()

    def request_stop(self, grace_s: float = GRACE_S) -> None:
        """Ask for a stop and return at once; also from a signal handler."""
        if not self._is_stopping.is_set():
            self._is_stopping.set()
            self._grace_s = grace_s
            self._adapters.log.wake()

    def reader(self) -> Reader:
        """Of the same medium; to be closed."""
        return self._adapters.reader()

    def client(self) -> Client:
        """A client in this process, for one asyncio loop."""
        return Client(self.transport(), payloads=JsonPayloads(codec=self._codec))

    def transport(self) -> LocalTransport:
        """What carries a client's requests, for one asyncio loop."""
        return LocalTransport(self._adapters.channel, self._adapters.reader())

    def state_feed(self) -> LocalStateFeed:
        """Tells of every state that changes, on one asyncio loop."""
        return LocalStateFeed(self._adapters.channel)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # ---- on the engine's thread

    def _run(self, opened: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - told by start() or run_forever()
            self._fault = error
            self._close()
            opened.set()
            return
        opened.set()
        ready()
        try:
            while not self._is_stopping.is_set():
                self._engine.run_batch()
            self._drain()
        except InfrastructureError as error:
            self._fault = error
        finally:
            self._close()
            self._has_stopped.set()

    def _open(self) -> None:
        eviction.install_hooks()
        guard.install()
        for definition in self._registry.workflows.values():
            guard.watch_module(sys.modules[(definition.cls or definition.run_fn).__module__])
        if self._settings.block_limit_s:
            self._watchdog = Watchdog(self._settings.block_limit_s)
            self._engine.runs.watch = self._watchdog
        self._side.start()
        self._side.call(self._provided.open())
        self._engine.open()
        self._adapters.channel.subscribe_tasks(self._deliver, self._cancel)
        self._ingest = self._begin_ingest()

    def _begin_ingest(self) -> EmbeddedIngest | None:
        """Triggers take the records of the file."""
        if not self._url.startswith("sqlite:") or not any(each.triggers for each in self._registry.workflows.values()):
            return None
        ingest = EmbeddedIngest(
            Path(path_of(self._url)).absolute(), self._registry, JsonPayloads(codec=self._codec), self._report
        )
        ingest.start()
        return ingest

    def _deliver(self, tasks: list[Task]) -> None:
        self._side.loop.call_soon_threadsafe(self.worker.deliver, tasks)

    def _cancel(self, tokens: list[str]) -> None:
        self._side.loop.call_soon_threadsafe(self.worker.cancel, tokens)

    def _drain(self) -> None:
        """Go on with batches while the attempts that run come to their end."""
        drained = threading.Event()

        async def drain() -> None:
            await self.worker.drain(self._grace_s)
            drained.set()
            self._adapters.log.wake()

        self._side.loop.call_soon_threadsafe(lambda: self._side.loop.create_task(drain()))
        while not drained.is_set():
            self._engine.run_batch(0.1)
        self._engine.run_batch(0.0)

    def _close(self) -> None:
        if self._ingest is not None:
            self._ingest.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._engine.close()
        if self._side.is_running:
            try:
                self._side.call(self._provided.close(), 5.0)
            finally:
                self._side.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
