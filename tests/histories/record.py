"""Records a history of each scenario that has none yet: `python -m tests.histories.record`. What is
recorded stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from perdure.codec.history import history_to_json
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import hash_of_record
from perdure.core.machines.token import address_of
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.events import EventRecord
from perdure.model.failure import FailureInfo
from perdure.model.tokens import of_attempt
from tests.histories.programs import REGISTRY
from tests.simulation.world import World

RECORDED: Final = Path(__file__).parent / "recorded"

JUGGLED: Final = (
    ("call", 1), ("hand_over", 2), ("nap", 3), ("gather", 3), ("race", 2), ("group", 2), ("hurry", 1),
    ("hurry", 2), ("alone", 1),
    ("alone", 2), ("lift", 1), ("lift", 4), ("hand_over", 4), ("drop", 1), ("lift", 5),
)  # fmt: skip


def delivered(world: World) -> None:
    world.start_workflow("w", "Delivery", 1200)
    world.signal("w", "picked_up")
    world.advance(60)


def declined(world: World) -> None:
    world.start_workflow("w", "Delivery", 3500)


def nobody_comes(world: World) -> None:
    world.start_workflow("w", "Delivery", 900)
    world.advance(60)


def cancelled(world: World) -> None:
    world.start_workflow("w", "Delivery", 900)
    world.ask(cm.CancelWorkflow, "w", reason="changed my mind")
    world.settle()


def begun_late(world: World) -> None:
    world.start_workflow("w", "Delivery", 900, delay_us=5_000_000)
    world.signal("w", "picked_up")
    world.advance(70)


def suspended_and_resumed(world: World) -> None:
    world.start_workflow("w", "Delivery", 900)
    registry, world.registry = world.registry, type(world.registry)()
    world.crash()
    world.signal("w", "picked_up")
    world.advance(10)
    world.deploy(registry)
    world.advance(80)


def juggled(world: World) -> None:
    world.start_workflow("w", "Juggler")
    for what, number in JUGGLED:
        world.signal("w", "do", what, number)
        world.advance(0.7)
    world.signal("w", "do_later", "nap", 2)
    world.advance(20)
    world.signal("w", "do", "end", 0)
    world.advance(100)


def juggled_and_cancelled(world: World) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Juggler")
    for what, number in JUGGLED:
        world.signal("w", "do", what, number)
    world.ask(cm.CancelWorkflow, "w", reason="rain")
    world.settle()
    world.signal("w", "do", "nap", 1)


def fan_out(world: World) -> None:
    world.start_workflow("w", "many", 20)


def compensated(world: World) -> None:
    world.start_workflow("w", "undone")
    world.advance(20)


def left_waits(world: World) -> None:
    world.start_workflow("w", "Leaves")
    world.signal("w", "stay")
    world.advance(20)
    for reason in ("rain", "storm"):
        world.ask(cm.CancelWorkflow, "w", reason=reason)
        world.settle()
    world.advance(20)


def approved(world: World) -> None:
    world.start_workflow("w", "Approved")
    run = world.folded("w")
    token = run.activities[1].token
    text = of_attempt("w", run.run_id, 1, token, is_public=False).text
    world.ask(cm.ResolveToken, "w", token=text, value=b"42")
    world.settle()
    world.advance(60)


def grows(world: World) -> list[EventRecord]:
    world.start_workflow("w", "Company", 1, context=b'{"country":"it"}')
    for number, name in enumerate(("ada", "nobody", "bob")):
        world.advance(10)
        world.ask(
            cm.UpdateWorkflow, "w", request_id=f"hire-{number}", name="hire", input=world.encoded([name])
        )
        world.settle()
    world.advance(10)
    runs = [records for (workflow_id, _), records in world.histories().items() if workflow_id == "w"]
    return next(records for records in runs if not continues(records))


def continues(records: Sequence[EventRecord]) -> bool:
    first = records[0].events[0]
    return isinstance(first, ev.WorkflowStarted) and bool(first.continued_from)


def goes_on(world: World) -> None:
    grows(world)


def asked(world: World) -> None:
    world.start_workflow("w", "asks")
    run = world.folded("w")
    value, bad = (address_of(run, run.tokens[number].issued).text for number in (1, 2))
    world.ask(cm.ResolveToken, "w", token=value, value=b"42")
    world.settle()
    failure = JsonPayloads().encode_failure(ConnectionError("no line"))
    world.ask(cm.FailToken, "w", token=bad, failure=failure)
    world.settle()
    world.advance(60)


def job(world: World) -> None:
    world.start_workflow("w", "perdure.job", {"activity": "tell", "args": ["a", 2]}, delay_us=1_000_000)
    world.advance(60)


def schedule(world: World) -> list[EventRecord]:
    """The run that starts the second run of a schedule while the first is open."""
    spec = {"type": "Delivery", "args": [900], "every_us": 30_000_000, "overlap": "cancel"}
    world.start_workflow("schedule/s", "perdure.schedule", spec, {})
    world.signal("schedule/s", "pause", "wait")
    world.signal("schedule/s", "unpause")
    world.advance(61)
    histories = world.histories()
    of_it = [records for (workflow_id, _), records in histories.items() if workflow_id == "schedule/s"]
    return of_it[1]


def noted(world: World) -> None:
    world.start_workflow("w", "Noted", memo=b'{"by":"Ada","ticket":7}')
    for _ in range(2):
        world.advance(10)
        world.signal("w", "pay")
    world.advance(60)


SCENARIOS: Final[dict[str, Any]] = {
    scenario.__name__: scenario
    for scenario in (
        delivered, declined, nobody_comes, cancelled, begun_late, suspended_and_resumed, juggled,
        juggled_and_cancelled, fan_out, compensated, left_waits, approved, grows, goes_on, asked, job,
        schedule, noted,
    )
}  # fmt: skip


def play(name: str) -> list[EventRecord]:
    """The history of a scenario, as it is made today."""
    world = World(REGISTRY, checks_fold=True)
    records = SCENARIOS[name](world) or world.history("w")
    world.close()
    return without_places(records)


def without_places(records: Sequence[EventRecord]) -> list[EventRecord]:
    """The same history as of a machine whose tracebacks are empty."""
    found: list[EventRecord] = []
    for record in records:
        previous = hash_of_record(found[-1]) if found else b""
        events = [without_place(event) for event in record.events]
        found.append(replace(record, previous_hash=previous, events=events))
    return found


def without_place(event: ev.AnyEvent) -> ev.AnyEvent:
    if isinstance(
        event,
        ev.ActivityFailed
        | ev.ActivityAttemptFailed
        | ev.WorkflowFailed
        | ev.CompensationAttemptFailed
        | ev.CompensationFailed
        | ev.ChildFailed
        | ev.UpdateFailed
        | ev.TokenFailed,
    ):
        return replace(event, failure=event.failure and without_traceback(event.failure))
    return event


def without_traceback(failure: FailureInfo) -> FailureInfo:
    cause = without_traceback(failure.cause) if failure.cause is not None else None
    return replace(failure, traceback="", cause=cause)


def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    for name in SCENARIOS:
        path = RECORDED / f"{name}.json"
        if path.exists():
            print(f"{path.name} is there and stays as it is")
        else:
            path.write_text(history_to_json(play(name)), encoding="utf-8")
            print(f"{path.name} recorded")


if __name__ == "__main__":
    main()
