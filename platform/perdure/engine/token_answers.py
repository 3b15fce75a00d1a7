"""Answers to tokens: checked against the code that waits for them, then recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.machines.token import suspended
from perdure.core.run import decide
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.validation import fault_of
from perdure.replay import outcomes
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.replay.live import LiveRun


class TokenAnswers:
    """Handles answers to tokens.

    Args:
        activation: the runs of the open batch.
        take: records an event and shows it to the code.
    """

    __slots__ = ("_activation", "_take")

    def __init__(self, activation: Activation, take: Callable[[ActiveRun, Any], None]) -> None:
        self._activation = activation
        self._take = take

    def answer(self, command: cm.ResolveToken | cm.FailToken) -> None:
        """Handle an answer. Only the code that issued the token knows the type of the value, so the
        code is replayed before anything is recorded.
        """
        activation = self._activation
        if fault := fault_of(command):
            activation.refuse(command, *fault)
            return
        active = activation.find(command)
        if active is None:
            return
        decision = decide(active.state, command, activation.stamp)
        for event in decision.events:
            if activation.bring_live(active) is not None or active.live is None:
                activation.refuse(command, "suspended", suspended(active.state))
                return
            if wrong := self._fault_of(active.live, event):
                activation.refuse(command, "bad_input", wrong)
                return
        for event in decision.events:
            self._take(active, event)
        activation.answer(command, decision.reply)

    def _fault_of(self, live: LiveRun, event: ev.AnyEvent) -> str:
        """As `_fault_of`, watched: the value may be of a type of yours."""
        try:
            fault: str = self._activation.runs.watched("an answer", _fault_of, live, event)
        except SUSPENDING as error:
            return str(error)
        return fault


def _fault_of(live: LiveRun, event: ev.AnyEvent) -> str:
    """Why a value does not fit what the code waits for; empty: it does."""
    if isinstance(event, ev.TokenResolved):
        return live.runtime.tokens.fault_of(event.number, event.value)
    if isinstance(event, ev.ActivityCompleted):
        return outcomes.fault_of(live.runtime, live.payloads, event)
    return ""
