"""Facts about a run, for its code."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Info(Struct, frozen=True):
    """Facts about a run.

    Attributes:
        workflow_id: its address, chosen by the caller.
        run_id: the run; ours.
        type: the workflow's name.
        started_at: with time zone UTC.
        history_length: events so far.
        parent: the workflow id of the run that this one is a child of; None when it has none.
    """

    workflow_id: str
    run_id: str
    type: str
    started_at: datetime
    history_length: int
    parent: str | None = None
