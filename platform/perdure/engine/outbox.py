"""Collects the effects of a batch and nets them out: an effect that begins and ends within the
batch is not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from msgspec.structs import replace

from perdure.core.registry import ANSWERS
from perdure.core.state import RunState
from perdure.engine.ports import Batch, RefusedCommand, Steps
from perdure.engine.waiters import Waiters
from perdure.model import addresses
from perdure.model.commands import AnyCommand, Request
from perdure.model.described import described
from perdure.model.events import AnyEvent, RecordProduced
from perdure.model.replies import AnyReply, Refused
from perdure.model.streams import StreamRecord
from perdure.model.tasks import Task
from perdure.model.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perdure.model.inline import InlineTask

DETAILS_KEPT: Final = 10_000


PASSES: Final = 100
"""The batch waits for a slow step again after this many dispatches, in case it has become quick."""


class Inline(Protocol):
    """Finds the functions of inline steps."""

    def ready(self, tasks: Sequence[Task]) -> list[InlineTask]:
        """The dispatched steps that can start now."""
        ...


class BatchOutbox:
    """Implements `core.machine.Outbox`: writes effects to the open batch, and starts its steps.

    Args:
        steps: runs local activities.
        waiters: clients that wait for answers.

    Attributes:
        failures: what failed in this batch: the run, the event, the name of the activity.
        refused: the changes that this batch refused, each with the answer to its client.
        inline: finds the functions of inline steps; None: every step is registered.
        awaited: the steps of this batch that the batch waits for, by (run id, activity number).
    """

    __slots__ = (
        "_details",
        "_inline_to_start",
        "_rearmed",
        "_slow",
        "_to_start",
        "_waiters",
        "awaited",
        "batch",
        "failures",
        "inline",
        "refused",
        "steps",
    )

    def __init__(self, steps: Steps, waiters: Waiters | None = None) -> None:
        self.steps = steps
        self._waiters = waiters or Waiters()
        self.inline: Inline | None = None
        self._to_start: list[Task] = []
        self._inline_to_start: list[Task] = []
        self._details: dict[tuple[str, int], bytes] = {}
        self._rearmed: set[Timer] = set()
        self.batch = Batch()
        self._slow: dict[str, int] = {}
        self.failures: list[tuple[RunState, AnyEvent, str]] = []
        self.refused: list[tuple[Request, Refused]] = []
        self.awaited: set[tuple[str, int]] = set()

    def begin(self, at: int) -> None:
        """Begin a batch."""
        self.batch = Batch(at)
        self._to_start.clear()
        self._inline_to_start.clear()
        self._rearmed.clear()
        self.failures.clear()
        self.refused.clear()
        self.awaited.clear()

    def start_steps(self) -> None:
        """Start the steps that were dispatched since the last call."""
        if self._to_start:
            tasks, self._to_start = self._to_start, []
            current = self.batch.tasks  # a step that has ended meanwhile is not there
            tasks = [task for task in tasks if current.get((task.run_id, task.number)) is task]
            self._await(tasks)
            self.steps.start(tasks)
        if self._inline_to_start and self.inline is not None:
            tasks, self._inline_to_start = self._inline_to_start, []
            if inline := self.inline.ready(tasks):
                self._await(each.task for each in inline)
                self.steps.start_inline(inline)

    def _await(self, tasks: Iterable[Task]) -> None:
        self.awaited.update(
            (task.run_id, task.number) for task in tasks if not self._slow or self._is_quick(task.name)
        )

    def note_slow(self) -> None:
        """The batch waited in vain for these steps: do not wait for them again for a while."""
        for key in self.awaited:
            if (task := self.batch.tasks.get(key)) is not None:
                self._slow[task.name] = PASSES

    def _is_quick(self, name: str) -> bool:
        passes = self._slow.get(name)
        if passes is None:
            return True
        if passes > 1:
            self._slow[name] = passes - 1
        else:
            del self._slow[name]
        return False

    def keep_details(self, run_id: str, number: int, details: bytes) -> None:
        """Remember the details of a heartbeat for the next attempt; soft state, bounded."""
        self._details[run_id, number] = details
        if len(self._details) > DETAILS_KEPT:
            del self._details[next(iter(self._details))]

    def _tell(self, request: Request, reply: AnyReply) -> None:
        """Send an answer to a workflow, as a command.

        This must not raise: the batch may close a run, and that must not depend on the address of a
        waiter.
        """
        address = addresses.parse(request.reply_to)
        if not isinstance(address, addresses.Workflow):
            return  # hostile text: there is nobody to answer
        make = ANSWERS.get(address.kind)
        if make is None:
            fault = (
                f"nothing here takes answers of kind {address.kind!r}; was the workflow started by a newer "
                "version?"
            )
        else:
            try:
                self.batch.commands.append(make(address, reply))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one answer, the others are sent
                fault = f"no command can be made of the answer: {described(error)}"
            else:
                return
        message = f"workflow {address.workflow_id!r} waits for an answer, but {fault}"
        self.batch.letters.append(RefusedCommand(cast("AnyCommand", request), "unanswerable", message))

    def stream(self, run: RunState, written: list[tuple[str, int, bytes]]) -> None:
        """Give out what the code has written to streams: name, number and payload of each."""
        streams, at = self.batch.streams, self.batch.at
        for name, number, value in written:
            streams.append(StreamRecord(run.workflow_id, run.run_id, name, number, value, at))

    # ---- core.machine.Outbox

    def answered(self, run_id: str, subject: str, reply: AnyReply) -> None:
        """Answer the clients that wait for the answer about a subject."""
        for request in self._waiters.answer(run_id, subject):
            self.reply(request, replace(reply, request_id=request.request_id))

    def send(self, command: AnyCommand) -> None:
        """Send a command to a workflow."""
        self.batch.commands.append(command)

    def reply(self, request: Request, reply: AnyReply | None) -> None:
        """Answer a request, if its sender waits for the answer."""
        if not (reply_to := request.reply_to) or reply is None:
            return
        if reply_to.startswith(addresses.WORKFLOW):
            self._tell(request, reply)
        else:
            self.batch.replies.append((reply_to, reply))

    def dispatch(self, task: Task, *, is_inline: bool = False) -> None:
        """Give a task to workers, or start a step."""
        key = (task.run_id, task.number)
        if self._details and (details := self._details.get(key)):
            task = replace(task, details=details)
        batch = self.batch
        batch.tasks[key] = task
        batch.tasks_ended.discard(key)
        if not task.queue:
            (self._inline_to_start if is_inline else self._to_start).append(task)

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        """Note that the dispatched attempt, if any, has ended."""
        batch = self.batch
        if is_step:
            self.awaited.discard(task)
        dispatched = batch.tasks.pop(task, None)
        if dispatched is None or dispatched.attempt > 1 or dispatched.scheduled_at < batch.at:
            batch.tasks_ended.add(task)

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        """Ask the attempt to stop."""
        if is_step:
            self.steps.cancel(run_id, number)
        else:
            self.batch.cancelled.append(token)

    def produce(self, workflow_id: str, record: RecordProduced) -> None:
        """Write a record to one of your topics."""
        self.batch.records.append((workflow_id, record))

    def failed(self, run: RunState, event: AnyEvent, activity: str = "") -> None:
        """Log a failure, once the batch is durable."""
        self.failures.append((run, event, activity))

    def arm(self, timer: Timer) -> None:
        """Store a timer."""
        if timer in self.batch.timers_ended:  # of a run that was paused and continues in this batch
            self.batch.timers_ended.discard(timer)
            self._rearmed.add(timer)
        self.batch.timers.add(timer)

    def disarm(self, timer: Timer) -> None:
        """Remove a timer."""
        if timer in self.batch.timers:
            self.batch.timers.discard(timer)
            if timer not in self._rearmed:  # the store has no such timer
                return
        self.batch.timers_ended.add(timer)


def can_reply(address: str) -> bool:
    """Whether an answer can be delivered, or none is wanted: the address is empty, a client's, or
    that of a workflow that takes such answers.
    """
    if not address.startswith(addresses.WORKFLOW):
        return True
    found = addresses.parse(address)
    return isinstance(found, addresses.Workflow) and found.kind in ANSWERS
