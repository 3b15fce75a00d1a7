"""LiveRun: the code of one run, driven by events.

An event that concerns the code is applied, and the loop runs until it is idle; the code's requests
come back as actions. Replay does the same, and matches the actions against the history by kind and
number.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final

from perdure import context, errors, interceptor
from perdure.core import flags
from perdure.core.registry import MATCHED, WAKES
from perdure.interceptor import Interceptor, WorkflowCall
from perdure.model import actions as ac
from perdure.model import addresses
from perdure.model import events as ev
from perdure.model.described import described
from perdure.model.info import Info
from perdure.model.payloads import Payloads
from perdure.replay import outcomes
from perdure.replay.blame import waits_at
from perdure.replay.calls import Watch, call, evaluate, watched
from perdure.replay.eviction import evict
from perdure.replay.execution import Execution
from perdure.replay.handlers import handle, raising
from perdure.replay.loop import RunLoop
from perdure.replay.matching import Matching
from perdure.replay.notes import Notes
from perdure.replay.read_only import reading
from perdure.replay.reads import answer, seen
from perdure.replay.recorded_values import arguments
from perdure.replay.runtime import RunRuntime
from perdure.replay.signals import HandledBy, Signals
from perdure.replay.streams import Streams
from perdure.replay.suspensions import CURABLE, Escaped
from perdure.replay.tokens import no_secret
from perdure.replay.updates import answered, handle_update, updater_of, validate
from perdure.workflow import Definition

STOPS: Final = frozenset({ev.WorkflowSuspended, ev.WorkflowPaused, ev.WorkflowResumed})
"""The events from which on the code is not shown what happens, or is shown it again."""

FIRST_VIEWS: Final = 100
SAMPLED_VIEWS: Final = 64
"""Whether a view changes its run is checked for the first views of a type, and then for one in so
many: a view is taken after every batch, and the check costs as much as most views."""


class LiveRun:
    """The code of one run, at the point its history has reached.

    Args:
        definition: of its type.
        workflow_id: its workflow id.
        run_id: the run.
        started: its first event.
        started_at: the time of that event, microseconds.
        payloads: encodes and decodes the code's values.
        watch: called when workflow code begins and stops running; None: no watch.
        interceptors: around the code, outermost first.
        secret: makes the secrets of tokens.

    Raises:
        UnknownFlagsError: the run began under rules of a newer version.

    Attributes:
        signals: the run's signals; the engine records the ignored ones.
    """

    __slots__ = (
        "_definition",
        "_execution",
        "_has_begun",
        "_history_length",
        "_instance",
        "_interceptors",
        "_started",
        "_started_at",
        "_watch",
        "loop",
        "payloads",
        "run_id",
        "runtime",
        "signals",
        "workflow_id",
    )

    def __init__(
        self,
        definition: Definition,
        workflow_id: str,
        run_id: str,
        *,
        started: ev.WorkflowStarted,
        started_at: int,
        payloads: Payloads,
        watch: Watch | None = None,
        interceptors: Sequence[Interceptor] = (),
        secret: Callable[[], str] = no_secret,
    ) -> None:
        flags.check(started.flags)
        self.workflow_id = workflow_id
        self.run_id = run_id
        self._watch = watch
        self._definition = definition
        self._started, self._started_at = started, started_at
        self.payloads = payloads
        self._instance: Any = None
        self._interceptors = interceptors
        self.signals = Signals(run_id, definition, payloads)
        self._has_begun, self._history_length = False, 0
        loop = self.loop = _loop_of(run_id, started)
        seed, rules = started.seed, started.flags
        self.runtime = RunRuntime(loop, seed, payloads, self._info, definition, secret=secret, rules=rules)
        self.runtime.carried = started.tokens
        self._execution = Execution(loop, definition, payloads, rules)
        self.runtime.handlers, self.runtime.memo = self._execution.handlers, started.memo

    # ---- driven by the engine

    def apply(self, event: ev.AnyEvent, at: int, history_length: int = 0) -> list[ac.AnyAction]:
        """Show the code one event of `WAKES`, and return the actions that follow.

        Args:
            event: the event that was just recorded.
            at: of the event, microseconds.
            history_length: the event's id, for `workflow.info()`.

        Raises:
            UsageError, NonDeterministic, Spinning, Blocked: the run must be suspended and this
                object dropped.
        """
        if self._execution.has_ended:
            return []
        loop = self.loop
        loop.now = at
        self._history_length = history_length
        try:
            if self._watch is None:
                self._activate(event)
            else:
                self._watch.enter(self.run_id)
                try:
                    self._activate(event)
                finally:
                    self._watch.leave()
        except (errors.ReplayError, *CURABLE):
            raise
        except BaseException as error:
            # perdure calls some of your methods, as `cancel()` of a future class of yours
            raise Escaped(
                f"an exception was raised where workflow code cannot catch it: {described(error)}"
            ) from error
        return loop.actions.take()

    def replay(self, records: Iterable[ev.EventRecord]) -> list[ac.AnyAction]:
        """Run new code to the end of the history.

        Args:
            records: the whole history; iterated over more than once.

        Returns:
            The actions of the code beyond the history; only a run that was suspended has any.

        Raises:
            errors.ReplayError: the code does not match the recorded history. UsageError,
                NonDeterministic, Spinning, Blocked: the run must be suspended and this object
                dropped.
        """
        self.loop.replaying = True
        matching = Matching(self.run_id, partial(waits_at, self.loop), _look_ahead(self.runtime, records))
        if self._started.delayed_until:
            self.signals.look(records)
        event_id = 1
        for record in records:
            event_id = record.first_event_id
            for event in record.events:
                kind = type(event)
                if kind in WAKES:
                    matching.before(event_id, event)
                    matching.wants(self.apply(event, record.at, event_id))
                elif kind in MATCHED:
                    if self._execution.main is not None or self._execution.has_ended:
                        matching.recorded(event_id, event)
                elif kind in STOPS and (self._has_begun or kind is not ev.WorkflowPaused):
                    self.signals.look(records)
                    matching.suspended(kind)
                event_id += 1
        self.loop.replaying = False
        return _left_over(matching, event_id, self.runtime.used_notes)

    def query(self, name: str, payload: bytes) -> bytes:
        """The encoded answer of a query.

        Raises:
            errors.UsageError: there is no such query.
            Exception: raised by the query.
        """
        asked = self._definition, self.payloads, self._instance, self._evaluate, name, payload
        return watched(self._watch, self.run_id, answer, *asked)

    def view(self) -> bytes | None:
        """The encoded view; None when the type has none or the run has not begun.

        Raises:
            Exception: the view raised it, or its value cannot be encoded. A NotAwaited means that
                the run must be suspended.
        """
        if not self._definition.views:
            return None
        asked = self._definition, self.payloads, self._instance, self._evaluate_view
        return watched(self._watch, self.run_id, seen, *asked)

    def validate(self, name: str, payload: bytes) -> None:
        asked = self._definition, self.payloads, self._instance, self._evaluate, name, payload
        watched(self._watch, self.run_id, validate, *asked)

    def evict(self) -> None:
        """Drop the code and its state without running any of it."""
        self.loop.runtime = self.runtime  # not the result of interceptors
        evict(self.loop, self._instance)

    def _activate(self, event: ev.AnyEvent) -> None:
        _APPLY[type(event)](self, event)
        if self._execution.main is not None:
            self.loop.run()
            self._execution.settle()

    def _evaluate(self, fn: Callable[..., Any], *args: Any) -> Any:
        return reading(self.loop, self._instance, evaluate, fn, *args)

    def _evaluate_view(self, fn: Callable[..., Any], *args: Any) -> Any:
        turn = next(self._definition.view_turns)
        if turn < FIRST_VIEWS or not turn % SAMPLED_VIEWS:
            return self._evaluate(fn, *args)
        return evaluate(self.loop, fn, *args)

    # ---- one method an event

    def on_start(self, event: ev.WorkflowStarted) -> None:
        if not event.delayed_until:
            self.on_begin(event)

    def on_begin(self, event: ev.WorkflowStarted | ev.WorkflowBegun) -> None:
        definition = self._definition
        args, kwargs = arguments(
            self.payloads, definition.run_fn, self._started.input, f"workflow {definition.name!r}"
        )
        try:
            if outbound := interceptor.at("outbound", self._interceptors):
                self.loop.runtime = call(self.loop, interceptor.around_runtime, outbound, self.runtime)
            self._instance = call(self.loop, definition.create, args, kwargs)
        except CURABLE:
            raise
        except BaseException as error:  # noqa: BLE001 - the author's
            self._execution.fail(error)
            return
        self._has_begun = True
        for event_id, signal in self.signals.waited():
            self._accept(event_id, signal)
        first = () if definition.cls is None else (self._instance,)
        self._execution.begin(_main_of(definition, first, args, kwargs, self._interceptors))
        self.runtime.main = self._execution.main

    def on_signal(self, event: ev.SignalReceived) -> None:
        if self._has_begun:
            self._accept(self._history_length, event)
        else:
            self.signals.hold(self._history_length, event)

    def _accept(self, event_id: int, event: ev.SignalReceived) -> None:
        found = self.signals.read(event_id, event, self._history_length, self.loop.replaying)
        if found is not None:
            self._execution.accept(_handler_of(event.name, found, self._instance, self._interceptors))

    def on_update(self, event: ev.UpdateAccepted) -> None:
        found = updater_of(self._definition, self.payloads, event, self.run_id, self._history_length)
        handler = _updater_of(event.name, found, self._instance, self._interceptors)
        self._execution.accept(handle_update(self.loop, self.payloads, event.number, found[0], handler))

    def on_timer_fired(self, event: ev.TimerFired) -> None:
        self.loop.fire_timer(event.number)

    def on_cancel(self, event: ev.WorkflowCancelRequested) -> None:
        self._execution.cancel(event.reason)

    def _info(self) -> Info:
        from datetime import UTC, datetime, timedelta

        return Info(
            workflow_id=self.workflow_id,
            run_id=self.run_id,
            type=self._definition.name,
            started_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._started_at),
            history_length=self._history_length,
            parent=addresses.workflow_of(self._started.parent) or None,
            continued_from=self._started.continued_from or None,
        )


def _loop_of(run_id: str, started: ev.WorkflowStarted) -> RunLoop:
    loop = RunLoop(run_id)
    loop.attributes = started.attributes
    if started.context:
        loop.context.run(context.enter, started.context)
    return loop


_AHEAD: Final = frozenset({ev.PatchApplied, ev.TokenIssued, *STOPS})
_NAMES: Final = sorted(kind.__name__ for kind in _AHEAD)


def _left_over(matching: Matching, event_id: int, notes: Notes | None) -> list[ac.AnyAction]:
    """The actions beyond the history, whose next event would be `event_id`."""
    wanted = matching.left_over(event_id)
    if notes is None or not matching.is_suspended:
        return wanted
    return [*notes.replayed(), *wanted]


def _look_ahead(runtime: RunRuntime, records: Iterable[ev.EventRecord]) -> Streams | None:
    """Look ahead in the history for facts that the code needs before it reaches their events:
    patches, secrets of tokens.

    Returns:
        The streams of a run that its history leaves suspended; None for all others, whose values
        are durable.
    """
    is_suspended = False
    holding = getattr(records, "holding", None)  # of a `codec.long_history`, which is read only in part
    for record in records if holding is None else holding(_NAMES):
        for event in record.events:
            if type(event) not in _AHEAD:
                continue
            match event:
                case ev.PatchApplied():
                    runtime.patches.applied_before(event)
                case ev.TokenIssued():
                    runtime.tokens.issued_before(event)
                case ev.WorkflowPaused(has_begun=False):
                    pass
                case _:
                    is_suspended = type(event) is not ev.WorkflowResumed
    if not is_suspended:
        return None
    runtime.streams.is_suspended = True
    return runtime.streams


def _main_of(
    definition: Definition,
    first: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    interceptors: Sequence[Interceptor],
) -> Coroutine[Any, Any, Any]:
    """Call the run's function, and return its main coroutine."""
    if found := interceptor.at("workflow", interceptors):
        return _intercepted(
            found, WorkflowCall("run", definition.name, args, kwargs), definition.run_fn, first
        )
    try:
        coroutine: Coroutine[Any, Any, Any] = definition.run_fn(*first, *args, **kwargs)
    except CURABLE:
        raise
    except BaseException as error:  # noqa: BLE001 - a decorator of the author's, around the coroutine function
        return raising(error)
    return coroutine


