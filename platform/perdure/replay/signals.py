"""The signals of one run, until they reach their handlers.

A signal is checked against the code before it is recorded, unless there is no code yet: the type of
the run is unknown, or its start is delayed. The code that is deployed later may have no handler for
the signal, or may not be able to read its arguments. Such a signal is ignored, and the history
records that: `CommandIgnored`, whose command names the event. Later code ignores it, too, even if
it has a handler, since the history does not have the actions of that handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from perdure import errors
from perdure.model import events as ev
from perdure.model.payloads import Payloads
from perdure.replay.recorded_values import arguments
from perdure.workflow import Definition

_NEVER: Final = 2**63
_KIND: Final = "SignalWorkflow of event "


HandledBy = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A handler, its arguments, and its keyword arguments."""


class Unhandled(NamedTuple):
    """A signal to be ignored: the id of its event, the event, and the reason."""

    event_id: int
    event: ev.SignalReceived
    why: str


class Signals:
    """The signals of one run.

    Args:
        run_id: for messages.
        definition: has the handlers.
        payloads: decodes arguments.

    Attributes:
        unhandled: the signals that the code cannot take and that it was not shown before; None:
            there are none.
    """

    __slots__ = (
        "_definition",
        "_has_looked",
        "_ignored",
        "_payloads",
        "_run_id",
        "_unseen_since",
        "_waiting",
        "unhandled",
    )

    def __init__(self, run_id: str, definition: Definition, payloads: Payloads) -> None:
        self._run_id = run_id
        self._definition = definition
        self._payloads = payloads
        self._ignored: frozenset[int] = frozenset()
        self._unseen_since = _NEVER
        self._has_looked = False
        # Lists when there are any: every object of a run costs the garbage collector time.
        self._waiting: list[tuple[int, ev.SignalReceived]] | None = None
        self.unhandled: list[Unhandled] | None = None

    def hold(self, event_id: int, event: ev.SignalReceived) -> None:
        """Keep a signal that arrived before the code began."""
        if self._waiting is None:
            self._waiting = []
        self._waiting.append((event_id, event))

    def waited(self) -> Sequence[tuple[int, ev.SignalReceived]]:
        """Remove and return the waiting signals."""
        waiting, self._waiting = self._waiting, None
        return waiting or ()

    def look(self, records: Iterable[ev.EventRecord]) -> None:
        """Scan the history for events that no code has seen, and for ignored signals. If a run
        began while it had no code, `WorkflowBegun` precedes `WorkflowSuspended`, and no code has
        seen either. Done once, and only for histories that may have such events.
        """
        if self._has_looked:
            return
        self._has_looked = True
        begun = 0
        for record in records:
            for event_id, event in enumerate(record.events, record.first_event_id):
                match event:
                    case ev.WorkflowBegun():
                        begun = event_id
                    case ev.WorkflowSuspended() | ev.WorkflowPaused(has_begun=True) if (
                        self._unseen_since == _NEVER
                    ):
                        self._unseen_since = begun if begun == event_id - 1 else event_id
                    case ev.WorkflowResumed():
                        self._unseen_since = _NEVER
                    case ev.CommandIgnored(command=command) if command.startswith(_KIND):
                        self._ignored |= {int(command.removeprefix(_KIND))}
                    case _:
                        pass

    def read(
        self,
        event_id: int,
        event: ev.SignalReceived,
        shown_id: int,
        is_replaying: bool,
    ) -> HandledBy | None:
        """The handler of a signal and its arguments; None: the signal is ignored.

        Args:
            event_id: the id of the signal's event.
            event: the signal.
            shown_id: the id of the event that the code is shown; a later one if the signal has
                waited.
            is_replaying: the event is being replayed.

        Raises:
            ReplayError: the code has handled the signal before, and its handler was removed.
            PayloadError: the arguments cannot be decoded.
        """
        if event_id in self._ignored:
            return None
        is_unchecked = shown_id >= self._unseen_since if is_replaying else event_id != shown_id
        name, definition = event.name, self._definition
        fn = reader = definition.signals.get(name)
        first: tuple[Any, ...] = ()
        if fn is None:
            fn, reader, first = definition.on_signal, definition.on_signal_arguments, (name,)
        if fn is None or reader is None:
            if not is_unchecked:
                raise errors.ReplayError(self._run_id, shown_id, f"signal {name!r}", "has no such handler")
            known = ", ".join(sorted(definition.signals)) or "none"
            why = f"workflow type {definition.name!r} has no signal {name!r}; it has: {known}"
            self._cannot_take(event_id, event, why)
            return None
        try:
            args, kwargs = arguments(self._payloads, reader, event.input, f"signal {name!r}")
        except errors.PayloadError as error:
            if not is_unchecked or isinstance(error, errors.ValueUnavailable):
                raise
            self._cannot_take(event_id, event, str(error))
            return None
        return fn, (first + args if first else args), kwargs

    def _cannot_take(self, event_id: int, event: ev.SignalReceived, why: str) -> None:
        if self.unhandled is None:
            self.unhandled = []
        self.unhandled.append(Unhandled(event_id, event, why))


def ignored_of(unhandled: Unhandled) -> ev.CommandIgnored:
    """The event that records an ignored signal."""
    return ev.CommandIgnored(f"{_KIND}{unhandled.event_id}", unhandled.why)
