"""The machine of attributes that the code sets. It has no states; a run remembers their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import json

from perdure.core.machine import ActionRule, Machine, Outbox
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def merged(attributes: bytes, values: bytes) -> bytes:
    """Attributes after a change.

    Args:
        attributes: JSON of an object, or empty.
        values: JSON of an object: those that change; null removes one.
    """
    found: dict[str, Any] = {**(json.decode(attributes) if attributes else {}), **json.decode(values)}
    kept = {name: value for name, value in found.items() if value is not None}
    return json.encode(kept) if kept else b""


def _on_set(run: RunState, event: ev.AttributesSet, outbox: Outbox | None) -> None:
    run.attributes = merged(run.attributes, event.values)


def _set(run: RunState, action: ac.SetAttributes, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.AttributesSet(action.number, action.values)


def _is_same(event: ev.AttributesSet, action: ac.SetAttributes) -> bool:
    return event.number == action.number


MACHINE: Final = Machine(
    name="attributes",
    record={ev.AttributesSet: _on_set},
    actions={
        ac.SetAttributes: ActionRule(
            event=ev.AttributesSet,
            to_event=_set,
            fits=_is_same,
            in_words="attributes set, number {0.number}".format,
        )
    },
)
