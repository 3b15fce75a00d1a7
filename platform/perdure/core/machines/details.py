"""The machine of the text that the code sets about its run, for operators. It has no states; a run
remembers the last text.

Replay does not match it: you may change the text in your code at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.core.machine import ActionRule, Machine, Outbox
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def _on_set(run: RunState, event: ev.DetailsSet, outbox: Outbox | None) -> None:
    run.details = event.text


def _set(run: RunState, action: ac.SetDetails, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.DetailsSet(action.text) if action.text != run.details else None


def _is_same(event: ev.DetailsSet, action: ac.SetDetails) -> bool:
    return event.text == action.text


def _in_words(event: ev.DetailsSet | ac.SetDetails) -> str:
    return f"details set to {event.text!r:.100}"


MACHINE: Final = Machine(
    name="details",
    record={ev.DetailsSet: _on_set},
    actions={
        ac.SetDetails: ActionRule(
            event=ev.DetailsSet,
            to_event=_set,
            fits=_is_same,
            in_words=_in_words,
            is_matched=False,
        )
    },
)
