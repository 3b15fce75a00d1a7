"""What clients do, for sweeps: each scenario is a list of actions that a crash may interrupt and
that are then taken up again.

A request that was not answered is sent again with the same id, as a client would after a reconnect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import json

from perdure.core.machines.token import address_of
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.tokens import of_attempt
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import START, World


@dataclass(frozen=True)
class Requests:
    """Sent together; a client waits for all answers. Each is a command type, a workflow id, and its
    fields."""

    requests: tuple[tuple[Any, str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Until:
    """Time passes until so many seconds after the beginning."""

    seconds: float


@dataclass(frozen=True)
class Deploy:
    name: str


@dataclass(frozen=True)
class Worker:
    """The worker takes tasks, or does not."""

    is_on: bool


@dataclass(frozen=True)
class Answer:
    """To a token of a workflow, or to one of an activity: a value, or an exception's message."""

    workflow_id: str
    number: int
    value: Any = None
    fault: str = ""
    is_of_activity: bool = False


Action = Requests | Until | Deploy | Worker | Answer
Request = tuple[Any, str, dict[str, Any]]


def start(workflow_id: str, type: str, *args: Any, **fields: Any) -> Request:
    return cm.StartWorkflow, workflow_id, {"type": type, "args": args, **fields}


def every(seconds: int, type: str) -> dict[str, Any]:
    """A schedule."""
    return {"type": type, "args": [], "every_us": seconds * 1_000_000}


def with_signal(workflow_id: str, type: str, name: str, *args: Any) -> Request:
    return (
        cm.StartWorkflow,
        workflow_id,
        {
            "type": type,
            "args": (),
            "if_running": "attach",
            "signal_name": name,
            "signal_input": json.encode(list(args)),
        },
    )


def signal(workflow_id: str, name: str, *args: Any) -> Request:
    return cm.SignalWorkflow, workflow_id, {"name": name, "args": args}


def update(workflow_id: str, name: str, *args: Any) -> Request:
    return cm.UpdateWorkflow, workflow_id, {"name": name, "args": args}


def cancel(workflow_id: str) -> Request:
    return cm.CancelWorkflow, workflow_id, {"reason": "cancelled"}


def terminate(workflow_id: str) -> Request:
    return cm.TerminateWorkflow, workflow_id, {"reason": "terminated"}


def pause(workflow_id: str) -> Request:
    return cm.PauseWorkflow, workflow_id, {"by": "ann", "reason": "the bank is down"}


def unpause(workflow_id: str) -> Request:
    return cm.UnpauseWorkflow, workflow_id, {"by": "ann"}


def retry_now(workflow_id: str, number: int) -> Request:
    return cm.RetryActivityNow, workflow_id, {"number": number, "by": "ann"}


def resolve(workflow_id: str, number: int) -> Request:
    return cm.ResolveActivity, workflow_id, {"number": number, "value": b'"by hand"', "by": "ann"}


def reject(workflow_id: str, number: int) -> Request:
    failure = FailureInfo("app:Sad", "it is lost")
    return cm.RejectActivity, workflow_id, {"number": number, "failure": failure, "by": "ann"}


def together(*requests: Request) -> Requests:
    return Requests(requests)


def each(*requests: Request) -> list[Action]:
    return [Requests((request,)) for request in requests]


SECOND: Final = 1_000_000

