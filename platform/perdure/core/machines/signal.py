"""The machine of signals: each is recorded once, when it arrives, and stays. It has no states.

A request that is repeated under the same id gets the first answer again and leaves no event
(`core.requests`).
"""

from __future__ import annotations

from typing import Final

from perdure.core import requests
from perdure.core.machine import Decision, Machine, Outbox, Stamp
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted


def _signal(run: RunState, command: cm.SignalWorkflow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    received = ev.SignalReceived(command.name, command.input, command.request_id)
    return Decision((received,), Accepted(command.request_id, run.run_id))


def _on_received(run: RunState, event: ev.SignalReceived, outbox: Outbox | None) -> None:
    if event.request_id:
        run.requests["signal", event.request_id] = requests.of_signal(event.name, event.input)
    elif run.started.request_id:  # the first signal without an id came with the start, if one did
        run.requests.setdefault(
            (requests.WITH_START, run.started.request_id), requests.of_signal(event.name, event.input)
        )


MACHINE: Final = Machine(
    name="signal",
    decide={cm.SignalWorkflow: _signal},
    record={ev.SignalReceived: _on_received},
    wakes=frozenset({ev.SignalReceived}),
)
