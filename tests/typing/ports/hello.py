"""Small workflows, one idea each: activities sync and async, methods, choices, heartbeats, cancellation, functions, steps, errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import NoReturn

from perdure import activity, testing, workflow
from perdure.client import Client
from perdure.errors import ActivityFailed, WorkflowFailed


@dataclass
class Greeting:
    salutation: str
    name: str


@activity.defn
def compose_sync(greeting: Greeting) -> str:
    return f"{greeting.salutation}, {greeting.name}!"


@activity.defn(timeout="10s", retry=activity.Retry(maximum_attempts=2))
async def compose(salutation: str, name: str, *, excited: bool = False) -> str:
    return f"{salutation}, {name}{'!' if excited else '.'}"


@workflow.defn
class Greeter:
    def __init__(self) -> None:
        self.greeting = ""
        self.pending = asyncio.Queue[str]()
        self.is_leaving = False

    @workflow.run
    async def main(self, name: str, *, twice: bool = False) -> str:
        first = await compose_sync(Greeting("Hello", name))
        second = await compose("Hello", name, excited=twice)
        third = await compose.options(timeout="3s", queue="greetings")("Hello", name)
        wrong: int = await compose("Hello", name)  # BAD
        await compose("Hello", 3)  # BAD
        await compose("Hello")  # BAD
        await compose("Hello", name, exited=True)  # BAD
        await compose.options(timeout=3)("Hello", name)  # BAD
        await compose.options(queue="q")("Hello", b"x")  # BAD
        not_awaited: str = compose_sync(Greeting("Hello", name))  # BAD
        compose("Hello", name)  # BAD
        print(wrong, not_awaited)
        self.greeting = first + second + third
        await workflow.produce("greetings", Greeting("Hello", name), key=name, cloudevent="greeting.said")
        await workflow.produce("greetings", b"raw", key=b"k", headers={"tenant": "a"}, avro=workflow.Avro("{}"))
        await workflow.produce("greetings", 1, key=3)  # BAD
        await workflow.produce("greetings", 1, headers={"tenant": 3})  # BAD
        workflow.produce("greetings", 1)  # BAD
        return self.greeting

    @workflow.signal
    async def submit(self, name: str) -> None:
        await self.pending.put(name)

    @workflow.signal
    def leave(self) -> None:
        self.is_leaving = True

    @workflow.signal  # BAD
    def answers(self) -> str:
        return "a signal has no result"

    @workflow.query
    def current(self, prefix: str = "") -> str:
        return prefix + self.greeting


class Fruit(IntEnum):
    APPLE = 1
    BANANA = 2


@activity.defn
def order_apples(amount: int) -> str:
    return f"{amount} apples"


@activity.defn
def order_bananas(quantity: int) -> str:
    return f"{quantity} bananas"


@workflow.defn
class Purchase:
    @workflow.run
    async def main(self, items: Sequence[tuple[Fruit, int]]) -> str:
        orders: dict[Fruit, Callable[[int], Awaitable[str]]] = {Fruit.APPLE: order_apples, Fruit.BANANA: order_bananas}
        return "".join([await orders[fruit](amount) for fruit, amount in items])


class Database:
    async def update(self, table: str) -> int:
        return len(table)


class Tables:
    def __init__(self, database: Database) -> None:
        self.database = database

    @activity.defn
    async def refresh(self, table: str) -> int:
        return await self.database.update(table)

    @activity.defn(timeout="3s")
    def count(self, table: str, *, exact: bool = False) -> int:
        return 3 if exact else len(table)


@activity.provide
async def tables() -> AsyncIterator[Tables]:
    yield Tables(Database())


@workflow.defn
class UsesMethods:
    @workflow.run
    async def main(self) -> int:
        await Tables.refresh(3)  # BAD
        await Tables.count("t", exact="yes")  # BAD
        return await Tables.refresh("t") + await Tables.count.options(timeout="1s")("t", exact=True)


async def methods_are_just_methods() -> None:
    assert await Tables(Database()).refresh("t") == 1
    assert Tables(Database()).count.fn("t") == 3


@activity.defn(timeout="1h")
def never_ends() -> NoReturn:
    while True:
        activity.heartbeat("still here")
        time.sleep(1)


@activity.defn
def cleanup() -> None: ...


@workflow.defn
class Cancellation:
    @workflow.run
    async def main(self) -> None:
        try:
            await never_ends()
        finally:
            await asyncio.shield(cleanup())


@workflow.defn
class Parallel:
    @workflow.run
    async def main(self, names: list[str]) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(compose("Hello", name)) for name in names]
        first, second = await asyncio.gather(compose("a", "b"), compose_sync.options(timeout="1s")(Greeting("c", "d")))
        third = await asyncio.wait_for(compose("c", "d"), timeout=30)
        return [*(task.result() for task in tasks), first, second, third]


@workflow.defn
class Waiting:
    def __init__(self) -> None:
        self.approved_by: str | None = None

    @workflow.run
    async def main(self, until: datetime) -> timedelta:
        started_at: datetime = workflow.now()
        by: str = await workflow.wait_until(lambda: self.approved_by)
        perhaps: str | None = await workflow.wait_until(lambda: self.approved_by, timeout="1 day")
        surely: str = await workflow.wait_until(lambda: self.approved_by, timeout="1 day")  # BAD
        await workflow.wait_until(self.approved_by)  # BAD
        workflow.wait_until(lambda: self.approved_by)  # BAD
        await workflow.sleep(until)
        await workflow.sleep("10s")
        await workflow.sleep(10)  # BAD
        async with workflow.timeout(timedelta(seconds=3)):
            await workflow.sleep("1m 30s")
        workflow.logger.info("%s %s %s", by, perhaps, surely)
        identity: str = str(workflow.uuid4()) + str(workflow.random().random()) + workflow.info().workflow_id
        workflow.logger.info(identity)
        return workflow.now() - started_at


@workflow.defn(name="hello")
async def hello(name: str, *, loud: bool = False) -> str:
    return await compose("Hello", name, excited=loud)


@activity.step
def read_clock() -> float:
    return time.time()


@activity.step(timeout="2s")
async def read_row(key: str) -> dict[str, float]:
    return {key: 1.0}


@activity.step(queue="q")  # BAD
def wrong_step() -> None: ...


@workflow.defn()
class Local:
    @workflow.run
    async def main(self) -> float:
        row = await read_row("x")
        return await read_clock() + row["x"]


translate = activity.named("translate", returns=str, queue="python2")


@workflow.defn
class ByName:
    @workflow.run
    async def main(self, text: str) -> str:
        wrong: int = await translate(text)  # BAD
        print(wrong)
        return await translate(text, to="de")


async def fakes_fit() -> None:
    with testing.attempt(idempotency_key="k"), testing.fake(order_apples, lambda amount: "x" * amount):
        assert await order_apples(2) == "xx"
    with testing.fake(order_apples, len):  # BAD
        pass
    with testing.attempt(key="k"):  # BAD
        pass


async def start() -> None:
    async with Client.connect("sqlite:///x.db") as client:
        print(await client.execute("w-1", Greeter.main, "World"))
        handle = await client.start("w-2", Greeter.main, "World", twice=True)
        await handle.signal(Greeter.submit, "someone")
        await handle.signal(Greeter.submit)  # BAD
        await handle.signal(Greeter.submit, 1)  # BAD
        await handle.signal(Greeter.current)  # BAD
        await handle.signal(Purchase.main, [])  # BAD
        answer: str = await handle.query(Greeter.current, prefix="x")
        await handle.query(Greeter.current, prefix=1)  # BAD
        wrong: int = await handle.query(Greeter.current)  # BAD
        await client.start("w-3", Greeter.main, 5)  # BAD
        await client.start("w-3", Greeter.main)  # BAD
        await client.start("w-3", Greeter.main, "x", twce=True)  # BAD
        await client.start("w-3", Greeter.submit, "x")  # BAD
        number: int = await client.execute("w-3", Greeter.main, "x")  # BAD
        out: str = await client.execute("f-1", hello, "World", loud=True)
        await client.execute("f-1", hello, 3)  # BAD
        await client.options(if_running="attach", delay="1h").start("w-4", Local.main)
        await client.options(if_running="atach").start("w-4", Local.main)  # BAD
        old = client.get("w-2", Greeter.main)
        again: str = await old.result()
        try:
            await old.result()
        except WorkflowFailed as error:
            if isinstance(error.cause, ActivityFailed):
                print(error.cause.attempts, again, answer, out, wrong, number)


def deadline() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)
