"""Log lines that explain one run, at DEBUG: the events that each committed batch has recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.engine.ports import Batch

_logger: Final = logging.getLogger("perdure.engine.runs")


def explain(batch: Batch) -> None:
    """Log the events of a committed batch, one line per run. If DEBUG is off, this costs one check
    of the level.
    """
    if not _logger.isEnabledFor(logging.DEBUG):
        return
    for record, _ in batch.events:
        kinds = ", ".join(type(event).__name__ for event in record.events)
        about = {"workflow_id": record.workflow_id, "run_id": record.run_id}
        _logger.debug(
            "workflow %s, from event %d: %s", record.workflow_id, record.first_event_id, kinds, extra=about
        )
