"""Actions of workflow code and the events that record them, both ways, by the rules of the
machines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.core.registry import ACTIONS, RECORDED_AS
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def to_event(run: RunState, action: ac.AnyAction, token: Callable[[], str]) -> ev.AnyEvent | None:
    """The event that records an action; None if the action has no effect any more.

    Args:
        run: only read; it shows whether the action's target has already ended.
        action: the action that the code asked for.
        token: makes the token of a new attempt.
    """
    return ACTIONS[type(action)].to_event(run, action, token)


def fits(event: Any, action: ac.AnyAction) -> bool:
    """Whether the action is the one that the event records: the same kind, number and name.

    Arguments are not compared: they may hold what you changed on purpose.
    """
    rule = ACTIONS[type(action)]
    return rule.event is type(event) and rule.fits(event, action)


def in_words(thing: Any) -> str:
    """Describes an action, or the event that records it, for the message of a ReplayError."""
    kind: type[Any] = thing.__class__
    action: type[Any] = RECORDED_AS.get(kind, kind)
    return ACTIONS[action].in_words(thing)
