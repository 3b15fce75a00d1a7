"""One process on Kafka: wiring."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from perdure.adapters.kafka.client.transport import KafkaTransport
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.reachability import is_away
from perdure.adapters.kafka.status import Status
from perdure.client import Client
from perdure.distributed.deciding import EngineService
from perdure.distributed.working import WorkerService
from perdure.engine.operator_log import to_stderr
from perdure.runtime.activities import SideActivities
from perdure.runtime.process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.distributed.options import EngineOptions, Place, WorkerOptions
    from perdure.engine.operator_log import Report
    from perdure.engine.processor import Engine
    from perdure.interceptor import Interceptor
    from perdure.model.payloads import AnyCodec
    from perdure.registry import Registry
    from perdure.worker.attempt import Attempts
    from perdure.worker.side_loop import SideLoop
    from perdure.worker.steps import LocalSteps
    from perdure.worker.worker import Worker

STEP_THREADS: Final = 64
"""For sync steps, in a process without a worker."""


class KafkaPlatform(Process):
    """An engine, a worker, or both, in this process.

    Args:
        registry: what is served.
        place: the cluster and namespace.
        engine: run an engine with these options; None: none.
        worker: run a worker with these options; None: none.
        codec: encrypts or compresses payloads; by default that of the registry's app.
        report: gets messages for the operator.
        interceptors: around commands, workflow code, attempts and the requests of its clients,
            outermost first; those of the registry's app are around them.

    Attributes:
        status: the status of the Kafka clients.
    """

    def __init__(
        self,
        registry: Registry,
        place: Place,
        *,
        engine: EngineOptions | None = None,
        worker: WorkerOptions | None = None,
        codec: AnyCodec | None = None,
        report: Report = to_stderr,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        assert engine or worker, "an engine, a worker, or both"
        super().__init__(" and ".join([*(["engine"] if engine else []), *(["worker"] if worker else [])]))
        self.status = Status(report, is_away=partial(is_away, place.settings))
        self._place = place
        app = registry.app.plus(codec, interceptors)
        self._interceptors = tuple(app.interceptors)
        self._activities = SideActivities(registry, app, worker.concurrency if worker else STEP_THREADS)
        self._activities.connect(self.client)
        self._deciding = (
            EngineService(
                registry,
                place,
                engine,
                activities=self._activities,
                status=self.status,
                report=report,
                interceptors=self._interceptors,
            )
            if engine
            else None
        )
        self._working = (
            WorkerService(place, worker, self._activities, self.status, has_engine=engine is not None)
            if worker
            else None
        )

    # ---- observed parts

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
        """The loop on which steps and activities run."""
        return self._activities.side

    def client(self) -> Client:
        """A client, for one asyncio loop."""
        transport = KafkaTransport(PlainClients(self._place.namespace, "client", self._place.settings))
        return Client(transport, payloads=self._activities.payloads, interceptors=self._interceptors)

    # ---- runtime.Process

    def _open(self) -> None:
        # An engine answers what a provider asks while it opens; steps and tasks wait until all are
        # open.
        self._activities.start()
        if self._deciding is not None:
            self._deciding.steps.hold()
            self._deciding.open(self._is_stopping.wait)
        self._activities.provide(self.engine, self._wake, self._is_stopping)
        if self._deciding is not None:
            self._deciding.steps.release()
        if self._working is not None:
            self._working.start()

    def _wake(self) -> None:
        if self._deciding is not None:
            self._deciding.log.wake()

    def _drain(self, grace_s: float) -> None:
        if self._working is not None:
            working, self._working = self._working, None
            working.stop(grace_s)

    def _close(self) -> None:
        try:
            self._drain(self._grace_s)
        finally:
            try:
                if self._deciding is not None:
                    self._deciding.close()
            finally:
                self._activities.close()
