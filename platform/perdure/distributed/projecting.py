"""A projector and its topics from Kafka, wired."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import psycopg

from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.projection.source import ProjectionSource
from perdure.adapters.postgres.database import is_outage
from perdure.adapters.postgres.migrating import migrate
from perdure.adapters.postgres.progress import Progress
from perdure.adapters.postgres.projector import Projector
from perdure.adapters.postgres.rebuilding import Rebuild
from perdure.adapters.postgres.retention import Retention
from perdure.adapters.postgres.typed_views import keep_in_step
from perdure.distributed.options import unique_name

if TYPE_CHECKING:
    from perdure.adapters.postgres.database import Database
    from perdure.codec.columns import Shape
    from perdure.distributed.options import Place
    from perdure.engine.operator_log import Report

RETRY_AFTER_S: Final = 1.0


class ProjectorService:
    """One process's projector: makes the tables, then fills them until it is stopped.

    Args:
        place: the cluster and namespace.
        database: the target of the tables.
        shapes: the columns of workflow types' views; empty: the views do not change.
        report: receives messages for the operator.
        retention_s: how long a workflow stays after it has closed, seconds; None: for ever.
        is_rebuild: read everything again into a second schema, swap the two, and end.
        session_timeout_ms: after which a silent projector loses its partitions.
    """

    def __init__(
        self,
        place: Place,
        database: Database,
        shapes: Mapping[str, Shape],
        report: Report,
        *,
        retention_s: float | None = None,
        is_rebuild: bool = False,
        session_timeout_ms: int = 6_000,
    ) -> None:
        self.progress = Progress(report)
        self._database = database
        self._shapes = shapes
        self._retention_s = retention_s
        clients = PlainClients(
            place.namespace, f"projector-{unique_name()}", place.settings, session_timeout_ms
        )
        self._source = ProjectionSource(clients, self.progress.on_trouble, is_member=not is_rebuild)
        self._is_rebuild = is_rebuild
        self._stopping = threading.Event()
        self._running: Projector | Rebuild | None = None

    def run_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until `request_stop`; a rebuild, until it is done.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        while not self._prepare():
            if self._stopping.wait(RETRY_AFTER_S):
                self._source.close()
                return
        retention = Retention(self._retention_s) if self._retention_s is not None else None
        if self._is_rebuild:
            self._running = Rebuild(self._database, self._source, self.progress, self._shapes)
        else:
            self._running = Projector(self._database, self._source, self.progress, retention)
        if self._stopping.is_set():
            self._running.stop()
        self._running.run(ready)

    def request_stop(self) -> None:
        """Ask for a stop and return immediately; any thread."""
        self._stopping.set()
        if self._running is not None:
            self._running.stop()

    def _prepare(self) -> bool:
        """Tables and views; False while PostgreSQL is away."""
        try:
            connection = self._database.connect(name="perdure migrate")
            try:
                for applied in migrate(connection, self._database):
                    self.progress.report(f"the schema {self._database.schema} was migrated: {applied}")
                for said in keep_in_step(connection, self._database, self._shapes):
                    self.progress.report(said)
            finally:
                connection.close()
        except psycopg.Error as error:
            if not is_outage(error):
                raise self._database.fault(error) from error
            self.progress.waits(str(self._database.fault(error)))
            return False
        return True
