"""An engine with its steps, guard and watchdog, wired in the same way for every log and store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.codec.records import encode_event_record
from perdure.engine.processor import DEFAULTS, Engine, Settings
from perdure.replay.installing import install
from perdure.system import RandomIds, SystemClock
from perdure.worker.steps import LocalSteps

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from perdure.engine.operator_log import Report
    from perdure.engine.ports import Clock, Log, Store
    from perdure.interceptor import Interceptor
    from perdure.model.events import EventRecord
    from perdure.registry import Registry
    from perdure.replay.watchdog import Watchdog
    from perdure.runtime.activities import Activities


class WiredEngine:
    """From `open` to `close`, both on the thread that runs the batches.

    Args:
        log: commands in, batches out.
        store: the materialised state.
        registry: the workflow types.
        activities: run the steps.
        loop: the asyncio loop on which steps run.
        settings: what may be tuned.
        clock: the time of day; by default the system's.
        report: gets messages for the operator; by default on standard error.
        encode: an event record as the log writes it.
        interceptors: around commands and workflow code, outermost first.

    Attributes:
        engine: only its own thread may use it.
        steps: runs local activities.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        registry: Registry,
        *,
        activities: Activities,
        loop: asyncio.AbstractEventLoop,
        settings: Settings = DEFAULTS,
        clock: Clock | None = None,
        report: Report | None = None,
        encode: Callable[[EventRecord], bytes] = encode_event_record,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._watchdog: Watchdog | None = None
        self.steps = LocalSteps(loop, activities.attempts, log.submit)
        self.engine = Engine(
            log,
            store,
            clock or SystemClock(),
            ids=RandomIds(),
            steps=self.steps,
            definitions=registry.served,
            payloads=activities.payloads,
            settings=settings,
            report=report,
            encode=encode,
            interceptors=interceptors,
        )

    def open(self) -> None:
        """Guard the workflows' code, then open log and store.

        Raises:
            InfrastructureError: the message says what to do.
        """
        if self._watchdog is None:
            self._watchdog = install(self._registry.definitions, self._settings.block_limit_s)
        self.engine.runs.watch = self._watchdog
        self.engine.open()

    def close(self) -> None:
        """Evict all runs without running a line of their code, and give up log and store.
        Idempotent.
        """
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        self.engine.close()
