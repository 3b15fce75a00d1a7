"""The workflows of the recorded histories. NEVER EDIT one that has a history: it stands for code
that somebody runs in production.

New ones go to the end, with a scenario in `record.py`.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure import activity, context, workflow
from perdure.errors import (
    ActivityFailed,
    ChildFailed,
    Failure,
    TokenFailed,
    WorkflowAlreadyStarted,
    WorkflowNotFound,
)
from perdure.registry import Registry


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str


@activity.defn
async def charge(order_id: str, cents: int) -> str:
    if cents == 3500:
        raise CardDeclined("the card has no 35 dollars")
    return f"receipt of {order_id}"


@activity.defn
async def refund(order_id: str) -> None:
    """Nothing is given back."""


@activity.defn(name="tell", retry=activity.Retry(maximum_attempts=3))
async def say(what: str, fails: int = 0) -> str:
    if activity.info().attempt <= fails:
        raise ConnectionError(f"nobody heard {what!r}")
    return what


@activity.step
async def note(value: int) -> int:
    return value


@workflow.defn
class Delivery:
    """Charge, pick-up, delivery, with a saga, a timeout, a view."""

    def __init__(self, cents: int) -> None:
        self.cents = cents
        self.state = "charging"

    @workflow.run
    async def process(self, cents: int) -> str:
        order_id = workflow.info().workflow_id
        async with workflow.saga() as saga:
            saga.compensate(refund, order_id)
            await charge(order_id, self.cents)
            self.state = "paid"
            if not await workflow.wait_until(lambda: self.state == "picked up", timeout="1m"):
                raise Failure("no driver accepted the order")
        await workflow.sleep(timedelta(minutes=1))
        self.state = await say("rate it")
        return self.state

    @workflow.signal
    def picked_up(self) -> None:
        self.state = "picked up"

    @workflow.view
    def status(self) -> str:
        return self.state


@workflow.defn
class Juggler:
    """Does what signals say, with the helpers of asyncio, and writes down what happened."""

    def __init__(self) -> None:
        self.todo: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.tasks: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()
        self.diary: list[str] = []
        self.ups = 0

    @workflow.run
    async def run(self) -> list[str]:
        while (order := await self.todo.get())[0] != "end":
            self.tasks.append(asyncio.create_task(self.juggle(*order)))
        for task in self.tasks:
            await asyncio.wait([task])
        return self.diary

    async def juggle(self, what: str, number: int) -> None:
        try:
            outcome = await getattr(self, what)(number)
        except asyncio.CancelledError:
            self.diary.append(f"{what} {number} cancelled")
            raise
        except (ActivityFailed, TimeoutError, ExceptionGroup) as error:
            self.diary.append(f"{what} {number} {type(error).__name__}")
        else:
            self.diary.append(f"{what} {number} {outcome}")

    async def call(self, number: int) -> int:
        return await note(number)

    async def hand_over(self, number: int) -> str:
        return await say(f"ball {number}", number % 5)

    async def nap(self, number: int) -> None:
        await asyncio.sleep(number)

    async def gather(self, number: int) -> list[Any]:
        return await asyncio.gather(
            *(say(f"part {part}") for part in range(number % 4)), asyncio.sleep(number % 3, "slept")
        )

    async def race(self, number: int) -> int:
        rivals = [asyncio.create_task(asyncio.sleep(second)) for second in range(1, 2 + number % 4)]
        done, pending = await asyncio.wait(
            [*rivals, asyncio.create_task(self.hand_over(1))], return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        return len(done)

    async def group(self, number: int) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(number))
            group.create_task(say("in a group", 9))
            group.create_task(self.hand_over(number))
        return "all done"

    async def hurry(self, number: int) -> str:
        async with asyncio.timeout(number % 3 + 1):
            return await say("in a hurry", number % 2)

    async def alone(self, number: int) -> float:
        async with self.lock:
            await asyncio.sleep(number % 3)
            return workflow.random().random()

    async def lift(self, number: int) -> int:
        self.ups += 1
        await workflow.wait_until(lambda: self.ups > number, timeout=f"{number + 1}s")
        return self.ups

    async def drop(self, number: int) -> int:
        live = [task for task in self.tasks if not task.done() and task is not asyncio.current_task()]
        for task in live[: number + 1]:
            task.cancel()
        return len(live)

    @workflow.signal
    def do(self, what: str, number: int) -> None:
        self.todo.put_nowait((what, number))

    @workflow.signal
    async def do_later(self, what: str, number: int) -> None:
        await asyncio.sleep(number)
        self.todo.put_nowait((what, number))

    @workflow.query
    def story(self) -> list[str]:
        return self.diary

    @workflow.view
    def balls(self) -> int:
        return sum(not task.done() for task in self.tasks)


@workflow.defn
async def many(count: int) -> list[int]:
    """A fan-out whose results come in any order."""
    found: list[int] = []

    async def one(number: int) -> None:
        insort(found, await note(number) if number % 2 else len(await say("x" * number)))

    await asyncio.gather(*(one(number) for number in range(count)))
    return found


@workflow.defn
async def undone() -> str:
    """Compensations that fail: one is tried again and succeeds, one does not."""
    retry = activity.Retry(maximum_attempts=3, first_interval="2s")
    tries = iter(range(1, 9))

    def wobbly() -> None:
        if next(tries) < 2:
            raise ConnectionError("the hotel does not answer")

    def never() -> None:
        raise ConnectionError("the museum is closed")

    async with workflow.saga(parallel=True, retry=retry) as saga:
        saga.compensate(refund, "train")
        saga.compensate(wobbly)
        saga.options(retry=activity.Retry(maximum_attempts=2), name="museum").compensate(never)
        await charge("flight", 3500)
    return "home again"


@workflow.defn
class Leaves:
    """Its waits are cancelled, and a handler of its continues when it is cancelled once."""

    @workflow.run
    async def run(self) -> str:
        waits = (
            say.options(on_cancel="wait")("waited for", 9),
            say.options(on_cancel="abandon")("abandoned", 1),
            say("asked", 9),
        )
        try:
            async with asyncio.timeout(0.5):
                await asyncio.gather(*waits)
        except TimeoutError:
            pass
        return "done"

    @workflow.signal
    async def stay(self) -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await say("not yet")


@activity.defn(timeout="10s", retry=activity.Retry(maximum_attempts=2))
async def approval(order_id: str) -> int:
    return activity.complete_later().result


@activity.defn(at_most_once=True)
async def pay(cents: int) -> int:
    return cents


@workflow.defn(name="Approved", version=2)
class Approved:
    """Results that come from outside, of a second version of a type; a payment at most once, and a
    stream."""

    @workflow.run
    async def run(self) -> list[Any]:
        out = workflow.stream("told", str)
        out.write("asking")
        told: list[Any] = [await approval("given")]
        out.write("given")
        try:
            await approval("late")
        except ActivityFailed as failed:
            told.append(failed.attempts)
        told.append(await pay(5))
        await workflow.sleep("1s")
        out.write("over")
        return told


@workflow.defn
class Branch:
    """A child that ends, fails or waits, as it is asked."""

    def __init__(self, what: str) -> None:
        self.is_told = False

    @workflow.run
    async def run(self, what: str) -> str:
        if what == "fails":
            raise CardDeclined("a bad year")
        if what == "waits":
            await workflow.wait_until(lambda: self.is_told)
        return what

    @workflow.signal
    def tell(self) -> None:
        self.is_told = True


@workflow.defn
class Company:
    """Has children, sends messages, takes updates, sets attributes, produces records, keeps a
    patch and a context, and continues as new."""

    def __init__(self, year: int) -> None:
        self.year = year
        self.diary: list[Any] = []
        self.staff: list[str] = []

    @workflow.run
    async def run(self, year: int) -> list[Any]:
        if year == 1:
            workflow.set_attributes(year=year, is_open=True)
            if workflow.patched("insured"):
                self.diary.append(await say("insured"))
            await self.open_branches()
            await workflow.produce("years", {"year": year}, key="company")
            await workflow.wait_until(lambda: len(self.staff) >= 2)
            self.diary.append(context.get("country"))
            workflow.set_attributes(is_open=False)
            workflow.continue_as_new(self.run, year + 1)
        return [year, workflow.info().continued_from is not None]

    async def open_branches(self) -> None:
        self.diary.append(await workflow.execute("branch-1", Branch.run, "opens"))
        try:
            await workflow.execute("branch-2", Branch.run, "fails")
        except ChildFailed as failed:
            self.diary.append(type(failed.cause).__name__)
        third = await workflow.start("branch-3", Branch.run, "waits")
        try:
            await workflow.execute("branch-3", Branch.run, "waits")
        except WorkflowAlreadyStarted:
            self.diary.append("in use")
        await third.signal(Branch.tell)
        self.diary.append(await third.result())
        try:
            async with workflow.timeout("5s"):
                await workflow.execute("branch-4", Branch.run, "waits")
        except TimeoutError:
            self.diary.append("too late")
        try:
            await workflow.get("branch-9", Branch.run).signal(Branch.tell)
        except WorkflowNotFound:
            self.diary.append("nobody")

    @workflow.update
    async def hire(self, name: str) -> int:
        if name == "nobody":
            raise CardDeclined("nobody wants to")
        await note(len(name))
        self.staff.append(name)
        return len(self.staff)

    @workflow.query
    def story(self) -> list[Any]:
        return self.diary


@workflow.defn
async def asks() -> list[Any]:
    """Tokens that are answered, failed, and not answered in time."""
    value, bad, late = workflow.token(int), workflow.token(int), workflow.token(str, timeout="20s")
    found: list[Any] = [await value]
    try:
        await bad
    except TokenFailed as failed:
        found.append(str(failed.cause))
    try:
        await late
    except TimeoutError:
        found.append("late")
    return found


@workflow.defn
class Noted:
    """A memo, details, and summaries of a timer, a wait and a child."""

    def __init__(self) -> None:
        self.is_paid = False

    @workflow.run
    async def run(self, is_first: bool = True) -> list[Any]:
        workflow.details("waits for the ship")
        await workflow.sleep("10s", summary="the ship")
        workflow.details(f"waits for {workflow.memo('by')}")
        found = await workflow.wait_until(lambda: self.is_paid, timeout="1m", summary="until it is paid")
        options = workflow.options(summary="a branch", memo={"paid": found})
        workflow.details("")
        await options.execute("branch", Branch.run, "opens")
        if is_first:
            workflow.continue_as_new(self.run, False)
        return [workflow.memo(), workflow.details(), found]

    @workflow.signal
    def pay(self) -> None:
        self.is_paid = True
        workflow.details(f"{workflow.details()}, who has paid")

    @workflow.query
    def story(self) -> list[Any]:
        return [workflow.details(), workflow.memo()]


REGISTRY = Registry.of(
    [Delivery, Juggler, many, undone, Leaves, Approved, Branch, Company, asks, Noted],
    [charge, refund, say, note, approval, pay],
)
