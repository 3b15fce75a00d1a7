"""All machines, merged into one table for each question; a command, event, action or timer without
a machine stops the import.

A new capability is one more file in `machines` and one more name in `MACHINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import compress
from operator import attrgetter
from typing import Any, Final, TypeVar, get_args

from perdure.core.machine import ActionRule, Answer, Decide, Machine, Outbox, Record
from perdure.core.machines import (
    activity,
    attributes,
    child,
    compensation,
    details,
    lifecycle,
    message,
    override,
    patch,
    pause,
    promise,
    record,
    signal,
    stream,
    timer,
    token,
    update,
)
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind

MACHINES: Final[tuple[Machine, ...]] = (
    lifecycle.MACHINE,
    pause.MACHINE,
    signal.MACHINE,
    compensation.MACHINE,
    activity.MACHINE,
    override.MACHINE,
    timer.MACHINE,
    record.MACHINE,
    update.MACHINE,
    promise.MACHINE,
    child.MACHINE,
    message.MACHINE,
    patch.MACHINE,
    token.MACHINE,
    attributes.MACHINE,
    details.MACHINE,
    stream.MACHINE,
)
"""All machines, in the order in which `waits_of` lists the waits of a run."""

_K = TypeVar("_K")
_V = TypeVar("_V")
WaitsFor = Callable[[RunState, int], "list[Wait]"]
"""(run, limit) to what the run waits for."""


class IncompleteError(TypeError):
    """The machines do not cover the model, or two of them claim the same part of it."""


def merged(tables: Iterable[tuple[str, Mapping[_K, _V]]], every: Iterable[Any], what: str) -> dict[_K, _V]:
    """Merge the tables of all machines.

    Args:
        tables: pairs of a machine's name and its table.
        every: the keys that the result must have.
        what: describes the keys, for the message.

    Raises:
        IncompleteError: a key is missing, has two machines, or is not one of `every`.
    """
    found: dict[_K, _V] = {}
    owners: dict[_K, str] = {}
    for name, table in tables:
        for key, value in table.items():
            if key in found:
                raise IncompleteError(
                    f"{what} {_name(key)} belongs to two machines, {owners[key]} and {name}"
                )
            found[key], owners[key] = value, name
    wanted = set(every)
    if missing := wanted - found.keys():
        raise IncompleteError(
            f"no machine of perdure.core.registry.MACHINES has the {what} "
            f"{', '.join(sorted(map(_name, missing)))}"
        )
    if foreign := found.keys() - wanted:
        raise IncompleteError(
            f"the {what} {', '.join(sorted(map(_name, foreign)))} is not in the union of the model"
        )
    return found


def _name(key: Any) -> str:
    return str(getattr(key, "__name__", key))


def _holding(machine: Machine) -> Callable[[RunState], object]:
    """Return the function that says whether the machine has anything open in a run. Most runs use
    few machines, so this saves most calls of `close`.
    """
    kind = machine.holds
    if isinstance(kind, str):
        return attrgetter(kind) if kind else _always
    return lambda run: run.parts and run.parts.get(kind)


def _always(run: RunState) -> bool:
    return True


class Waits:
    """Finds the waits of a run. Called after every batch, so it looks for the machines in use in C;
    most runs use few.
    """

    def __init__(self, machines: Iterable[Machine]) -> None:
        asked = [(machine, machine.waits) for machine in machines if machine.waits is not None]
        self._functions = tuple(
            waits if isinstance(machine.holds, str) else _of_part(machine.holds, waits)
            for machine, waits in asked
        )
        # a machine without `holds` is always asked: `phase` is never 0
        held = [machine.holds for machine, _ in asked]
        self._held = attrgetter(*(each or "phase" if isinstance(each, str) else "parts" for each in held))

    def of(self, run: RunState) -> Iterator[WaitsFor]:
        """The functions to ask about this run."""
        return compress(self._functions, self._held(run))


def _of_part(kind: type[Any], waits: WaitsFor) -> WaitsFor:
    """Other machines may keep parts in a run where this one keeps none."""
    return lambda run, limit: waits(run, limit) if run.parts and run.parts.get(kind) else []


def _closing(end: Record, machines: Iterable[Machine]) -> Record:
    """The `record` function of an event that ends the run: it stops everything open, then answers
    those that wait.
    """
    closers = [(_holding(machine), machine.close) for machine in machines if machine.close is not None]
    enders = [machine.ended for machine in machines if machine.ended is not None]

    def record_end(run: RunState, event: Any, outbox: Outbox | None) -> None:
        for holds, close in closers:
            if holds(run):
                close(run, outbox)
        end(run, event, outbox)
        for ended in enders:
            ended(run, outbox)

    return record_end


def _leaving(end: Record, machines: Iterable[Machine]) -> Record:
    """The `record` function of the event that continues the run in another one. Nothing is
    answered: requests for the end of this run now wait for the end of that one.
    """
    leavers = [leave for machine in machines if (leave := machine.leave or machine.close) is not None]

    def record_end(run: RunState, event: Any, outbox: Outbox | None) -> None:
        for leave in leavers:
            leave(run, outbox)
        end(run, event, outbox)

    return record_end


def _holding_timers(pause: Record, machines: Iterable[Machine]) -> Record:
    """The `record` function of the event that pauses a run: its timers are not stored any more."""
    timers_of = [machine.timers for machine in machines if machine.timers is not None]

    def record_pause(run: RunState, event: Any, outbox: Outbox | None) -> None:
        if outbox is not None and not run.phase.is_paused:
            for timers in timers_of:
                for timer in timers(run):
                    outbox.disarm(timer)
        pause(run, event, outbox)

    return record_pause


def _arming_timers(unpause: Record, machines: Iterable[Machine]) -> Record:
    """The `record` function of the event that ends a pause: the timers of the run are stored again.
    Those that were due fire now.
    """
    timers_of = [machine.timers for machine in machines if machine.timers is not None]

    def record_end(run: RunState, event: Any, outbox: Outbox | None) -> None:
        unpause(run, event, outbox)
        if outbox is not None:
            for timers in timers_of:
                for timer in timers(run):
                    outbox.arm(timer)

    return record_end


def _ending(kind: type[ev.Event], end: Record, machines: Iterable[Machine]) -> Record:
    if kind is ev.WorkflowContinued:
        return _leaving(end, machines)
    if kind is ev.WorkflowPaused:
        return _holding_timers(end, machines)
    if kind is ev.WorkflowUnpaused:
        return _arming_timers(end, machines)
    return _closing(end, machines) if kind in ev.TERMINAL else end


def _decides(machine: Machine) -> Iterator[tuple[type[cm.Command], Decide | None]]:
    yield from machine.decide.items()
    yield from ((command, None) for command in machine.handled_elsewhere)


COMMANDS: Final = merged(
    ((each.name, dict(_decides(each))) for each in MACHINES), get_args(cm.AnyCommand), "command"
)
DECIDE: Final[dict[type[cm.Command], Decide]] = {
    kind: decide for kind, decide in COMMANDS.items() if decide is not None
}
"""The decision for each command, except those that the engine handles without one."""

RECORD: Final[dict[type[ev.Event], Record]] = {
    kind: _ending(kind, record, MACHINES)
    for kind, record in merged(
        ((each.name, each.record) for each in MACHINES), get_args(ev.AnyEvent), "event"
    ).items()
}
"""Changes and effects of each event."""

ACTIONS: Final[dict[type[ac.Action], ActionRule]] = merged(
    ((each.name, each.actions) for each in MACHINES), get_args(ac.AnyAction), "action"
)
RECORDED_AS: Final[dict[type[ev.Event], type[ac.Action]]] = {
    rule.event: action for action, rule in ACTIONS.items()
}
"""The events that record an action of the code; all others come from outside."""
MATCHED: Final[frozenset[type[ev.Event]]] = frozenset(
    rule.event for rule in ACTIONS.values() if rule.is_matched
)
"""The events whose actions the code must repeat on replay."""

DUE: Final[dict[TimerKind, Callable[[Timer], cm.AnyCommand]]] = merged(
    ((each.name, each.due) for each in MACHINES), TimerKind, "timer"
)
"""The command that each kind of timer sends when it fires."""

HELD: Final[frozenset[type[cm.Command]]] = frozenset(
    type(due(Timer(0, "", kind, 0, ""))) for kind, due in DUE.items()
)
"""The commands of timers, which cause nothing in a paused run."""

WAITS: Final = Waits(MACHINES)
"""What an open run waits for, in the order of the machines, each with whether it may wait."""

ANSWERS: Final[dict[str, Answer]] = merged(
    ((each.name, each.answers) for each in MACHINES),
    {kind for each in MACHINES for kind in each.answers},
    "answers of kind",
)
"""The command for each kind of answer to a workflow."""

WAKES: Final[frozenset[type[ev.Event]]] = frozenset(event for each in MACHINES for event in each.wakes)
"""The events that workflow code can notice."""

CANCELS: Final[dict[type[ac.Action], type[ev.Event]]] = {
    action: rule.opened_by for each in MACHINES for action, rule in each.cancelling.items()
}
"""The actions that cancel something, and the event that begins it."""
OPENS: Final[frozenset[type[ev.Event]]] = frozenset(CANCELS.values())
"""The events that begin what can be cancelled."""
CLOSES: Final[dict[type[ev.Event], type[ev.Event]]] = {
    event: rule.opened_by
    for each in MACHINES
    for rule in each.cancelling.values()
    for event in rule.closed_by
}
"""From this event on, this action has no effect."""
