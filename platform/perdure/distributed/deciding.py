"""An engine on Kafka with its store, wired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from perdure.adapters.kafka.clients.topic_identity import identity_of_events
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.engine.log import KafkaLog
from perdure.adapters.process.channel import Channel
from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.store import PartitionedStore
from perdure.codec.avro import EVENTS
from perdure.runtime.wired_engine import WiredEngine

if TYPE_CHECKING:
    from perdure.adapters.kafka.status import Status
    from perdure.distributed.options import EngineOptions, Place
    from perdure.engine.operator_log import Report
    from perdure.interceptor import Interceptor
    from perdure.registry import Registry
    from perdure.runtime.activities import SideActivities


class EngineService:
    """An engine on Kafka with its store. Use it on one thread, from `open` to `close`, except for
    `wake`.

    Args:
        registry: the workflow types.
        place: the cluster and namespace.
        options: the engine's options.
        activities: run the steps; open already.
        status: records stalls.
        report: gets messages for the operator.
        interceptors: around commands and workflow code, outermost first.

    Attributes:
        engine: only its own thread may use it.
        log: its status can be read from any thread.
        steps: runs local activities.
    """

    def __init__(
        self,
        registry: Registry,
        place: Place,
        options: EngineOptions,
        *,
        activities: SideActivities,
        status: Status,
        report: Report,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._status = status
        self._clients = EngineClients(
            place.namespace,
            options.instance,
            place.settings,
            protocol=options.protocol,
            is_static=options.is_static,
            session_timeout_ms=options.session_timeout_ms,
        )
        self._store = PartitionedStore(options.state_dir / place.namespace, "", self._place_of, report)
        self.log = KafkaLog(self._clients, Channel(), PartitionRestorer(self._store), status=status)
        self._wired = WiredEngine(
            self.log,
            self._store,
            registry,
            activities=activities,
            loop=activities.side.loop,
            settings=options.settings,
            report=report,
            encode=EVENTS.encode,
            interceptors=interceptors,
        )
        self.engine, self.steps = self._wired.engine, self._wired.steps

    def open(self, is_given_up: Callable[[float], bool]) -> None:
        """Join the engines' group. Waits for the broker and the topics, and reports the reason.

        Args:
            is_given_up: waits for some seconds; True ends the wait.

        Raises:
            InfrastructureError: it was given up, or cannot work; the message says what to do.
        """
        self._store.directory.identify(identity_of_events(self._clients, self._status, is_given_up))
        self._clients.framing.open(self._status, is_given_up)
        self._wired.open()

    def close(self) -> None:
        """Leave the group: other engines take over immediately. Idempotent."""
        self._wired.close()

    def _place_of(self, workflow_id: str) -> int:
        return self.log.input_of(workflow_id)[0]
