"""What is measured: an order of three steps, one of three activities, one that sleeps."""

from __future__ import annotations

from datetime import datetime, timedelta

from perdure import activity, workflow


@activity.step
async def reserve_step(item: int) -> str:
    return "reserved"


@activity.step
async def charge_step(item: int) -> str:
    return "charged"


@activity.step
async def send_step(item: int) -> str:
    return "sent"


@activity.defn
async def reserve(item: int) -> str:
    return "reserved"


@activity.defn
async def charge(item: int) -> str:
    return "charged"


@activity.defn
async def send(item: int) -> str:
    return "sent"


@workflow.defn
class StepsOrder:
    @workflow.run
    async def process(self, item: int) -> list[str]:
        return [await reserve_step(item), await charge_step(item), await send_step(item)]


async def done(word: str) -> str:
    return word


@workflow.defn
class InlineOrder:
    """`StepsOrder` without decorators."""

    @workflow.run
    async def process(self, item: int) -> list[str]:
        return [
            await workflow.step("reserve", done, "reserved"),
            await workflow.step("charge", done, "charged"),
            await workflow.step("send", done, "sent"),
        ]


@workflow.defn
class ActivitiesOrder:
    @workflow.run
    async def process(self, item: int) -> list[str]:
        return [await reserve(item), await charge(item), await send(item)]


@workflow.defn
class Sleeper:
    """What most runs do most of the time: something was done, now it waits for a month."""

    @workflow.run
    async def process(self, item: int) -> None:
        await reserve_step(item)
        await workflow.sleep("30 days")


@workflow.defn
class Counter:
    """A long history: as many signals as are sent."""

    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def process(self) -> int:
        await workflow.wait_until(lambda: self.count < 0)
        return self.count

    @workflow.signal
    def add(self, by: int) -> None:
        self.count += by


@workflow.defn
class Chain:
    """A long history: activities one after the other."""

    @workflow.run
    async def process(self, length: int) -> int:
        for item in range(length):
            await reserve_step(item)
        await workflow.sleep("30 days")
        return length


@workflow.defn
class Alarm:
    """Sleeps until a moment; its result is how late it was woken, microseconds."""

    @workflow.run
    async def process(self, moment: datetime) -> int:
        await workflow.sleep(moment)
        return (workflow.now() - moment) // timedelta(microseconds=1)
