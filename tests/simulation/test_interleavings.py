"""Whatever order signals, results, timers, cancellations and crashes come in: it replays alike, and
every invariant holds."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.model import commands as cm
from perdure.model.events import EventRecord
from perdure.model.failure import FailureInfo
from perdure.model.states import Status
from perdure.registry import Registry
from tests.histories.programs import REGISTRY, charge, note, refund, say
from tests.simulation.invariants import check_everything
from tests.simulation.world import World

JUGGLES = ("call", "hand_over", "nap", "gather", "race", "group", "hurry", "alone", "lift", "drop")
NUMBERS = st.integers(0, 7)
MOVES = st.one_of(
    st.tuples(st.sampled_from(["do", "do_later"]), st.sampled_from(JUGGLES), NUMBERS),
    st.tuples(st.sampled_from(["complete", "fail", "fail for good", "repeat"]), st.just(""), NUMBERS),
    st.tuples(st.sampled_from(["pass", "pass", "step back"]), st.just(""), NUMBERS),
    st.tuples(
        st.sampled_from(["together", "cancel", "end", "evict", "crash", "abort", "undeploy", "deploy"]),
        st.just(""),
        st.just(0),
    ),
)
WITHOUT_CODE = Registry.of([], [charge, refund, say, note])
FINAL = FailureInfo("perdure.errors:Failure", "no use", is_final=True)


class Juggling:
    """One juggler, moved by hand; every answer of a worker is a move."""

    def __init__(self, *, evicts: bool = False) -> None:
        self.world = World(REGISTRY, checks_fold=True, evicts=(lambda: True) if evicts else None)
        self.world.serves_tasks = False
        self.world.start_workflow("w", "Juggler")
        self.reported: list[cm.AnyCommand] = []
        self.is_held = False

    def move(self, kind: str, what: str, number: int) -> None:
        world = self.world
        match kind:
            case "do" | "do_later":
                world.ask(cm.SignalWorkflow, "w", name=kind, input=world.encoded([what, number]))
            case "end":
                world.ask(cm.SignalWorkflow, "w", name="do", input=world.encoded(["end", 0]))
            case "cancel":
                world.ask(cm.CancelWorkflow, "w", reason="rain")
            case "complete" | "fail" | "fail for good":
                self._report(kind, number)
            case "repeat" if self.reported:
                world.log.submit([self.reported[number % len(self.reported)]])
            case "pass":
                world.advance(number / 2)
            case "step back":
                world.clock.at -= number * 1_000_000
            case "together":
                self.is_held = not self.is_held
            case "evict":
                world.engine.runs.clear()
            case "crash":
                world.crash()
            case "undeploy":
                world.deploy(WITHOUT_CODE)
            case "deploy":
                world.deploy(REGISTRY)
            case "abort":
                world.engine._abort("")
            case _:
                pass
        if not self.is_held:
            world.settle()

    def end(self) -> list[EventRecord]:
        """Let everything end that can; the history."""
        self.world.serves_tasks = True
        self.world.clock.at = max(self.world.clock.at, self.world.store_port.latest_at())
        self.world.deploy(REGISTRY)
        self.move("end", "", 0)
        self.world.settle()
        self.world.advance(200)
        return self.world.history("w")

    def _report(self, kind: str, number: int) -> None:
        tasks = list(self.world.store_port.tasks())
        if not tasks:
            return
        task = tasks[number % len(tasks)]
        where: dict[str, Any] = {"number": task.number, "token": task.token}
        report: cm.AnyCommand
        if kind == "complete":
            report = cm.CompleteActivity(task.workflow_id, task.run_id, result=b'"by hand"', **where)
        else:
            failure = FINAL if kind == "fail for good" else FailureInfo("builtins:OSError", "dropped")
            report = cm.FailActivity(task.workflow_id, task.run_id, failure=failure, **where)
        self.reported.append(report)
        self.world.log.submit([report])


def story_of(world: World) -> Any:
    """The state of the live code."""
    request_id = world.ask(cm.QueryWorkflow, "w", name="story")
    world.settle()
    return getattr(world.replies[request_id], "result", None)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MOVES, max_size=40))
def test_any_interleaving_replays_alike_and_ends(moves: list[tuple[str, str, int]]) -> None:
    juggling = Juggling()
    world = juggling.world
    for move in moves:
        juggling.move(*move)
    world.deploy(REGISTRY)
    world.settle()
    before = story_of(world)
    world.engine.runs.clear()
    assert story_of(world) == before, "the code came back as another"
    records = juggling.end()
    check_everything(
        {("w", records[0].run_id): records}, world.store_port, REGISTRY.workflows, world.payloads
    )
    assert world.state("w").status in {Status.COMPLETED, Status.CANCELLED}, "I9"
    # the moves take types away and turn the clock back
    expected = ("unknown workflow type", "this machine's clock")
    assert [report for report in world.reports if not any(words in report for words in expected)] == []


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(MOVES.filter(lambda move: move[0] not in {"crash", "abort", "deploy", "undeploy"}), max_size=40)
)
def test_any_interleaving_gives_the_same_history_when_every_run_is_evicted_after_every_batch(
    moves: list[tuple[str, str, int]],
) -> None:
    histories: list[list[EventRecord]] = []
    for evicts in (False, True):
        juggling = Juggling(evicts=evicts)
        for move in moves:
            juggling.move(*move)
        histories.append(juggling.end())
    assert histories[0] == histories[1]
