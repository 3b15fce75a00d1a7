"""Runs that have closed, and that another run of the same workflow id has followed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from perdure.codec.long_history import LONG, LongHistory
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record
from perdure.core.run import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.core.state import RunState
    from perdure.engine.activation import Activation
    from perdure.model import events as ev


class EarlierRuns:
    """Finds earlier runs, only to be read.

    Args:
        activation: the runs of the open batch.
    """

    __slots__ = ("_activation", "_last")

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._last: RunState | None = None

    def find(self, workflow_id: str, run_id: str) -> RunState | None:
        """The end of a closed run; None: there is no such run.

        The last one is cached: a caller that repeats a request asks for the same run again.
        """
        active = self._activation.touched.get(run_id)
        if active is not None:
            found = active.state if active.state.workflow_id == workflow_id else None
        elif (last := self._last) is not None and (last.workflow_id, last.run_id) == (workflow_id, run_id):
            return last
        else:
            found = self._last = self._read(workflow_id, run_id)
        return found if found is not None and found.phase.is_closed else None

    def forget(self) -> None:
        """Forget the run that is cached."""
        self._last = None

    def open_events(self, run_id: str) -> Sequence[ev.AnyEvent]:
        """The events of a run in the open batch."""
        active = self._activation.touched.get(run_id)
        return active.events if active is not None else ()

    def _read(self, workflow_id: str, run_id: str) -> RunState | None:
        runs = self._activation.runs
        last = runs.page(workflow_id, run_id, PAGE_EVENTS, limit=1).records
        if not last:
            return None
        if decode_event_record(last[-1]).last_event_id < LONG:
            return fold(runs.history(workflow_id, run_id))
        return fold(LongHistory(partial(runs.page, workflow_id, run_id)))
