"""Answers to tokens: checked against the code that waits for them, then recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.core.machines.token import UNKNOWN, has, suspended
from perdure.core.run import decide
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Refused
from perdure.model.tokens import parse
from perdure.model.validation import fault_of
from perdure.replay import outcomes
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.engine.earlier_runs import EarlierRuns
    from perdure.model.replies import AnyReply
    from perdure.model.tokens import TokenAddress
    from perdure.replay.live import LiveRun


MOVES: Final = 10
"""How many runs of a chain are read, from the one that has issued a token, for the one that had it
last."""


class TokenAnswers:
    """Handles answers to tokens.

    Args:
        activation: the runs of the open batch.
        take: records an event and shows it to the code.
        earlier_runs: finds closed runs.
    """

    __slots__ = ("_activation", "_earlier_runs", "_take")

    def __init__(
        self, activation: Activation, take: Callable[[ActiveRun, Any], None], earlier_runs: EarlierRuns
    ) -> None:
        self._activation = activation
        self._earlier_runs = earlier_runs
        self._take = take

    def answer(self, command: cm.ResolveToken | cm.FailToken) -> None:
        """Handle an answer. Only the code that issued the token knows the type of the value, so the
        code is replayed before anything is recorded.
        """
        activation = self._activation
        if fault := fault_of(command):
            activation.refuse(command, *fault)
            return
        given = parse(command.token)
        active = activation.runs.find(command.workflow_id)
        if active is None or given is None or command.run_id not in ("", given.run_id):
            activation.refuse(command, "unknown_token", UNKNOWN)
            return
        if not has(active.state, given):
            activation.answer(command, self._answer_of_earlier(command, given))
            return
        decision = decide(active.state, command, activation.stamp)
        for event in decision.events:
            if activation.bring_live(active) is not None or active.live is None:
                activation.refuse(command, "suspended", suspended(active.state))
                return
            if wrong := fault_of_answer(activation, active.live, event):
                activation.refuse(command, "bad_input", wrong)
                return
        for event in decision.events:
            self._take(active, event)
        activation.answer(command, decision.reply)

    def _answer_of_earlier(
        self, command: cm.ResolveToken | cm.FailToken, given: TokenAddress
    ) -> AnyReply | None:
        """The reply about a token whose run has ended, and which the current run does not have:
        that it is closed, or that it had this answer.
        """
        find = self._earlier_runs.find
        run = find(command.workflow_id, given.run_id)
        for _ in range(MOVES):  # the run that had it last knows its answer
            if run is None or not run.next_run_id:
                break
            later = find(command.workflow_id, run.next_run_id)
            if later is None or not has(later, given):
                break
            run = later
        if run is None:
            return Refused(command.request_id, "unknown_token", UNKNOWN)
        return decide(run, command, self._activation.stamp).reply


def fault_of_answer(activation: Activation, live: LiveRun, event: ev.AnyEvent) -> str:
    """Why a value does not fit what the code waits for; empty: it does. The value may be of a type
    of yours, so it is read under the watch.
    """
    try:
        fault: str = activation.runs.watched("an answer", _fault_of, live, event)
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