SCENARIOS: Final[dict[str, list[Action]]] = {
    "order": [
        *each(start("o", "Order", 1200), signal("o", "picked_up")),
        Until(20),
        *each(signal("o", "delivered")),
        Until(80),
    ],
    "order declined": each(start("o", "Order", 3500)),
    "order that nobody picks up": [*each(start("o", "Order", 900)), Until(60)],
    "twenty orders at once": [
        together(*(start(f"o-{number}", "Order", 3500 if number % 7 == 0 else 100) for number in range(20))),
        together(*(signal(f"o-{number}", "picked_up") for number in range(0, 20, 2))),
        Until(61),
        together(*(signal(f"o-{number}", "delivered") for number in range(0, 20, 4))),
        Until(200),
    ],
    "saga cancelled": each(start("t", "Trip"), cancel("t"), cancel("t")),
    "saga cancelled between its bookings": [Worker(False), *each(start("t", "Trip"), cancel("t")),
        Worker(True)],
    "saga whose compensations fail": [together(start("a", "undone", False), start("b", "undone", True)),
        Until(20)],
    "cancelled waits for activities": [
        Worker(False),
        together(*(start(how, "waits_for_the_end", how) for how in ("ask", "wait", "abandon"))),
        Until(4),
        Worker(True),
        Until(30),
    ],
    "saga terminated": each(start("t", "Trip"), terminate("t"), signal("t", "nobody")),
    "saga to its end": [*each(start("t", "Trip")), Until(86_400)],
    "fan-out of 100 activities": each(start("f", "fan_out", 100)),
    "fan-out of 100 steps": each(start("f", "fan_out_steps", 100)),
    "records for others": [together(*(start(f"r-{number}", "tell_others",
                    f"r-{number}") for number in range(3))), Until(10)],
    "signal with start": [
        together(*(with_signal("b", "Box", "put", number) for number in range(6))),
        *each(with_signal("b", "Box", "close"), with_signal("b", "Box", "put", 9),
            with_signal("c", "Box", "nothing"), terminate("b")),
    ],
    "inline steps": [*each(start("i", "inline_steps", 12)), Until(20)],
    "chain of steps": each(start("c", "chain_steps", 12)),
    "signals one by one": each(
        start("b", "Box"), *(signal("b", "put", number) for number in range(8)), signal("b", "put_slowly", 9),
        signal("b", "close")
    ),
    "jobs": [
        together(start("j", "perdure.job", {"activity": "echo", "args": ["a"]}),
            start("k", "perdure.job", {"activity": "echo", "args": ["b"]}, delay_us=1_000_000)),
        Until(3),
    ],
    "schedules": [
        together(
            start("schedule/a", "perdure.schedule", every(10, "dice"), {}),
            start("schedule/b", "perdure.schedule", every(10, "gone"), {}),
        ),
        Until(10.5),
        *each(signal("schedule/a", "pause", "enough"), signal("schedule/b", "delete")),
        Until(30),
    ],
    "signal storm": [
        together(
            start("b", "Box"),
            *(signal("b", ("put", "put_in_order")[number % 2], number) for number in range(50)),
            signal("b", "put_later", 50, 5),
            signal("b", "close"),
        ),
        Until(5),
    ],
    "timers": [*each(start("s", "sleeps", 20)), Until(7), Until(20)],
    "timers of many runs at one moment": [
        together(*(start(f"s-{number}", "sleep_then_step", 30) for number in range(12))),
        Until(30),
    ],
    "signal at the moment of the timer": [*each(start("r", "Race", 10)), Until(10),
        *each(signal("r", "call"))],
    "timeouts and the first of two": [together(start("t", "time_limited"), start("f", "first_of_two")),
        Until(30)],
    "cancel while an activity is out": [
        Worker(False),
        *each(start("o", "Order", 100), cancel("o")),
        Worker(True),
    ],
    "cancel races with the result": [Worker(False), together(start("o", "Order", 100), cancel("o")),
        Worker(True)],
    "cancel that is swallowed": each(start("s", "Swallows"), cancel("s")),
    "cancel of a handler that stays": [
        *each(start("s", "Stubborn", delay_us=SECOND), signal("s", "linger")),
        Until(1),
        *each(cancel("s")),
    ],
    "retries": [*each(start("r", "call_flaky", 4)), Until(20)],
    "retries of a step": [*each(start("r", "call_flaky_step", 3)), Until(20)],
    "retries that end": [together(start("g", "give_up", 99), start("t", "three_attempts", 9)), Until(20)],
    "no answer in time": [Worker(False), *each(start("g", "give_up", 0)), Until(11), Worker(True)],
    "delayed start": [
        *each(start("b", "Box", delay_us=5 * SECOND), signal("b", "put", 1), signal("b", "put_slowly", 2),
            signal("b", "close")),
        Until(5),
    ],
    "delayed start, cancelled": [*each(start("b", "Box", delay_us=5 * SECOND), signal("b", "put", 1),
            cancel("b")), Until(6)],
    "terminate and start": each(
        start("b", "Box"),
        signal("b", "put", 1),
        start("b", "Box", if_running="terminate"),
        signal("b", "put", 2),
        start("b", "Box", if_running="attach"),
        signal("b", "close"),
        start("b", "Box", if_closed="refuse"),
        start("b", "Box"),
        signal("b", "close"),
    ),
    "terminate and start in one batch": [
        together(start("b", "Box"), start("b", "Box", if_running="terminate"), signal("b", "put", 3),
            signal("b", "close")),
    ],
    "paused": [
        Worker(False),
        *each(start("b", "Box"), start("o", "Order", 100, timeout_us=900 * SECOND), start("c", "Cart"),
            start("d", "Box", delay_us=5 * SECOND), start("r", "call_flaky", 2)),
        *each(*(pause(each) for each in "bocdr"), signal("b", "put_later", 1, 5), signal("b", "put", 2),
            signal("o", "picked_up"), update("c", "add", 3), signal("d", "put", 4)),
        Worker(True),
        Until(90),
        *each(*(unpause(each) for each in "bocdr"), signal("b", "close"), update("c", "close"),
            signal("d", "close"), signal("o", "delivered")),
        Until(300),
    ],
    "paused, cancelled": [
        *each(start("t", "Trip"), pause("t"), cancel("t"), unpause("t")),
        *each(start("o", "Order", 100), pause("o"), terminate("o"), unpause("o")),
    ],
    "paused by its activities": [
        *each(start("e", "exhausted")),
        Until(10),
        *each(retry_now("e", 1)),
        Until(20),
        *each(retry_now("e", 2), unpause("e"), resolve("e", 1), retry_now("e", 2)),
        Until(40),
        *each(reject("e", 2)),
    ],
    "suspended, fixed": [
        *each(start("f", "Fickle")),
        Deploy("diverged"),
        *each(signal("f", "call"), signal("f", "call")),
        Deploy("fixed"),
    ],
    "suspended, cancelled, back": [
        Worker(False),
        *each(start("t", "Trip"), start("c", "Careless")),
        Deploy("fewer"),
        *each(signal("c", "drop")),
        Worker(True),
        *each(cancel("t")),
        Until(10),
        Deploy("first"),
        *each(signal("c", "end")),
    ],
    "suspended, terminated": [
        *each(start("f", "Fickle", timeout_us=50 * SECOND), start("g", "Fickle")),
        Deploy("fewer"),
        together(signal("f", "call"), signal("g", "call")),
        *each(terminate("g")),
        Until(50),
        Deploy("first"),
    ],
    "handler that raises": each(start("f", "Fragile"), signal("f", "tidy"),
        signal("f", "drop", "broken glass")),
    "task group": each(start("g", "group")),
    "workflow timeout": [*each(start("p", "Patient", timeout_us=30 * SECOND)), Until(29), Until(31)],
    "messages between workflows": [
        together(start("a", "Relay"), start("b", "Relay"), start("c", "Relay")),
        *each(
            signal("a", "send", [["put", "b", 1], ["put", "c", 2], ["put", "a", 3], ["put", "nobody", 4],
                    ["put", "b", 5]]),
            signal("a", "send", [["await", "b"], ["await", "nobody"], ["start", "d"], ["put", "d", 6],
                    ["await", "d"]]),
            signal("b", "send", [["put", "a", 7], ["put", "b", 8], ["close", "b"], ["put", "b", 9]]),
            signal("d", "close"),
            signal("c", "send", [["await", "b"]]),
            signal("c", "send", [["await", "c"], ["close", "c"]]),
            signal("a", "close"),
        ),
    ],
    "children": [*each(start("f", "family")), Until(10), Until(20), *each(signal("abandoned", "end"))],
    "sixty children": each(start("m", "many_children", 12), start("n", "many_children", 60)),
    "parent terminated": [Worker(False), *each(start("f", "family")), Until(5), *each(terminate("f")),
        Worker(True)],
    "parent cancelled while it waits for a child": [*each(start("f", "family")), Until(5), *each(cancel("f")),
        Until(30)],
    "updates": [
        together(start("cart", "Cart"), update("cart", "add", 1), update("cart", "add", -1)),
        *each(update("cart", "add", 2, 3), update("cart", "add", 101), update("cart", "add", 3)),
        Until(3),
        *each(start("s", "shops")),
        Until(5),
        *each(update("cart", "add", 9)),
        together(start("t", "Cart"), update("t", "add", 1, 60), terminate("t")),
        together(start("u", "Cart"), update("u", "add", 1, 60), cancel("u")),
    ],
    "continues as new": [
        together(start("c", "Counting"), *(signal("c", "add", number) for number in range(1, 4))),
        Until(2),
        *each(signal("c", "add", 4), signal("c", "add", 5)),
        Until(5),
        together(start("h", "hasty", 3), start("k", "counts_by_a_child")),
        Until(8),
        *each(*(signal("counting", "add", 1) for _ in range(2))),
        Until(10),
        *each(*(signal("counting", "add", 1) for _ in range(2))),
        Until(20),
    ],
    "patched": [
        Deploy("before the patch"),
        *each(start("a", "Amended"), start("b", "Amended"), signal("a", "call")),
        Deploy("patched"),
        *each(start("c", "Amended"), *(signal(each, "call") for each in "bcabc")),
    ],
    "two versions": [
        Deploy("before the patch"),
        *each(start("a", "Amended"), start("b", "Amended"), signal("a", "call")),
        Deploy("the second version"),
        *each(start("c", "Amended"), signal("b", "call")),
        Deploy("two versions"),
        *each(start("d", "Amended"), *(signal(each, "call") for each in "abcd")),
    ],
    "tokens": [
        *each(start("a", "asks", 30)),
        Answer("a", 2, fault="no"),
        Answer("a", 1, 42),
        Answer("a", 1, 42),
        Answer("a", 1, 43),
        Until(30),
        Answer("a", 2, fault="no"),
        Answer("a", 3, "late"),
        Answer("a", 4),
    ],
    "token that nobody answers": [*each(start("a", "asks", 30)), Until(31)],
    "token answered before its run is cancelled": [*each(start("a", "asks", 30)), Answer("a", 1, 42),
        *each(cancel("a")), Answer("a", 1, 42), Answer("a", 2, 42)],
    "token that moves to the next runs": [*each(start("m", "Moves"), signal("m", "call")), Answer("m", 2, 1),
        Answer("m", 1, 42), *each(signal("m", "call"), signal("m", "call"))],
    "token at the moment of its timeout": [*each(start("a", "asks", 5)), Until(5), Answer("a", 1, 42)],
    "results from outside": [
        *each(start("a", "asks_later", "o")),
        Answer("a", 1, 42, is_of_activity=True),
        Answer("a", 1, 42, is_of_activity=True),
        Answer("a", 1, 43, is_of_activity=True),
        Answer("a", 2, fault="no", is_of_activity=True),
        Until(120),
        Answer("a", 3, 1, is_of_activity=True),
    ],
    "result from outside before the function has returned": [
        Worker(is_on=False), *each(start("a", "asks_later", "o")), Answer("a", 1, 42, is_of_activity=True),
        Worker(is_on=True), *each(cancel("a"))],
    "streams": [
        *each(start("t", "Tells"), signal("t", "call")),
        Deploy("telling badly"),
        *each(signal("t", "call")),
        Deploy("first"),
        *each(signal("t", "call")),
    ],
    "served after a deploy": [*each(start("s", "call_seat", "ada")), Deploy("with-seat")],
    "failures of all kinds": [
        together(start("o", "call_odd"), start("b", "broken", "sad"), start("p", "picky"),
            start("r", "odd_result"), start("h", "call_blob", 2_000_000))
    ],
}  # fmt: skip


