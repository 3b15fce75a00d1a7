"""Answers to tokens: checked against the code that waits for them, then recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.machines.token import suspended
from perdure.core.run import decide
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.validation import fault_of

if TYPE_CHECKING:
    from perdure.engine.activation import Activation


class TokenAnswers:
    """Handles answers to tokens.

    Args:
        activation: the runs of the open batch.
    """

    __slots__ = ("_activation",)

    def __init__(self, activation: Activation) -> None:
        self._activation = activation

    def answer(self, command: cm.ResolveToken | cm.FailToken) -> None:
        """Handle an answer. The type of the value is known only to the code, which issued the
        token; so the code is brought to where its history is before anything is recorded.
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
            if isinstance(event, ev.TokenResolved) and (
                wrong := active.live.runtime.tokens.fault_of(event.number, event.value)
            ):
                activation.refuse(command, "bad_input", wrong)
                return
            activation.record(active, event)
            activation.show(active, event)
        activation.answer(command, decision.reply)
