"""A signal that was accepted while no code was there, and that the code which comes cannot take, is
a dead letter; its run continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perdure import workflow
from perdure.adapters.sqlite.file import connect
from perdure.codec.records import decode_command
from perdure.model import commands as cm
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import InFile, InMemory, World


def box(*, has_more: bool = False) -> Registry:
    """A deployment; one of them has a handler more."""

    @workflow.defn(name="Box")
    class Box:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @workflow.run
        async def run(self) -> list[str]:
            await workflow.wait_until(lambda: "end" in self.seen)
            return self.seen

        @workflow.signal
        def put(self, text: str) -> None:
            self.seen.append(text)

    @workflow.defn(name="Box")
    class BoxWithMore(Box):
        @workflow.run
        async def run(self) -> list[str]:
            await workflow.wait_until(lambda: "end" in self.seen)
            return self.seen

        @workflow.signal
        async def novel(self, text: str = "novel") -> None:
            await workflow.sleep("1s")
            self.seen.append(text)

    return Registry.of([BoxWithMore if has_more else Box])


NOTHING = Registry.of([])
KNOWN = box()
MORE = box(has_more=True)


@pytest.fixture(params=["memory", "file"])
def world_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Registry], World]]:
    worlds: list[World] = []

    def make(registry: Registry) -> World:
        worlds.append(
            World(registry, medium=InFile(tmp_path / "app.db") if request.param == "file" else InMemory())
        )
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def letters(world: World) -> list[tuple[str, bytes | None]]:
    """Reason and message, and the value, of each."""
    if isinstance(world._medium, InMemory):
        return [(f"{each.reason}: {each.message}", each.value) for each in world.medium.letters]
    assert isinstance(world._medium, InFile)
    with closing(connect(world._medium.path, 5.0)) as connection:
        return connection.execute("SELECT reason, record FROM dead_letters ORDER BY position").fetchall()


def signal(world: World, name: str, data: bytes) -> None:
    world.log.submit([cm.SignalWorkflow("w", name=name, input=data, request_id=f"{name}{data.hex()}")])
    world.settle()


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("delay_us", [0, 1_000_000])
def test_a_signal_that_the_type_does_not_have_is_a_dead_letter_when_the_type_appears(
    world_of: Callable[[Registry], World], delay_us: int, crashes: bool
) -> None:
    world = world_of(KNOWN)
    world.start_workflow("w", "Box", delay_us=delay_us)
    world.deploy(NOTHING)
    signal(world, "put", b'["a"]')
    signal(world, "novel", b"[]")
    signal(world, "put", b"[7]")
    signal(world, "put", b'["b"]')
    if delay_us:
        world.advance(1)
    assert world.state("w").status is Status.SUSPENDED
    assert letters(world) == []
    world.deploy(KNOWN)
    world.settle()
    assert world.state("w").status is Status.RUNNING, world.state("w").reason
    (first, first_value), (second, second_value) = letters(world)
    assert first == "refused: workflow type 'Box' has no signal 'novel'; it has: put"
    assert second.startswith("refused: ")
    assert ": signal 'put': " in second, "after the line of the handler"
    for value, name in ((first_value, "novel"), (second_value, "put")):
        command = decode_command(value or b"")
        assert isinstance(command, cm.SignalWorkflow)
        assert (command.workflow_id, command.name, command.request_id) == ("w", name, ""), (
            "a retry is a new one"
        )
    if crashes:
        world.crash()
    world.deploy(MORE)
    assert world.names("w").count("CommandIgnored") == 2
    signal(world, "put", b'["end"]')
    assert world.value("w") == ["a", "b", "end"], "what was ignored once is ignored by later code, too"
    assert len(letters(world)) == 2, "once"


def test_a_delayed_run_whose_code_is_deployed_before_it_begins_ignores_the_signal(
    world_of: Callable[[Registry], World],
) -> None:
    world = world_of(KNOWN)
    world.start_workflow("w", "Box", delay_us=1_000_000)
    world.deploy(NOTHING)
    signal(world, "novel", b"[]")
    world.deploy(KNOWN)
    world.advance(1)
    assert [each[0] for each in letters(world)] == [
        "refused: workflow type 'Box' has no signal 'novel'; it has: put"
    ]
    world.deploy(MORE)
    signal(world, "put", b'["end"]')
    assert world.value("w") == ["end"]


def test_a_handler_that_was_removed_after_its_signal_was_handled_suspends_the_run(
    world_of: Callable[[Registry], World],
) -> None:
    world = world_of(MORE)
    world.start_workflow("w", "Box")
    signal(world, "novel", b"[]")
    world.deploy(KNOWN)
    world.settle()
    assert world.state("w").status is Status.SUSPENDED
    assert letters(world) == []
    world.deploy(MORE)
    world.advance(1)
    signal(world, "put", b'["end"]')
    assert world.value("w") == ["novel", "end"]


def test_a_retried_dead_letter_of_such_a_signal_is_handled_by_code_that_has_the_handler(
    world_of: Callable[[Registry], World],
) -> None:
    world = world_of(KNOWN)
    world.start_workflow("w", "Box")
    world.deploy(NOTHING)
    signal(world, "novel", b"[]")
    world.deploy(KNOWN)
    world.settle()
    world.deploy(MORE)
    ((_, value),) = letters(world)
    world.log.submit([decode_command(value or b"")])
    world.settle()
    world.advance(1)
    signal(world, "put", b'["end"]')
    assert world.value("w") == ["novel", "end"]
