"""Scenarios as text: a command, what came of it, and so on, to be read like a story.

    # The card is declined.
    start order-1 Order 3500
    ----
    ok run-1

    result order-1
    ----
    failed: CardDeclined: the card has no 35 dollars

Commands:

    start ID TYPE ARGUMENT… [if_running= if_closed= delay= timeout= request=]     seconds
    signal|query ID NAME ARGUMENT… [request= run=]      await ID
    cancel|terminate ID [reason= request= run=]
    advance SECONDS       history ID       result ID      state ID      tasks     replies
    worker on|off         hold ACTIVITY    release
        the worker takes its tasks and keeps them; now it runs them
    complete|fail|decline|started|beat TOKEN ID NUMBER [VALUE]
        a report, as a worker would send it
    crash                 deploy NAME      evict          clock SECONDS  (set it back or forth)
    disk full|ok          bug TYPE|off     (handling a command of this type raises)
    guard                 from here on the determinism guard looks at the workflows
    together ... end      the lines between reach the engine in one batch

Arguments are JSON where they can be read as JSON, else text. A message to the operator comes as
`report: …`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, Final

from perdure.errors import CommitAborted
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Answered, AnyReply, Closed, QueryRaised, Refused
from perdure.replay import guard
from tests.simulation import programs
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import START, World

SEPARATOR: Final = "----"


class Disk:
    """Wraps a log, and makes it fail as if the disk were full, on demand."""

    def __init__(self, story: Story, log: Any) -> None:
        self._story = story
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Any) -> None:
        if self._story.full_for > 0:
            self._story.full_for -= 1
            raise CommitAborted("the disk is full")
        self._log.commit(batch)


class Story:
    """Runs one script.

    Args:
        evicts: as for `World`.
    """

    def __init__(self, evicts: Callable[[], bool] | None = None) -> None:
        self.full_for = 0
        self.bug = ""
        self._batch: list[Callable[[], None]] | None = None
        self._request_ids: list[str] = []
        self._told: set[str] = set()
        self.world = World(DEPLOYMENTS["first"], wrap=self._wrapped, checks_fold=True, evicts=evicts)
        self._infect()

    def tell(self, line: str) -> list[str]:
        """Do what a line says; what came of it."""
        words = shlex.split(line)
        options = {
            key: value
            for key, found, value in (word.partition("=") for word in words)
            if found and key in _OPTIONS
        }
        words = [word for word in words if word.partition("=")[0] not in _OPTIONS or "=" not in word]
        shown = list(getattr(self, _METHODS.get(words[0], f"_{words[0]}"))(*words[1:], **options) or ())
        return [_without_chance(line) for line in (*shown, *self._new_reports(), *self._new_replies())]

    # ---- clients

    def _start(self, workflow_id: str, type: str, *args: str, **options: str) -> None:
        fields: dict[str, Any] = {key: options[key] for key in ("if_running", "if_closed") if key in options}
        fields |= {
            f"{key}_us": round(float(options[key]) * 1e6) for key in ("delay", "timeout") if key in options
        }
        self._ask(cm.StartWorkflow, workflow_id, options, type=type, input=self._encoded(args), **fields)

    def _signal(self, workflow_id: str, name: str, *args: str, **options: str) -> None:
        self._ask(cm.SignalWorkflow, workflow_id, options, name=name, input=self._encoded(args))

    def _query(self, workflow_id: str, name: str, *args: str, **options: str) -> None:
        self._ask(cm.QueryWorkflow, workflow_id, options, name=name, input=self._encoded(args))

    def _cancel(self, workflow_id: str, **options: str) -> None:
        self._ask(cm.CancelWorkflow, workflow_id, options, reason=options.get("reason", ""))

    def _terminate(self, workflow_id: str, **options: str) -> None:
        self._ask(cm.TerminateWorkflow, workflow_id, options, reason=options.get("reason", ""))

    def _await(self, workflow_id: str, **options: str) -> None:
        self._ask(cm.AwaitWorkflow, workflow_id, options)

    def _ask(self, kind: Any, workflow_id: str, options: dict[str, str], **fields: Any) -> None:
        if "request" in options:
            fields["request_id"] = options["request"]
            self._told.discard(options["request"])
        request_id = self.world.ask(kind, workflow_id, run_id=options.get("run", ""), **fields)
        self._request_ids = [*(known for known in self._request_ids if known != request_id), request_id]
        self._move()

    # ---- workers

    def _worker(self, how: str) -> None:
        self.world.serves_tasks = how == "on"
        self._move()

    def _hold(self, activity: str) -> None:
        self.world.held.add(activity)

    def _release(self) -> None:
        self.world.held.clear()
        self.world.tasks.extend(self.world.held_tasks)
        self.world.held_tasks.clear()
        self._move()

    def _complete(self, token: str, workflow_id: str, number: str, value: str = "null") -> None:
        self._report(
            cm.CompleteActivity(
                workflow_id, number=int(number), token=token, result=json.dumps(_value(value)).encode()
            )
        )

    def _fail(self, token: str, workflow_id: str, number: str, text: str = "failed") -> None:
        failure = FailureInfo("builtins:RuntimeError", text)
        self._report(cm.FailActivity(workflow_id, number=int(number), token=token, failure=failure))

    def _decline(self, token: str, workflow_id: str, number: str, text: str = "unknown") -> None:
        self._report(cm.DeclineActivity(workflow_id, number=int(number), token=token, reason=text))

    def _started(self, token: str, workflow_id: str, number: str, worker: str = "worker-1") -> None:
        self._report(cm.StartActivity(workflow_id, number=int(number), token=token, worker=worker))

    def _beat(self, token: str, workflow_id: str, number: str, details: str = "") -> None:
        encoded = json.dumps([_value(details)]).encode() if details else b""
        self._report(cm.HeartbeatActivity(workflow_id, number=int(number), token=token, details=encoded))

    def _report(self, command: cm.AnyCommand) -> None:
        self.world.log.submit([command])
        self._move()

    # ---- the world

    def _together(self) -> None:
        self._batch = []

    def _end(self) -> None:
        self._batch = None
        self._move()

    def _advance(self, seconds: str) -> None:
        self.world.advance(float(seconds))

    def _clock(self, seconds: str) -> None:
        self.world.clock.at = START + round(float(seconds) * 1e6)
        self._move()

    def _crash(self) -> None:
        self.world.crash()
        self._infect()
        self._move()

    def _deploy(self, name: str) -> None:
        self.world.registry = DEPLOYMENTS[name]
        self._crash()

    def _evict(self) -> None:
        self.world.engine.runs.clear()

    def _disk(self, how: str) -> None:
        self.full_for = 1 if how == "full" else 0

    def _bug_(self, kind: str) -> None:
        self.bug = "" if kind == "off" else kind

    def _guard(self) -> None:
        guard.install()
        guard.watch_module(programs)

    # ---- looking

    def _history(self, workflow_id: str) -> Iterator[str]:
        for record in self.world.history(workflow_id):
            for number, event in enumerate(record.events, record.first_event_id):
                yield f"{number:>2} {seconds(record.at):>6} {in_words(event)}"

    def _result(self, workflow_id: str) -> Iterator[str]:
        state = self.world.state(workflow_id)
        if state.failure is not None:
            yield f"{state.status}: {failure(state.failure)}"
        else:
            yield f"{state.status}: {state.result.decode() or state.reason or '-'}"

    def _state(self, workflow_id: str) -> Iterator[str]:
        state = self.world.state(workflow_id)
        if state is None:
            yield "none"
            return
        yield f"{state.run_id} {state.type} {state.status}" + (
            f" view={state.view.decode()}" if state.view else ""
        )
        if state.reason:
            yield f"  reason: {state.reason}"

    def _tasks(self) -> Iterator[str]:
        for task in self.world.store_port.tasks():
            details = f" details={task.details.decode()}" if task.details else ""
            yield f"{task.workflow_id} {task.number} {task.name} attempt {task.attempt} {task.token}{details}"

    def _timers(self) -> Iterator[str]:
        for timer in self.world.store_port.timers(None, 1000):
            yield f"{seconds(timer.fires_at)} {timer.workflow_id} {timer.kind.name.lower()} {timer.number}"

    # ---- private

    def _move(self) -> None:
        if self._batch is None:
            self.world.settle()

    def _encoded(self, args: tuple[str, ...]) -> bytes:
        return self.world.encoded([_value(arg) for arg in args])

    def _new_reports(self) -> Iterator[str]:
        for report in self.world.reports:
            yield f"report: {report}"
        self.world.reports.clear()

    def _new_replies(self) -> Iterator[str]:
        for request_id in self._request_ids:
            reply = self.world.replies.get(request_id)
            if reply is not None and request_id not in self._told:
                self._told.add(request_id)
                yield answer(reply)

    def _wrapped(self, port: Any, name: str) -> Any:
        return Disk(self, port) if name == "log" else port

    def _infect(self) -> None:
        engine: Any = self.world.engine
        engine._batch_handler.handler = Infected(self, engine._batch_handler.handler)


class Infected:
    """Around a handler: it has a bug in the handling of one type of command."""

    def __init__(self, story: Story, handler: Any) -> None:
        self._story = story
        self._healthy = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._healthy, name)

    def handle(self, command: cm.AnyCommand) -> None:
        if type(command).__name__ == self._story.bug:
            raise RuntimeError("a bug")
        self._healthy.handle(command)


def _without_chance(line: str) -> str:
    """Without what changes when a program is added or moved."""
    return _KNOWN_TYPES.sub("known: …", _AUTHORS_LINE.sub("programs.py:LINE", line))


_KNOWN_TYPES: Final = re.compile(r"known: .*")
_AUTHORS_LINE: Final = re.compile(r"\S*programs\.py:\d+")
_METHODS: Final = {"bug": "_bug_"}
_OPTIONS: Final = ("if_running", "if_closed", "delay", "timeout", "request", "run", "reason")


def _value(word: str) -> Any:
    if word.startswith("blob:"):
        return "x" * int(word.removeprefix("blob:"))
    try:
        return json.loads(word)
    except ValueError:
        return word


def seconds(at: int) -> str:
    """Since the story began."""
    return f"{(at - START) / 1e6:+g}s"


def failure(info: FailureInfo) -> str:
    """An exception, with its causes."""
    text = f"{info.type.rpartition(':')[2]}: {info.message}"
    return text if info.cause is None else f"{text} <- {failure(info.cause)}"


def answer(reply: AnyReply) -> str:
    """In a line."""
    match reply:
        case Accepted():
            return f"ok {reply.run_id}" + ("" if reply.is_new else ", as before")
        case Refused():
            return f"refused ({reply.code}): {reply.message}"
        case Answered():
            return f"answer: {reply.result.decode()}"
        case QueryRaised():
            return f"raised {failure(reply.failure)}"
        case Closed():
            how = (
                failure(reply.failure)
                if reply.failure is not None
                else reply.result.decode() or reply.reason or "-"
            )
            return f"closed, {reply.status}: {how}"
        case _:
            return type(reply).__name__


def in_words(event: ev.AnyEvent) -> str:
    """An event in a line."""
    name = type(event).__name__
    match event:
        case ev.WorkflowStarted():
            delayed = f", delayed until {seconds(event.delayed_until)}" if event.delayed_until else ""
            return f"{name} {event.type} {cut(event.input)}{delayed}"
        case ev.WorkflowCompleted():
            return f"{name} {cut(event.result)}"
        case ev.WorkflowFailed():
            return f"{name} {failure(event.failure)}"
        case (
            ev.WorkflowCancelled()
            | ev.WorkflowTerminated()
            | ev.WorkflowCancelRequested()
            | ev.WorkflowSuspended()
        ):
            return f"{name} {event.reason}".rstrip()
        case ev.SignalReceived():
            return f"{name} {event.name} {cut(event.input)}"
        case ev.ActivityScheduled():
            kind = " as a step" if event.options.is_step else ""
            return f"{name} {event.number} {event.name} {cut(event.input)}{kind}"
        case ev.ActivityCompleted():
            return f"{name} {event.number} {cut(event.result)}"
        case ev.ActivityAttemptFailed():
            return (
                f"{name} {event.number} attempt {event.attempt}, next at {seconds(event.retry_at)}: "
                f"{failure(event.failure)}"
            )
        case ev.ActivityFailed():
            timed_out = ", timed out" if event.timed_out else ""
            return f"{name} {event.number} attempts {event.attempts}{timed_out}: {failure(event.failure)}"
        case ev.ActivityStarted():
            return f"{name} {event.number} attempt {event.attempt} by {event.worker}"
        case ev.ActivityDeclined():
            return (
                f"{name} {event.number} attempt {event.attempt}, again at {seconds(event.retry_at)}: "
                f"{event.reason}"
            )
        case ev.ActivityRetried():
            return f"{name} {event.number} attempt {event.attempt}"
        case ev.ActivityCancelRequested() | ev.TimerFired() | ev.TimerCancelled():
            return f"{name} {event.number}"
        case ev.TimerStarted():
            return f"{name} {event.number} until {seconds(event.fires_at)}"
        case ev.CommandIgnored():
            return f"{name} {event.command}: {event.reason}"
        case _:
            return name


def cut(payload: bytes, limit: int = 60) -> str:
    """A payload, short."""
    text = payload.decode()
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} bytes)"


def run(text: str, evicts: Callable[[], bool] | None = None) -> tuple[str, World]:
    """A script with what came of each command put in the place of what was expected; and the world
    as it was left."""
    story = Story(evicts)
    out: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            out.append(line)
            continue
        commands = [line]
        for more in lines:
            if more == SEPARATOR:
                break
            commands.append(more)
        for _ in _until_empty(lines):
            pass
        shown = [shown_line for command in commands for shown_line in story.tell(command)]
        out += [*commands, SEPARATOR, *shown, ""]
    return "\n".join(out).rstrip("\n") + "\n", story.world


def _until_empty(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line:
            return
        yield line