def _handler_of(
    name: str, signal: HandledBy, instance: Any, interceptors: Sequence[Interceptor]
) -> Coroutine[Any, Any, Any]:
    """The coroutine that handles a signal."""
    fn, args, kwargs = signal
    if found := interceptor.at("workflow", interceptors):
        return _intercepted(found, WorkflowCall("signal", name, args, kwargs), fn, (instance,))
    return handle(fn, instance, args, kwargs)


def _updater_of(
    name: str, update: HandledBy, instance: Any, interceptors: Sequence[Interceptor]
) -> Coroutine[Any, Any, Any]:
    """The coroutine that handles an update; its result is the answer."""
    fn, args, kwargs = update
    if found := interceptor.at("workflow", interceptors):
        return _intercepted(found, WorkflowCall("update", name, args, kwargs), fn, (instance,))
    return answered(fn, (instance,), args, kwargs)


async def _intercepted(
    found: Sequence[Interceptor], call: WorkflowCall, fn: Callable[..., Any], first: tuple[Any, ...]
) -> Any:
    """Call your function through interceptors."""

    async def proceed(asked: WorkflowCall) -> Any:
        if asked.kind == "update":
            return await answered(fn, first, asked.args, asked.kwargs)
        result = fn(*first, *asked.args, **asked.kwargs)
        return await result if asked.kind == "run" or result is not None else None

    return await interceptor.around_workflow(found, proceed)(call)


