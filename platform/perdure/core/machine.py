"""The form of a machine: the rules of one capability, each keyed by the command, event or action
that it is about.

Machines are in `machines`, one a file; `registry` merges them. The functions of a machine read and
write the `RunState` they are given and nothing else: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import AnyReply
from perdure.model.states import Wait
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind


class Outbox(Protocol):
    """Receives the effects of an event: the engine's batch, or a restore, which keeps only the net
    effects.
    """

    def dispatch(self, task: Task, *, is_inline: bool = False) -> None:
        """Give a task to workers, or start a step, whose function may be in the run's code."""

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        """Note that the current attempt of this (run id, number), if any, has ended."""

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        """Ask the attempt to stop."""

    def produce(self, workflow_id: str, record: ev.RecordProduced) -> None:
        """Write a record to one of your topics."""

    def send(self, command: cm.AnyCommand) -> None:
        """Send a command to a workflow of any partition. It is handled once, after the commands
        that were sent to that workflow before.

        The sender must keep within the limits: if the command cannot be written or is too large,
        the command that caused it becomes a dead letter.
        """

    def reply(self, request: cm.Request, reply: AnyReply) -> None:
        """Answer a request of an earlier batch."""

    def answered(self, run_id: str, subject: str, reply: AnyReply) -> None:
        """Answer the clients that wait for this subject, each under the id of its request."""

    def failed(self, run: RunState, event: ev.AnyEvent, activity: str = "") -> None:
        """Log that the run, or an attempt of the activity of this name, has failed."""

    def arm(self, timer: Timer) -> None:
        """Store a timer."""

    def disarm(self, timer: Timer) -> None:
        """Remove a timer."""


class Stamp(NamedTuple):
    """The time and the token of a decision.

    Attributes:
        at: the time of the batch, microseconds.
        token: makes the token of a new attempt.
    """

    at: int
    token: Callable[[], str]


class Decision(NamedTuple):
    """The events that a command causes, and the answer, if the sender waits for one."""

    events: tuple[ev.AnyEvent, ...] = ()
    reply: AnyReply | None = None


Decide = Callable[[RunState, Any, Stamp], Decision]
"""(run, command, stamp) to a decision. Only reads the run."""

Record = Callable[[RunState, Any, "Outbox | None"], None]
"""(run, event, outbox): changes the run, and writes the effects to the outbox; None: the event is
replayed and has had its effects."""


Answer = Callable[[addresses.Workflow, AnyReply], cm.AnyCommand]
"""(address, answer) to the command that delivers the answer to the workflow."""


class ActionRule(NamedTuple):
    """Records an action of workflow code, and matches it on replay.

    Attributes:
        event: the class of the event that records it.
        to_event: (run, action, new token) to the event; None when nothing is left to record.
        fits: (event, action) of this rule's classes: whether the action is the recorded one. It
            compares identity (numbers, names), not arguments, which you may have changed on
            purpose.
        in_words: the action, or its event, for the message of a `ReplayError`.
        is_matched: on replay the code must ask for the action at the place of its event.
    """

    event: type[ev.Event]
    to_event: Callable[[RunState, Any, Callable[[], str]], ev.AnyEvent | None]
    fits: Callable[[Any, Any], bool]
    in_words: Callable[[Any], str]
    is_matched: bool = True


class Cancelling(NamedTuple):
    """The events between which a cancelling action has an effect.

    Attributes:
        opened_by: the event that begins what can be cancelled.
        closed_by: the events that end it. Both have the `number` that the action has.
    """

    opened_by: type[ev.Event]
    closed_by: tuple[type[ev.Event], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The rules of one capability.

    Attributes:
        name: of the machine, for documents.
        states: the enumeration of its states; None: it has none.
        transitions: (state, class of event) to the next state; drawn in
            `docs/internals/machines.md`.
        decide: what a command causes in an open run.
        handled_elsewhere: commands that cause no event by themselves: `engine` handles them.
        record: what an event changes and causes.
        actions: how actions are recorded and recognised.
        cancelling: for each action that cancels something, when it has an effect.
        wakes: the events that workflow code can notice.
        due: the command that a timer of a kind becomes when it fires.
        holds: the class (`RunState.part`) or the attribute of the run that holds what the machine
            has open. `waits` and `close` are called only while it is not empty; without one,
            always.
        waits: (run, limit) to what an open run waits for, at most `limit` of them.
        timers: the timers that the run has armed. While it is paused, none of them is stored.
        close: (run, outbox): stop everything open, since the run is about to end.
        leave: called in place of `close` when another run continues this one; None: `close` is
            called.
        ended: (run, outbox): the run has ended, and its state says how.
        answers: the command that an answer to one of our requests becomes, by the `kind` of its
            address. The command must not ask for an answer itself: nothing would wait for it.
    """

    name: str
    states: type[IntEnum] | None = None
    transitions: Mapping[tuple[Any, type[ev.Event]], Any] = field(default_factory=dict[Any, Any])
    decide: Mapping[type[cm.Command], Decide] = field(default_factory=dict[Any, Any])
    handled_elsewhere: frozenset[type[cm.Command]] = frozenset()
    record: Mapping[type[ev.Event], Record] = field(default_factory=dict[Any, Any])
    actions: Mapping[type[ac.Action], ActionRule] = field(default_factory=dict[Any, Any])
    cancelling: Mapping[type[ac.Action], Cancelling] = field(default_factory=dict[Any, Any])
    wakes: frozenset[type[ev.Event]] = frozenset()
    due: Mapping[TimerKind, Callable[[Timer], cm.AnyCommand]] = field(default_factory=dict[Any, Any])
    holds: type[Any] | str = ""
    waits: Callable[[RunState, int], list[Wait]] | None = None
    timers: Callable[[RunState], Iterable[Timer]] | None = None
    close: Callable[[RunState, Outbox | None], None] | None = None
    leave: Callable[[RunState, Outbox | None], None] | None = None
    ended: Callable[[RunState, Outbox | None], None] | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict[str, Any])


NOTHING = Decision()
"""The decision that causes no event and no answer."""


def same_number(event: Any, action: Any) -> bool:
    """`ActionRule.fits` for events and actions that have only a number."""
    return bool(event.number == action.number)
