"""Triggers on one machine: records of the file start and signal workflows."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from perdure.adapters.sqlite.published import PublishedRecords
from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread
from perdure.triggers.binding import Bindings

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.engine.operator_log import Report
    from perdure.model.payloads import Payloads
    from perdure.registry import Registry

_logger: Final = logging.getLogger("perdure.ingest")
POLL_INTERVAL_S: Final = 0.05
PAUSE_S: Final = 1.0


class EmbeddedIngest:
    """A thread, from `start` to `stop`.

    Args:
        path: the file.
        registry: the app's registry.
        payloads: encodes arguments.
        report: receives messages for the operator.
    """

    def __init__(self, path: Path, registry: Registry, payloads: Payloads, report: Report) -> None:
        self._path = path
        self._bindings = Bindings(registry, payloads)
        self._report = report
        self._stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name="perdure-ingest")

    def start(self) -> None:
        """Start reading records; the file exists."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading records. Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        records = PublishedRecords(self._path, self._bindings, self._report)
        _logger.info("started")
        try:
            while not self._stopping.is_set():
                try:
                    if not records.take():
                        self._stopping.wait(POLL_INTERVAL_S)
                except InfrastructureError as error:
                    self._report(f"{error}; triggers wait")
                    self._stopping.wait(PAUSE_S)
        finally:
            records.close()
            _logger.info("stopped")
