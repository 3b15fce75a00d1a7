"""The signals of one run, on their way to the handlers.

A signal is checked against the code before it is recorded, unless no code is there: the type of the
run is unknown, or its start is delayed. The code that comes later may have no handler for it, or
may not be able to read its arguments. Such a signal is ignored, and the history says so:
`CommandIgnored`, whose command names the event. Later code ignores it, too, even if it has a
handler, since the history has nothing of what that would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from perdure import errors
from perdure.model import events as ev
from perdure.model.payloads import Payloads
from perdure.replay.recorded_values import arguments
from perdure.workflow import Definition

_NEVER: Final = 2**63
_KIND: Final = "SignalWorkflow of event "


HandledBy = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A handler, its arguments, and those by name."""


class Unhandled(NamedTuple):
    """A signal that is to be ignored: the id of its event, the event, and why."""

    event_id: int
    event: ev.SignalReceived
    why: str


class Signals:
    """Of one run.

    Args:
        run_id: for messages.
        definition: has the handlers.
        payloads: decodes arguments.

    Attributes:
        waiting: those that came before the code has begun, each with the id of its event.
        unhandled: those that the code cannot take and that it has not seen before.
    """

    __slots__ = (
        "_definition",
        "_has_looked",
        "_ignored",
        "_payloads",
        "_run_id",
        "_unseen_since",
        "unhandled",
        "waiting",
    )

    def __init__(self, run_id: str, definition: Definition, payloads: Payloads) -> None:
        self._run_id = run_id
        self._definition = definition
        self._payloads = payloads
        self._ignored: frozenset[int] = frozenset()
        self._unseen_since = _NEVER
        self._has_looked = False
        self.waiting: list[tuple[int, ev.SignalReceived]] = []
        self.unhandled: list[Unhandled] = []

    def waited(self) -> list[tuple[int, ev.SignalReceived]]:
        """Those that have waited, once."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def look(self, records: Sequence[ev.EventRecord]) -> None:
        """Find out which events no code has seen, and which signals were ignored. A run that began
        while its code was not there has `WorkflowBegun` before `WorkflowSuspended`: none of that
        was seen. Once, and only for histories that may have such events.
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
                    case ev.WorkflowSuspended() if self._unseen_since == _NEVER:
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
        """The handler of a signal and its arguments; None: it is ignored.

        Args:
            event_id: of the signal.
            event: the signal.
            shown_id: of the event that the code is shown; a later one when the signal has waited.
            is_replaying: the event is shown again.

        Raises:
            ReplayError: the code has seen it before, and has no handler any more.
            PayloadError: its arguments cannot be read.
        """
        if event_id in self._ignored:
            return None
        is_unchecked = shown_id >= self._unseen_since if is_replaying else event_id != shown_id
        name, definition = event.name, self._definition
        fn = definition.signals.get(name)
        if fn is None:
            if not is_unchecked:
                raise errors.ReplayError(self._run_id, shown_id, f"signal {name!r}", "has no such handler")
            known = ", ".join(sorted(definition.signals)) or "none"
            why = f"workflow type {definition.name!r} has no signal {name!r}; it has: {known}"
            self.unhandled.append(Unhandled(event_id, event, why))
            return None
        try:
            args, kwargs = arguments(self._payloads, fn, event.input, f"signal {name!r}")
        except errors.PayloadError as error:
            if not is_unchecked or isinstance(error, errors.ValueUnavailable):
                raise
            self.unhandled.append(Unhandled(event_id, event, str(error)))
            return None
        return fn, args, kwargs


def ignored_of(unhandled: Unhandled) -> ev.CommandIgnored:
    """What is recorded of it."""
    return ev.CommandIgnored(f"{_KIND}{unhandled.event_id}", unhandled.why)
