"""LRU cache of runs: folded state and, when needed, live code. A miss folds the history and replays
it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.authoring.workflow_type import definition_of_run, why_unknown
from perdure.codec.long_history import LONG, LongHistory
from perdure.codec.paging import PAGE_EVENTS
from perdure.core.run import fold
from perdure.core.state import Pause, Phase, RunState
from perdure.model import events as ev
from perdure.replay.beginning import Beginning
from perdure.replay.calls import watched
from perdure.replay.live import LiveRun
from perdure.replay.suspensions import SUSPENDING
from perdure.replay.tokens import no_secret

if TYPE_CHECKING:
    from perdure.engine.ports import Ids, Store
    from perdure.interceptor import Interceptor
    from perdure.model.failure import FailureInfo
    from perdure.model.payloads import Payloads
    from perdure.model.replies import History
    from perdure.model.states import WorkflowState
    from perdure.replay.calls import Watch
    from perdure.workflow import Definition


class ActiveRun:
    """A run in memory.

    Attributes:
        state: folded from its events.
        live: its code; None if it is not needed, or cannot be replayed.
        events: its events in the open batch.
        public: the public state that was written last; None before the first time.
        view: the last view; `view_fault` says why it is not the current one.
        is_stale: the code has run since the view was evaluated.
    """

    __slots__ = ("events", "is_stale", "live", "public", "state", "view", "view_fault")

    def __init__(self, state: RunState, public: WorkflowState | None) -> None:
        self.state = state
        self.live: LiveRun | None = None
        self.events: list[ev.AnyEvent] = []
        self.public = public
        self.view = public.view if public is not None else b""
        self.view_fault = public.reason if public is not None and public.reason != state.reason else ""
        self.is_stale = False

    def drop_code(self) -> None:
        """Forget the code; a replay brings it back when it is needed."""
        if self.live is not None:
            self.live.evict()
            self.live = None

    def drop_code_if_spoilt(self) -> None:
        """Forget the code if a query or a view has changed the run: only a replay can undo that."""
        if self.live is not None and self.live.loop.is_spoilt:
            self.drop_code()


class ActiveRuns:
    """The current run of each workflow id in use, least recently used first.

    Args:
        store: has the histories.
        definitions: workflow types by name.
        payloads: encodes and decodes the code's values.
        capacity: the most runs that are kept between batches.
        interceptors: around the code, outermost first.
        ids: makes the secrets of tokens; None: runs are replayed only.
    """

    def __init__(
        self,
        store: Store,
        definitions: Mapping[str, Definition],
        payloads: Payloads,
        *,
        capacity: int,
        interceptors: Sequence[Interceptor] = (),
        ids: Ids | None = None,
    ) -> None:
        self._interceptors = interceptors
        self._secret = no_secret if ids is None else ids.secret
        self._store = store
        self._definitions = definitions
        self._payloads = payloads
        self._capacity = capacity
        self._runs: OrderedDict[str, ActiveRun] = OrderedDict()
        self.replays = 0
        self.watch: Watch | None = None

    def watched(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call what may call code of yours: `replay.calls.watched`."""
        return watched(self.watch, what, function, *args)

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As `Payloads.decode_arguments`, watched."""
        decoded: tuple[tuple[Any, ...], dict[str, Any]] = self.watched(
            what, lambda: self._payloads.decode_arguments(fn, payload, what=what)
        )
        return decoded

    def failure_of(self, error: BaseException) -> FailureInfo:
        """An exception of yours as it is recorded; its `__str__` may be anything."""
        try:
            found: FailureInfo = self.watched("an exception", self._payloads.encode_failure, error)
        except SUSPENDING as blocked:
            # a new one, which leads to no exception of yours
            found = self._payloads.encode_failure(type(blocked)(str(blocked)))
        return found

    def __len__(self) -> int:
        """Number of cached runs."""
        return len(self._runs)

    def find(self, workflow_id: str) -> ActiveRun | None:
        """The current run of a workflow id, or its last closed one; None when there never was
        one.
        """
        active = self._runs.get(workflow_id)
        if active is not None:
            self._runs.move_to_end(workflow_id)
            return active
        public = self._store.state(workflow_id)
        if public is None:
            return None
        state = fold(self._records(workflow_id, public.run_id, public.history_length))
        state.last_hash = self._store.last_hash(workflow_id, public.run_id)
        active = self._runs[workflow_id] = ActiveRun(state, public)
        return active

    def is_live(self, workflow_id: str, run_id: str) -> bool:
        """Whether the run's code is in memory, at the end of its history."""
        active = self._runs.get(workflow_id)
        return active is not None and active.live is not None and active.state.run_id == run_id

    def can_replay(self, records: list[ev.EventRecord]) -> bool:
        """Whether the code of this process can replay a history; does not change the cache."""
        try:
            live = self.create_live(ActiveRun(fold(records), None))
        except LookupError:
            return False
        self.replays += 1
        try:
            live.replay(records)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the batch that brings the run back says what it is
            return False
        finally:
            live.evict()
        return True

    def history(self, workflow_id: str, run_id: str) -> list[ev.EventRecord]:
        """The recorded events of a run; empty: none."""
        return self._store.events(workflow_id, run_id)

    def page(self, workflow_id: str, run_id: str, from_event_id: int, *, limit: int = PAGE_EVENTS) -> History:
        """A page of the recorded history of a run; empty when there is none."""
        return self._store.page(workflow_id, run_id, from_event_id, limit)

    def add(self, active: ActiveRun) -> None:
        """Add a new run; an older run of the same workflow id is dropped."""
        self.drop(active.state.workflow_id)
        self._runs[active.state.workflow_id] = active

    def _records(
        self, workflow_id: str, run_id: str, length: int, more: Sequence[ev.EventRecord] = ()
    ) -> list[ev.EventRecord] | LongHistory:
        """The history of a run, and what is not in the store yet; a long one is never decoded as a
        whole.
        """
        if length < LONG:
            return [*self._store.events(workflow_id, run_id), *more]
        return LongHistory(partial(self._store.page, workflow_id, run_id), more)

    def bring_live(self, active: ActiveRun) -> list[object]:
        """Replay the run's code to the end of its history; if the run is paused, to the pause.

        Returns:
            The actions of the code beyond the history; only a run that was suspended has any.

        Raises:
            LookupError: no type of this name, or not its version, is known here.
            ReplayError, NonDeterministic, Spinning, Blocked: see `LiveRun.replay`.
        """
        live = self.create_live(active)
        self.replays += 1
        # What the open batch has recorded of the run is not in the store yet.
        state, more = active.state, [record_of(active, b"")] if active.events else []
        records: Iterable[ev.EventRecord] = self._records(
            state.workflow_id, state.run_id, state.last_event_id, more
        )
        if state.phase is Phase.PAUSED:
            records = Beginning(records, state.part(Pause).event_id)
        try:
            wanted = live.replay(records)
        except BaseException:
            live.evict()
            raise
        active.live = live
        active.is_stale = True
        return list(wanted)

    def create_live(self, active: ActiveRun) -> LiveRun:
        """Create the run's code; no event is shown to it yet.

        Raises:
            LookupError: this process has no workflow type of that name.
        """
        state = active.state
        definition = definition_of_run(self._definitions, state.started)
        if definition is None:
            raise LookupError(why_unknown(self._definitions, state.started))
        return LiveRun(
            definition,
            state.workflow_id,
            state.run_id,
            started=state.started,
            started_at=state.started_at,
            payloads=self._payloads,
            watch=self.watch,
            interceptors=self._interceptors,
            secret=self._secret,
        )

    def newest_version(self, type: str) -> int:
        """That new runs of a type take, as it is recorded."""
        definition = self._definitions.get(type)
        return 0 if definition is None else definition.recorded_version

    def drop(self, workflow_id: str) -> None:
        """Forget a run; the store has it."""
        active = self._runs.pop(workflow_id, None)
        if active is not None:
            active.drop_code()

    def drop_run(self, workflow_id: str, run_id: str) -> None:
        """Forget this run, unless a newer one has its workflow id."""
        active = self._runs.get(workflow_id)
        if active is not None and active.state.run_id == run_id:
            self.drop(workflow_id)

    def trim(self) -> None:
        """Forget the least recently used runs beyond the capacity. Called between batches."""
        while len(self._runs) > self._capacity:
            self.drop(next(iter(self._runs)))

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the runs of these workflow ids."""
        for workflow_id in [each for each in self._runs if is_gone(each)]:
            self.drop(workflow_id)

    def clear(self) -> None:
        """Forget all."""
        for workflow_id in list(self._runs):
            self.drop(workflow_id)


def record_of(active: ActiveRun, previous_hash: bytes) -> ev.EventRecord:
    """The record of the run's events in the open batch."""
    state = active.state
    first = state.last_event_id - len(active.events) + 1
    return ev.EventRecord(
        state.workflow_id,
        state.run_id,
        first,
        at=state.last_at,
        input_partition=state.input_partition,
        input_offset=state.input_offset,
        previous_hash=previous_hash,
        events=active.events,
    )