@dataclass
class Play:
    """One scenario in one world; `step` may raise whatever the world's ports raise, and is then
    called again.

    Attributes:
        answers: request ids in the order of their sending.
    """

    world: World
    actions: list[Action]
    done: int = 0
    request_ids: list[str] = field(default_factory=list[str])

    @property
    def is_over(self) -> bool:
        return self.done == len(self.actions)

    def step(self) -> None:
        """Do the next action, or what is left of it."""
        action = self.actions[self.done]
        match action:
            case Requests():
                self._ask(action)
            case Until():
                self.world.advance_to(START + round(action.seconds * 1e6))
            case Deploy():
                if self.world.registry is not DEPLOYMENTS[action.name]:
                    self.world.registry = DEPLOYMENTS[action.name]
                    self.world.crash()
                self.world.settle()
            case Answer():
                self._answer(action)
            case Worker():
                self.world.serves_tasks = action.is_on
                self.world.settle()
        self.done += 1

    def _answer(self, action: Answer) -> None:
        run = self.world.folded(action.workflow_id)
        fields: dict[str, Any] = {"token": _text_for(run, action)}
        if action.fault:
            failure = FailureInfo("perdure.errors:Failure", action.fault, is_final=True)
            request: Request = cm.FailToken, action.workflow_id, {**fields, "failure": failure}
        else:
            value = json.encode(action.value)
            request = cm.ResolveToken, action.workflow_id, {**fields, "value": value}
        self._ask(Requests((request,)))

    def _ask(self, action: Requests) -> None:
        for number, (kind, workflow_id, fields) in enumerate(action.requests):
            request_id = f"request-{self.done}-{number}"
            if request_id not in self.request_ids:
                self.request_ids.append(request_id)
            if request_id not in self.world.replies:
                given = dict(fields)
                if "args" in given:
                    given["input"] = self.world.encoded(given.pop("args"))
                self.world.ask(kind, workflow_id, request_id=request_id, **given)
        self.world.settle()
        assert all(request_id in self.world.replies for request_id in self.request_ids), (
            "a request was not answered"
        )


