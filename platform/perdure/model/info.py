"""Facts about a run, for its code."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

SUGGESTED_EVENTS: Final = 4_000
"""The number of events from which a new run is suggested; they replay in about 40 ms and take a few
hundred kilobytes."""


class Info(Struct, frozen=True):
    """Facts about a run.

    Attributes:
        workflow_id: chosen by the caller.
        run_id: chosen by perdure.
        type: the workflow's name.
        started_at: with time zone UTC.
        history_length: the number of events so far.
        continued_from: the id of the run that this one continues; None when it continues none.
        parent: the workflow id of the run that this one is a child of; None when it has none.
    """

    workflow_id: str
    run_id: str
    type: str
    started_at: datetime
    history_length: int
    parent: str | None = None
    continued_from: str | None = None

    @property
    def continue_as_new_suggested(self) -> bool:
        """Whether the history has become long: more than `SUGGESTED_EVENTS` events."""
        return self.history_length > SUGGESTED_EVENTS