def _on_activity_failed(run: LiveRun, event: ev.ActivityFailed) -> None:
    outcomes.fail(run.runtime, run.payloads, event)


def _on_activity_cancelled(run: LiveRun, event: ev.ActivityCancelled) -> None:
    run.runtime.stopped_activity(event.number)


def _on_other(run: LiveRun, event: ev.AnyEvent) -> None:
    """Apply an event of a child."""
    run.runtime.others.apply(event)


def _on_token(run: LiveRun, event: ev.TokenResolved | ev.TokenFailed | ev.TokenExpired) -> None:
    run.runtime.tokens.apply(event)


def _on_answer(run: LiveRun, event: ev.AnyEvent) -> None:
    """Apply the event that answers an action, of any kind."""
    run.runtime.awaited.apply(event)


_APPLY: Final[dict[type[ev.Event], Callable[[LiveRun, Any], None]]] = {
    **dict.fromkeys(WAKES, _on_answer),
    ev.WorkflowStarted: LiveRun.on_start,
    ev.WorkflowBegun: LiveRun.on_begin,
    ev.SignalReceived: LiveRun.on_signal,
    ev.ActivityCompleted: outcomes.complete,
    ev.ActivityFailed: _on_activity_failed,
    ev.ActivityCancelled: _on_activity_cancelled,
    ev.TimerFired: LiveRun.on_timer_fired,
    ev.WorkflowCancelRequested: LiveRun.on_cancel,
    ev.UpdateAccepted: LiveRun.on_update,
    ev.ChildStarted: _on_other,
    ev.ChildRefused: _on_other,
    ev.ChildCompleted: _on_other,
    ev.ChildFailed: _on_other,
    ev.ChildCancelled: _on_other,
    ev.TokenResolved: _on_token,
    ev.TokenFailed: _on_token,
    ev.TokenExpired: _on_token,
}
if _APPLY.keys() != WAKES:
    raise TypeError(f"LiveRun applies other events than those that wake code: {_APPLY.keys() ^ WAKES}")
