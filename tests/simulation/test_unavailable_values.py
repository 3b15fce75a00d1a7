"""A lost key and a missing object: the runs that need them wait and say so, others are not held up,
and no data is lost when they are back. On memory and in a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.app import App, LargePayloads
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure
from perdure.model import commands as cm
from perdure.model.payloads import UNKNOWN
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.world import InFile, InMemory, World
from tests.unit.test_app import Keyed, Shelf


@activity.defn(name="unavailable_charge", retry=activity.Retry(maximum_attempts=2))
def charge(card: str) -> str:
    if card.startswith("stolen"):
        raise Failure(card)
    return f"charged {card}"


@workflow.defn(name="UnavailableOrder")
class Order:
    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def process(self, card: str) -> list[str]:
        await workflow.wait_until(lambda: len(self.notes) > 1)
        try:
            return [*self.notes, await charge(card)]
        except Failure as declined:
            return [*self.notes, f"declined {declined}"]

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.update
    def change(self, text: str) -> str:
        return text

    @workflow.view
    def shown(self) -> list[str]:
        return self.notes


REGISTRY = Registry.of([Order], [charge])


class Two:
    """A world whose values go through a codec with two keys and a store."""

    def __init__(self, medium: Any) -> None:
        self.codec = Keyed("k1", "k2")
        self.shelf = Shelf()
        app = App(self.codec, payloads=LargePayloads(store=self.shelf, above_bytes=1024))
        self.world = World(REGISTRY, medium=medium, payloads=JsonPayloads.of(app))

    def encoded(self, key: str, *values: object) -> bytes:
        """By this key, as a client encodes them that has it."""
        codec = Keyed(key)
        large = LargePayloads(store=self.shelf, above_bytes=1024)
        return JsonPayloads.of(App(codec, payloads=large)).encode(list(values), UNKNOWN, what="it")

    def start(self, workflow_id: str, key: str, card: str) -> Any:
        world = self.world
        request = world.ask(
            cm.StartWorkflow, workflow_id, type="UnavailableOrder", input=self.encoded(key, card)
        )
        world.settle()
        return world.replies[request]

    def note(self, workflow_id: str, key: str, text: str) -> Any:
        world = self.world
        request = world.ask(cm.SignalWorkflow, workflow_id, name="note", input=self.encoded(key, text))
        world.settle()
        return world.replies[request]

    def check(self) -> None:
        world = self.world
        check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)


@pytest.fixture(params=["memory", "file"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Two]:
    found = Two(InFile(tmp_path / "app.db") if request.param == "file" else InMemory())
    yield found
    found.world.close()


@pytest.mark.parametrize("crashes", [False, True])
def test_a_run_whose_key_is_lost_waits_and_ends_as_if_nothing_had_been(two: Two, crashes: bool) -> None:
    world = two.world
    two.start("order-1", "k1", "card-1")
    two.note("order-1", "k1", "first")
    two.codec.keys.remove("k1")
    world.crash()  # the code is in memory no longer
    world.settle()
    state = world.state("order-1")
    assert state.status is Status.SUSPENDED
    assert "the codec 'keyed' does not have the key 'k1' here" in state.reason

    two.start("order-2", "k2", "card-2")
    assert isinstance(two.note("order-1", "k2", "second"), Accepted)  # recorded while it waits
    for text in ("one", "two"):
        two.note("order-2", "k2", text)
    assert world.value("order-2") == ["one", "two", "charged card-2"]

    two.codec.keys.insert(0, "k1")
    if crashes:
        world.crash()
    world.advance(120)
    assert world.value("order-1") == ["first", "second", "charged card-1"]
    assert world.names("order-1").count("WorkflowSuspended") == 1
    two.check()


def test_what_cannot_be_read_when_it_comes_is_recorded_and_waits(two: Two) -> None:
    world = two.world
    two.codec.keys.remove("k1")
    assert isinstance(two.start("order-1", "k1", "card-1"), Accepted)
    assert world.state("order-1").status is Status.SUSPENDED
    two.start("order-2", "k2", "card-2")
    assert isinstance(two.note("order-2", "k1", "first"), Accepted)
    assert world.state("order-2").status is Status.SUSPENDED
    assert isinstance(two.note("order-2", "k2", "second"), Accepted)
    world.advance(600)
    assert world.names("order-2").count("WorkflowSuspended") == 1  # tries leave no events
    two.codec.keys.insert(0, "k1")
    world.advance(120)
    assert world.value("order-2") == ["first", "second", "charged card-2"]
    two.note("order-1", "k2", "first")
    two.note("order-1", "k2", "second")
    assert world.value("order-1") == ["first", "second", "charged card-1"]
    two.check()


def test_an_update_that_cannot_be_read_is_refused_since_its_caller_waits(two: Two) -> None:
    world = two.world
    two.start("order-1", "k2", "card-1")
    two.codec.keys.remove("k1")
    before = world.names("order-1")
    request = world.ask(cm.UpdateWorkflow, "order-1", name="change", input=two.encoded("k1", "x"))
    world.settle()
    reply = world.replies[request]
    assert isinstance(reply, Refused)
    assert "does not have the key 'k1'" in reply.message
    assert world.names("order-1") == before
    assert world.state("order-1").status is Status.RUNNING


def test_a_worker_that_lacks_a_key_costs_no_attempt(two: Two) -> None:
    world = two.world
    two.start("order-1", "k2", "card-1")
    world.serves_tasks = False
    two.note("order-1", "k2", "first")
    two.note("order-1", "k2", "second")
    assert "ActivityScheduled" in world.names("order-1")
    keys = [*two.codec.keys]
    two.codec.keys[:] = ["k3"]  # of worker and engine
    world.serves_tasks = True
    world.advance(20)
    assert world.state("order-1").status is Status.SUSPENDED
    assert "'k2'" in world.state("order-1").reason
    two.codec.keys[:] = keys
    world.advance(1_000)
    assert world.value("order-1") == ["first", "second", "charged card-1"]
    two.check()


def test_code_waits_for_a_failure_that_it_cannot_read_instead_of_seeing_another_one(two: Two) -> None:
    world = two.world
    two.start("order-1", "k1", "stolen card")
    two.note("order-1", "k1", "first")
    two.note("order-1", "k1", "second")
    world.settle()
    assert world.value("order-1") == ["first", "second", "declined stolen card"]
    assert not [event for event in world.events("order-1") if b"stolen" in repr(event).encode()]

    two.start("order-2", "k2", "stolen card")
    world.serves_tasks = False
    two.note("order-2", "k2", "first")
    two.note("order-2", "k2", "second")
    world.engine.runs.clear()
    world.settle()
    task = world.tasks.popleft()
    report = world._run(task)  # of a worker with the key
    two.codec.keys.remove("k2")
    world.log.submit([report])
    world.settle()
    assert world.state("order-2").status is Status.SUSPENDED
    two.codec.keys.append("k2")
    world.advance(120)
    assert world.value("order-2") == ["first", "second", "declined stolen card"]
    two.check()


@pytest.mark.parametrize("fault", ["gone", "away"])
def test_a_run_waits_for_an_object_and_continues_when_it_is_back(two: Two, fault: str) -> None:
    world = two.world
    card = "card" * 1_000
    two.start("order-1", "k1", card)
    assert len(two.shelf.objects) == 1
    assert max(len(event.input) for event in world.events("order-1")[:1]) < 100
    kept = {**two.shelf.objects}
    if fault == "gone":
        two.shelf.objects.clear()
    two.shelf.is_down = fault == "away"
    world.crash()
    world.settle()
    state = world.state("order-1")
    assert state.status is Status.SUSPENDED
    assert ("is not in the store" if fault == "gone" else "the shelf is away") in state.reason
    two.shelf.objects.update(kept)
    two.shelf.is_down = False
    world.advance(120)
    two.note("order-1", "k1", "first")
    two.note("order-1", "k1", "second")
    world.advance(120)
    assert world.value("order-1") == ["first", "second", f"charged {card}"]
    two.check()


def test_code_that_cannot_encode_waits_instead_of_failing(two: Two) -> None:
    world = two.world
    two.start("order-1", "k1", "card-1")
    two.note("order-1", "k1", "first")
    last = two.encoded("k1", "second")
    kept = [*two.codec.keys]

    class Broken(Keyed):
        def encode(self, data: bytes, key_id: str, /) -> bytes:
            raise ConnectionError("the key service is away")

    world.payloads._wrapping._codec, whole = Broken(*kept), world.payloads._wrapping._codec
    world.payloads._wrapping._codec.decode = whole.decode
    world.ask(cm.SignalWorkflow, "order-1", name="note", input=last)
    world.settle()
    state = world.state("order-1")
    assert state.status is Status.SUSPENDED
    assert "the key service is away" in state.reason
    world.payloads._wrapping._codec = whole
    world.advance(120)
    assert world.value("order-1") == ["first", "second", "charged card-1"]
    two.check()
