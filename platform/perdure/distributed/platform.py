"""One process on Kafka: wiring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.distributed.activities import Activities
from perdure.distributed.deciding import Deciding
from perdure.distributed.working import Working
from perdure.engine.report import to_stderr
from perdure.errors import InfrastructureError
from perdure.log.kafka.plain_clients import PlainClients
from perdure.log.kafka.status import Status
from perdure.log.kafka.transport import KafkaTransport

if TYPE_CHECKING:
    from perdure.codec.payloads import PayloadCodec
    from perdure.distributed.options import EngineOptions, Place, WorkerOptions
    from perdure.embedded.side_loop import SideLoop
    from perdure.engine.processor import Engine
    from perdure.engine.report import Report
    from perdure.registry import Registry
    from perdure.worker.attempt import Attempts
    from perdure.worker.steps import LocalSteps
    from perdure.worker.worker import Worker

GRACE_S: Final = 10.0
STEP_THREADS: Final = 64
"""For sync steps, in a process without a worker."""


class KafkaPlatform:
    """An engine, a worker, or both, in this process.

    Args:
        registry: what is served.
        place: where the topics are.
        engine: run an engine, so.
        worker: run a worker, so.
        codec: encrypts or compresses payloads.
        report: told in words what an operator should know.

    Attributes:
        status: how the Kafka clients are doing.
    """

    def __init__(
        self,
        registry: Registry,
        place: Place,
        *,
        engine: EngineOptions | None = None,
        worker: WorkerOptions | None = None,
        codec: PayloadCodec | None = None,
        report: Report = to_stderr,
    ) -> None:
        assert engine or worker, "an engine, a worker, or both"
        self.status = Status(report)
        self._place = place
        self._codec = codec
        self._activities = Activities(registry, codec, worker.concurrency if worker else STEP_THREADS)
        self._deciding = Deciding(registry, place, engine, self._activities, self.status, report) if engine else None
        self._working = Working(place, worker, self._activities, self.status) if worker else None
        self._is_stopping = threading.Event()
        self._grace_s = GRACE_S
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    # ---- for those who look

    @property
    def engine(self) -> Engine | None:
        """The engine; only its own thread may use it."""
        return self._deciding.engine if self._deciding else None

    @property
    def steps(self) -> LocalSteps | None:
        """Runs local activities, beside an engine."""
        return self._deciding.steps if self._deciding else None

    @property
    def worker(self) -> Worker | None:
        """Runs activities."""
        return self._working.worker if self._working else None

    @property
    def attempts(self) -> Attempts:
        """Counts both."""
        return self._activities.attempts

    @property
    def side(self) -> SideLoop:
        """Where steps and activities run."""
        return self._activities.side

    def client(self) -> Client:
        """A client, for one asyncio loop."""
        transport = KafkaTransport(PlainClients(self._place.namespace, "client", self._place.settings))
        return Client(transport, payloads=JsonPayloads(codec=self._codec))

    # ---- running

    def start(self) -> None:
        """Serve, with the engine in a thread of its own; returns once it has begun.

        Raises:
            InfrastructureError: it cannot begin; the message says what to do.
        """
        opened = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(opened.set,), name="perdure-engine", daemon=True)
        self._thread.start()
        while not opened.wait(0.05) and self._thread.is_alive():
            pass
        if self._fault is not None:
            raise self._fault

    def run_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve, with the engine on this thread (best the main one: then code that blocks can always be interrupted), until `stop`.

        Args:
            ready: called once it has begun: the broker answers, the topics are there.

        Raises:
            InfrastructureError: Kafka cannot be used (any more); the message says what to do.
        """
        self._serve(ready)
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
            self._grace_s = grace_s
            self._is_stopping.set()
            self._wake()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _serve(self, ready: Callable[[], None]) -> None:
        try:
            self._activities.open()
            if self._deciding is not None:
                self._deciding.open(self._is_stopping.wait)
            if self._working is not None:
                self._working.start()
            ready()
            self._run()
        except BaseException as error:  # noqa: BLE001 - told by start() or run_forever()
            if not self._is_stopping.is_set() or not isinstance(error, InfrastructureError):
                self._fault = error
        finally:
            self._close()

    def _run(self) -> None:
        if self._deciding is None:
            self._is_stopping.wait()
            self._stop_working()
            return
        engine = self._deciding.engine
        while not self._is_stopping.is_set():
            engine.run_batch()
        draining = threading.Thread(target=self._drain, name="perdure-drain")
        draining.start()
        try:
            while draining.is_alive():
                engine.run_batch(0.1)
        finally:
            draining.join()

    def _drain(self) -> None:
        self._stop_working()
        self._wake()

    def _stop_working(self) -> None:
        if self._working is not None:
            working, self._working = self._working, None
            working.stop(self._grace_s)

    def _wake(self) -> None:
        if self._deciding is not None:
            self._deciding.log.wake()

    def _close(self) -> None:
        try:
            self._stop_working()
        finally:
            try:
                if self._deciding is not None:
                    self._deciding.close()
            finally:
                self._activities.close()
