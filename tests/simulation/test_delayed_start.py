"""What comes before a delayed start is there when the code begins: signals are handled first, in
their order."""

from __future__ import annotations

import pytest

from perdure import workflow
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import World


@workflow.defn
class Late:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        self.seen.append("run")
        await workflow.wait_until(lambda: "end" in self.seen)
        return self.seen

    @workflow.signal
    async def put(self, name: str) -> None:
        self.seen.append(name)


REGISTRY = Registry.of([Late])


@pytest.mark.parametrize("crashes", [False, True])
def test_signals_before_a_delayed_start_are_handled_before_the_code_begins(crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=1_000_000)
    for name in ("a", "b", "c"):
        world.signal("w", "put", name)
    assert world.state("w").status is not Status.COMPLETED
    if crashes:
        world.crash()
    world.advance(1)
    world.signal("w", "put", "end")
    assert world.value("w") == ["a", "b", "c", "run", "end"]


def test_a_signal_with_the_start_is_handled_after_the_code_has_begun() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", signal_name="put", signal_input=b'["end"]')
    assert world.value("w") == ["run", "end"]
