"""A toy machine that sends commands to other workflows and takes answers, and a workflow that shows
what came of them.

Nothing that it sends has an id by which a repeated one would be known: what is sent twice arrives
twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import json

from perdure import workflow
from perdure.core.machine import Machine, Outbox
from perdure.core.registry import ANSWERS, RECORD
from perdure.core.state import RunState
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import AnyReply, Closed


@workflow.defn
class Relay:
    """Keeps what it gets until it is closed."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.is_closed = False

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_until(lambda: self.is_closed)
        return self.got

    @workflow.signal
    def put(self, value: Any) -> None:
        self.got.append(value)

    @workflow.signal
    def close(self) -> None:
        self.is_closed = True

    @workflow.signal
    def send(self, letters: list[list[Any]]) -> None:
        """The machine sends them: `[what, workflow id, value]` each."""


def command_of(run: RunState, number: int, what: str, workflow_id: str, value: Any = None) -> cm.AnyCommand:
    """The request in one letter."""
    match what:
        case "start":
            return cm.StartWorkflow(workflow_id, type="Relay")
        case "await":
            address = addresses.Workflow("toy", run.workflow_id, run.run_id, number)
            return cm.AwaitWorkflow(workflow_id, "", f"{run.run_id}/toy/{number}", str(address))
        case "close":
            return cm.SignalWorkflow(workflow_id, name="close")
        case "damage":
            return cm.FireTimer(workflow_id, number=1 << 70)
        case _:
            return cm.SignalWorkflow(workflow_id, name=what, input=json.encode([value]))


def _on_received(run: RunState, event: ev.SignalReceived, outbox: Outbox | None) -> None:
    if outbox is not None and event.name == "send":
        (letters,) = json.decode(event.input)
        for number, letter in enumerate(letters):
            outbox.send(command_of(run, run.last_event_id * 10_000 + number, *letter))


def _answered(address: addresses.Workflow, reply: AnyReply) -> cm.AnyCommand:
    said = reply.status.value if isinstance(reply, Closed) else type(reply).__name__
    return cm.SignalWorkflow(address.workflow_id, address.run_id, name="put", input=json.encode([said]))


MACHINE: Final = Machine(name="toy", record={ev.SignalReceived: _on_received}, answers={"toy": _answered})
_ours: Final = RECORD[ev.SignalReceived]


def _both(run: RunState, event: Any, outbox: Outbox | None) -> None:
    _ours(run, event, outbox)
    MACHINE.record[ev.SignalReceived](run, event, outbox)


def _put(table: dict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value


def install(put: Callable[[dict[Any, Any], Any, Any], None] = _put) -> None:
    """Have the machine in this process.

    Args:
        put: into a table, for example `monkeypatch.setitem`.
    """
    put(RECORD, ev.SignalReceived, _both)
    for kind, answer in MACHINE.answers.items():
        put(ANSWERS, kind, answer)
