"""Runs that pay through the bank of `programs`, which counts its calls, with crashes at chosen
calls of ports."""

from __future__ import annotations

from collections.abc import Callable

from perdure.model import commands as cm
from tests.simulation.programs import BANK, DEPLOYMENTS
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import SETTINGS, World

Payment = Callable[[list[int]], tuple[World, int]]
"""(points to crash at) to the world of a run `w` that has ended, and the number of its points."""


def pay(
    workflow: str,
    crash_at: list[int],
    *,
    lease_s: int = 0,
    joins_steps: bool = True,
    loses_store: bool = False,
    workers_live: bool = False,
) -> tuple[World, int]:
    """Run a workflow to its end, through crashes.

    Args:
        workflow: its type.
        crash_at: numbers of points, from 1.
        lease_s: seconds after which a lost attempt is noticed; 0: it has no lease.
        joins_steps: as of `World`.
        loses_store: the store's disk is gone with each crash.
        workers_live: workers survive the crashes.

    Returns:
        The world, and the number of points.
    """
    BANK.calls.clear()
    faults = Faults(crash_at)
    world = World(DEPLOYMENTS["first"], SETTINGS, faults.wrap, joins_steps=joins_steps)

    def start() -> None:
        world.ask(cm.StartWorkflow, "w", type=workflow, input=b"[]", request_id="start")

    def live() -> None:
        world.settle()
        if world.state("w") is None:  # the request went with the process: the client repeats it
            start()
            world.settle()
        if lease_s:
            world.advance(lease_s)

    def crash() -> None:
        if loses_store:
            world.medium.lose_store()
        world.crash(workers_live=workers_live)

    start()
    faults.is_armed = True
    while _crashes(live):
        while _crashes(crash):
            pass
    faults.is_armed = False
    return world, len(faults.points)


def _crashes(step: Callable[[], None]) -> bool:
    try:
        step()
    except Crash:
        return True
    return False


def assert_paid_at_most_once(payment: Payment, crashed: Payment) -> None:
    """A payment calls the bank once if nothing crashes, and never more than once if its process
    dies at any one of its points: the call that cannot be looked up is then unknown, now and then.

    Args:
        payment: without a crash.
        crashed: through one.
    """
    world, count = payment([])
    assert world.value("w") == [5, 7]
    assert BANK.calls == {"blind": 1, "seen": 1}
    unknown = 0
    for point in range(1, count + 1):
        world, _ = crashed([point])
        first, second = world.value("w")
        assert BANK.calls["seen"] == 1, point  # looked up, and run if it had not happened
        assert BANK.calls["blind"] <= 1, point
        assert second == 7
        if first == 5:
            assert BANK.calls["blind"] == 1, point
        else:
            assert first == "unknown"
            unknown += 1
    assert 0 < unknown < count
