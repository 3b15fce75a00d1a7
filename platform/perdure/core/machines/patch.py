"""The machine of patches: changes of the code that apply to new runs only. It has no states.

An applied patch is a fact about the whole run: on replay the code takes the new branch wherever it
asks for the patch, and a history that lacks the fact, because the run had passed the place before,
takes the old one. So its event is not matched by place, and the call may be deleted later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.core.machine import ActionRule, Machine, Outbox
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def _on_applied(run: RunState, event: ev.PatchApplied, outbox: Outbox | None) -> None:
    """Changes nothing here; replay looks for the event."""


def _apply(run: RunState, action: ac.ApplyPatch, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.PatchApplied(action.id)


def _is_same(event: ev.PatchApplied, action: ac.ApplyPatch) -> bool:
    return event.id == action.id


MACHINE: Final = Machine(
    name="patch",
    record={ev.PatchApplied: _on_applied},
    actions={
        ac.ApplyPatch: ActionRule(
            event=ev.PatchApplied,
            to_event=_apply,
            fits=_is_same,
            in_words="patch {0.id!r} applied".format,
            is_matched=False,
        ),
    },
)
