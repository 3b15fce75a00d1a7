"""A worker and its tasks from Kafka, wired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.worker.task_source import TaskSource
from perdure.engine.failure_log import AttemptLog
from perdure.worker.worker import Worker

if TYPE_CHECKING:
    from perdure.adapters.kafka.status import Status
    from perdure.distributed.options import Place, WorkerOptions
    from perdure.model.commands import AnyCommand
    from perdure.model.tasks import Task
    from perdure.runtime.activities import SideActivities


class WorkerService:
    """A worker on Kafka. Call it from any thread except the side loop's.

    Args:
        place: the cluster and namespace.
        options: the worker's options.
        activities: open already.
        status: records stalls.
        has_engine: whether an engine of this process logs the attempts that fail.

    Attributes:
        worker: runs attempts; only its loop's thread may use it.
    """

    def __init__(
        self,
        place: Place,
        options: WorkerOptions,
        activities: SideActivities,
        status: Status,
        *,
        has_engine: bool,
    ) -> None:
        self._side = activities.side
        clients = PlainClients(
            place.namespace,
            f"worker-{options.instance}",
            place.settings,
            options.session_timeout_ms,
            options.instance if options.is_static else "",
        )
        log = None if has_engine else AttemptLog(logging.getLogger("perdure.worker"))
        self.worker = Worker(
            options.instance, activities.attempts, self._submit, options.concurrency, attempt_log=log
        )
        self._side.watch.on_blocked = self.worker.blocked
        self._source = TaskSource(
            clients,
            options.queues,
            deliver=self._deliver,
            cancel=self._cancel,
            release=self._release,
            claimant=self.worker.claims.claimant,
            limit=options.concurrency,
            status=status,
        )

    def start(self) -> None:
        """Take tasks."""
        self._source.start()

    def stop(self, grace_s: float) -> None:
        """Take no more tasks; running attempts may end, and are reported.

        Args:
            grace_s: how long they may take, seconds. Attempts that still run then are cut short,
                and their tasks go to other workers.
        """
        self._source.pause()
        self._side.call(self._drain(grace_s))
        self._source.close()

    async def _drain(self, grace_s: float) -> None:
        await self.worker.drain(grace_s)
        await asyncio.sleep(0)  # reports of this turn are flushed

    def _submit(self, reports: Sequence[AnyCommand]) -> None:
        self._source.submit(reports)

    def _deliver(self, tasks: list[Task]) -> None:
        self._side.loop.call_soon_threadsafe(self.worker.deliver, tasks)

    def _cancel(self, tokens: Sequence[str]) -> None:
        self._side.loop.call_soon_threadsafe(self.worker.cancel, tokens)

    def _release(self, tokens: Sequence[str]) -> None:
        def release() -> None:
            self._source.dropped(self.worker.release(tokens))

        self._side.loop.call_soon_threadsafe(release)
