"""The machine of records that the code produces to topics: written in the transaction that records
them. It has no states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.core.machine import ActionRule, Machine, Outbox
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def _on_produced(run: RunState, event: ev.RecordProduced, outbox: Outbox | None) -> None:
    if outbox is not None:
        outbox.produce(run.workflow_id, event)


def _produce(run: RunState, action: ac.ProduceRecord, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.RecordProduced(action.number, action.topic, action.key, action.value, action.headers)


def _is_same_record(event: ev.RecordProduced, action: ac.ProduceRecord) -> bool:
    return event.number == action.number and event.topic == action.topic


MACHINE: Final = Machine(
    name="record",
    record={ev.RecordProduced: _on_produced},
    actions={
        ac.ProduceRecord: ActionRule(
            event=ev.RecordProduced,
            to_event=_produce,
            fits=_is_same_record,
            in_words="record {0.number} for topic {0.topic!r} produced".format,
        )
    },
)
