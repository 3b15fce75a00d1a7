"""A workflow with children and messages to others, whose ids fall on all partitions."""

from __future__ import annotations

import asyncio

from perdure import activity, workflow
from perdure.errors import ChildFailed, Failure


@activity.step
async def count(number: int) -> int:
    return number


@workflow.defn
async def leaf(number: int) -> int:
    if number < 0:
        raise Failure("less than nothing")
    return int(await count(number))


@workflow.defn
class Sleeper:
    """Ends when it gets the signal."""

    def __init__(self) -> None:
        self.is_done = False

    @workflow.run
    async def run(self) -> str | None:
        await workflow.wait_until(lambda: self.is_done)
        return workflow.info().parent

    @workflow.signal
    def wake(self) -> None:
        self.is_done = True


@workflow.defn
async def parent(name: str, children: int) -> list[str]:
    """Some sums, a sleeper that is woken by a message, and one that outlives its parent."""
    workflow.details(f"sums for {workflow.memo('of')}")
    sums = await asyncio.gather(
        *(workflow.execute(f"{name}/leaf/{number}", leaf, number) for number in range(children))
    )
    sleeper = await workflow.start(f"{name}/sleeper", Sleeper.run)
    await workflow.get(f"{name}/sleeper", Sleeper.run).signal(Sleeper.wake)
    try:
        await workflow.execute(f"{name}/bad", leaf, -1)
    except ChildFailed as failed:
        said = str(failed.cause)
    else:
        said = "nothing"
    await workflow.start(f"{name}/stopped", Sleeper.run)
    left = workflow.options(on_close="abandon", summary="it stays", memo={"of": workflow.memo("of")})
    await left.start(f"{name}/abandoned", Sleeper.run)
    workflow.details(f"done for {workflow.memo('of')}")
    return [str(sum(sums)), str(await sleeper.result()), said]
