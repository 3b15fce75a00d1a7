"""One run, driven by commands: what is decided is recorded immediately, with its effects written
down."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from perdure.core.machine import Decision, Stamp
from perdure.core.run import decide, record, start
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.replies import AnyReply
from perdure.model.tasks import Task
from perdure.model.timers import Timer

NOW: Final = 1_700_000_000_000_000
SECOND: Final = 1_000_000
BROKEN: Final = FailureInfo("builtins:ConnectionError", "no answer")


class Written:
    """`core.machine.Outbox` that remembers."""

    def __init__(self) -> None:
        self.tasks: dict[tuple[str, int], Task] = {}
        self.timers: set[Timer] = set()
        self.stopped: list[str] = []
        self.records: list[tuple[str, ev.RecordProduced]] = []
        self.failures: list[tuple[ev.AnyEvent, str]] = []
        self.sent: list[cm.AnyCommand] = []
        self.replies: list[tuple[str, AnyReply]] = []
        self.subjects: list[tuple[str, str]] = []

    def dispatch(self, task: Task, *, is_inline: bool = False) -> None:
        self.tasks[task.run_id, task.number] = task

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        del self.tasks[task]

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        self.stopped.append(token)

    def produce(self, workflow_id: str, record: ev.RecordProduced) -> None:
        self.records.append((workflow_id, record))

    def send(self, command: cm.AnyCommand) -> None:
        self.sent.append(command)

    def reply(self, request: cm.Request, reply: AnyReply) -> None:
        self.replies.append((request.reply_to, reply))

    def answered(self, run_id: str, subject: str, reply: AnyReply) -> None:
        self.subjects.append((run_id, subject))

    def failed(self, run: RunState, event: ev.AnyEvent, activity: str = "") -> None:
        self.failures.append((event, activity))

    def arm(self, timer: Timer) -> None:
        self.timers.add(timer)

    def disarm(self, timer: Timer) -> None:
        self.timers.discard(timer)


class Driven:
    """A run of type "Order" with the id "order-1"; `at` moves by hand."""

    def __init__(self, **started: Any) -> None:
        self.at = NOW
        self.written = Written()
        self._tokens = count(1)
        fields: dict[str, Any] = {"request_id": "start-1", **started}
        event = ev.WorkflowStarted("Order", b"[]", 311, 7, **fields)
        self.state: RunState = start("order-1", "run-1", event, NOW, self.written)

    def token(self) -> str:
        return f"next-{next(self._tokens)}"

    def ask(self, kind: Any, **fields: Any) -> Decision:
        """Decide a command and take over what follows."""
        decision = decide(self.state, kind("order-1", **fields), Stamp(self.at, self.token))
        for event in decision.events:
            self.record(event)
        return decision

    def events(self, kind: Any, **fields: Any) -> list[Any]:
        """The same; only the events."""
        return list(self.ask(kind, **fields).events)

    def record(self, event: Any) -> None:
        """Take over an event, as the code or a decision causes it."""
        record(self.state, event, self.at, self.written)

    def schedule(
        self, number: int = 1, *, queue: str = "default", when_exhausted: str = "fail", **policy: Any
    ) -> None:
        """The code schedules an activity; its first attempt has the token `first-N`."""
        options = ActivityOptions(queue, retry=RetryPolicy(**policy), when_exhausted=when_exhausted)
        self.record(ev.ActivityScheduled(number, "charge", b"[1]", options, f"first-{number}"))

    def fail(self, token: str, failure: FailureInfo = BROKEN, **fields: Any) -> list[Any]:
        """The attempt of activity 1 under this token reports a failure."""
        return self.events(cm.FailActivity, number=1, token=token, failure=failure, **fields)

    def complete(self, token: str) -> list[Any]:
        """The attempt of activity 1 under this token reports its result."""
        return self.events(cm.CompleteActivity, number=1, token=token, result=b"42")


def ignored(events: list[Any]) -> str:
    """Why a report was not applied."""
    (event,) = events
    assert isinstance(event, ev.CommandIgnored)
    return event.reason
