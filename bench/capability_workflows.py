"""What `bench.capabilities` measures: children, updates, wide runs, and answers from outside."""

from __future__ import annotations

import asyncio

from bench.workflows import charge, reserve, reserve_step, send
from perdure import activity, workflow


@activity.defn
async def done(item: int) -> int:
    return item


@workflow.defn
async def part(item: int) -> str:
    return await reserve_step(item)


@workflow.defn
async def order_of_children(item: int) -> list[str]:
    name = workflow.info().workflow_id
    return [await workflow.execute(f"{name}/{number}", part, item) for number in range(3)]


@workflow.defn
async def order_of_activities(item: int) -> list[str]:
    return [await reserve(item), await charge(item), await send(item)]


@workflow.defn
class Register:
    """Takes the same change as a signal and as an update."""

    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def process(self) -> int:
        await workflow.wait_until(lambda: self.total < 0)
        return self.total

    @workflow.signal
    def add(self, by: int) -> None:
        self.total += by

    @workflow.query
    def read(self) -> int:
        return self.total

    @workflow.update
    def add_and_read(self, by: int) -> int:
        self.total += by
        return self.total


@workflow.defn
async def many_children(count: int) -> int:
    name = workflow.info().workflow_id
    parts = [workflow.execute(f"{name}/{number}", part, number) for number in range(count)]
    return len(await asyncio.gather(*parts))


@workflow.defn
async def many_activities(count: int) -> int:
    return len(await asyncio.gather(*(done(number) for number in range(count))))


@workflow.defn
class Waiting:
    """Waits for one answer after the other, and shows the text of the next."""

    def __init__(self) -> None:
        self.text = ""
        self.answers = 0

    @workflow.run
    async def process(self, count: int) -> int:
        for _ in range(count):
            token = workflow.token(int, public=True)
            self.text = token.text
            await token
            self.answers += 1
        return self.answers

    @workflow.view
    def next_token(self) -> tuple[str, int]:
        return self.text, self.answers