def _text_for(run: RunState, action: Answer) -> str:
    number = action.number
    if not action.is_of_activity:
        return address_of(run, run.tokens[number].issued).text
    found = run.activities.get(number) or (run.later or {})[number]
    return of_attempt(run.workflow_id, run.run_id, number, found.token, is_public=False).text


def play(world: World, actions: list[Action], recover: Callable[[BaseException], None] | None = None) -> Play:
    """Play a scenario to its end.

    Args:
        world: to play it in.
        actions: of the scenario.
        recover: called with what interrupted an action, which is then taken up again.
    """
    story = Play(world, actions)
    while not story.is_over:
        try:
            story.step()
        except BaseException as error:
            if recover is None:
                raise
            recover(error)
    return story


def outcome(story: Play) -> tuple[list[tuple[str, str]], dict[str, list[Any]]]:
    """The answers of clients, and how each run of each workflow id ended: must not depend on
    crashes."""
    world = story.world
    told = [(request_id, type(world.replies[request_id]).__name__) for request_id in story.request_ids]
    ends: dict[str, list[Any]] = {}
    for (workflow_id, _), records in world.histories().items():
        run = world.folded_run(records)
        failure = (run.failure.type, run.failure.message) if run.failure is not None else None
        ends.setdefault(workflow_id, []).append((run.status, run.result, failure, run.reason))
    return told, ends
