"""Workflows and activities for scripts, sweeps and properties: each shows one thing.

What an activity does depends only on its arguments and the attempt's number, so that a crash
changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.activity import OnCancel, Retry
from perdure.errors import (
    ActivityFailed,
    ActivityTimedOut,
    ChildFailed,
    Failure,
    NotDone,
    OutcomeUnknown,
    RetryAfter,
    TokenFailed,
    UpdateFailed,
    UpdateRejected,
    WorkflowAlreadyStarted,
    WorkflowFailed,
    WorkflowNotFound,
)
from perdure.registry import Registry
from tests.simulation.relay import Relay


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str


class Unreachable(ConnectionError):
    """A subclass of a subclass of OSError."""


# ---- activities


@activity.defn
async def charge(order_id: str, cents: int) -> str:
    if cents == 3500:
        raise CardDeclined("the card has no 35 dollars")
    return f"receipt of {order_id}"


@activity.defn
async def refund(order_id: str) -> str:
    return f"refunded {order_id}"


@activity.defn
async def echo(value: Any) -> Any:
    return value


@activity.step
async def quick(value: Any) -> Any:
    return value


@activity.defn
def in_thread(value: int) -> int:
    return value + 1


@activity.defn
async def flaky(fails: int) -> str:
    """Fails so many times, then works."""
    attempt = activity.info().attempt
    if attempt <= fails:
        raise ConnectionError(f"no answer to attempt {attempt}")
    return f"done by attempt {attempt}"


@activity.step
async def flaky_step(fails: int) -> str:
    attempt = activity.info().attempt
    if attempt <= fails:
        raise ConnectionError(f"no answer to attempt {attempt}")
    return f"done by attempt {attempt}"


@activity.defn
async def unreachable() -> None:
    raise Unreachable("nobody is there")


@activity.defn
async def slowed() -> str:
    if activity.info().attempt == 1:
        raise RetryAfter("45s", "come back later")
    return "let in"


@activity.defn(timeout="10ms", retry=Retry(maximum_attempts=2))
async def hang() -> None:
    await asyncio.Event().wait()


@activity.defn
async def odd() -> object:
    return object()


@activity.defn
async def blob(size: int) -> str:
    return "x" * size


@activity.defn
async def seat(who: str) -> str:
    """Known to later deployments only."""
    return f"a seat for {who}"


# ---- one call each


@workflow.defn
async def call_flaky(fails: int) -> str:
    return await flaky(fails)


@workflow.defn
async def exhausted() -> list[str]:
    """Needs an operator, twice."""
    retry = Retry(maximum_attempts=2, when_exhausted="pause")
    insists = flaky.options(retry=retry)
    found = await asyncio.gather(insists(99), insists(99), return_exceptions=True)
    return [str(each) for each in found]


@workflow.defn
async def call_flaky_step(fails: int) -> str:
    return await flaky_step(fails)


@workflow.defn
async def give_up(fails: int) -> str:
    return await flaky.options(retry=Retry(give_up_after="10s"))(fails)


@workflow.defn
async def three_attempts(fails: int) -> str:
    try:
        return await flaky.options(retry=Retry(maximum_attempts=3))(fails)
    except ActivityFailed as failed:
        return f"{failed} ({failed.attempts}, {type(failed.cause).__name__})"


@workflow.defn
async def call_hang() -> str:
    try:
        await hang()
    except TimeoutError as error:
        return f"{type(error).__name__}: {error}"
    return "never"


@workflow.defn
async def picky() -> None:
    await unreachable.options(retry=Retry(never=(OSError,)))()


@workflow.defn
async def call_slowed() -> str:
    return await slowed()


@workflow.defn
async def call_odd() -> None:
    await odd()


@workflow.defn
async def call_blob(size: int) -> int:
    try:
        return len(await blob(size))
    except ActivityFailed as failed:
        return -failed.attempts


@workflow.defn
async def call_seat(who: str) -> str:
    return await seat(who)


@workflow.defn
async def seat_within_10s(who: str) -> str:
    return await seat.options(retry=Retry(give_up_after="10s"))(who)


@workflow.defn
async def call_in_thread(value: int) -> int:
    return await in_thread(value)


@workflow.defn
async def odd_result() -> object:
    return object()


@workflow.defn
async def broken(text: str) -> None:
    raise ValueError(text)


# ---- other workflows


@workflow.defn
async def leaf(number: int) -> int:
    """A child that returns, or fails."""
    if number < 0:
        raise CardDeclined("less than nothing")
    return int(await quick(number))


@workflow.defn(name="Amended")
class Amended:
    """Before the change: charges."""

    def __init__(self) -> None:
        self.calls = 0

    @workflow.run
    async def run(self) -> list[str]:
        told = [str(await echo("before"))]
        await workflow.wait_until(lambda: self.calls > 0)
        told.append(str(await echo("old")))
        await workflow.wait_until(lambda: self.calls > 1)
        return told

    @workflow.signal
    def call(self) -> None:
        self.calls += 1


@workflow.defn(name="Amended")
class AmendedPatched(Amended):
    """After it: runs that have not passed the place take the new branch."""

    @workflow.run
    async def run(self) -> list[str]:
        told = [str(await echo("before"))]
        await workflow.wait_until(lambda: self.calls > 0)
        if workflow.patched("new-echo"):
            told.append(str(await echo("first new")))
            told.append(str(await echo("second new")))
        else:
            told.append(str(await echo("old")))
        await workflow.wait_until(lambda: self.calls > 1)
        return [*told, str(workflow.patched("new-echo"))]


@workflow.defn(name="Amended", version=2)
class AmendedAgain(Amended):
    """A second version beside the first: another order of calls."""

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_until(lambda: self.calls > 0)
        return [str(await echo("second version")), str(await echo("of it"))]


@workflow.defn
class Sibling:
    """A child that waits for the signal to end, and cleans up when it is cancelled."""

    def __init__(self) -> None:
        self.is_done = False

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_until(lambda: self.is_done)
        except asyncio.CancelledError:
            await echo("clean up")
            raise
        return f"child of {workflow.info().parent}"

    @workflow.signal
    def end(self) -> None:
        self.is_done = True


@workflow.defn
class Cart:
    """Takes updates until one closes it."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.is_closed = False

    @workflow.run
    async def run(self) -> list[int]:
        await workflow.wait_until(lambda: self.is_closed)
        return self.items

    @workflow.update
    async def add(self, item: int, pause_s: int = 0) -> int:
        if pause_s:
            await workflow.sleep(timedelta(seconds=pause_s))
        echoed = int(await quick(item))
        if echoed > 100:
            raise CardDeclined("too dear")
        self.items.append(echoed)
        return len(self.items)

    @add.validator
    def _may_add(self, item: int, pause_s: int = 0) -> None:
        if item < 0:
            raise ValueError("less than nothing")

    @workflow.update
    def close(self) -> str:
        self.is_closed = True
        return "closed"


@workflow.defn
async def shops() -> list[str]:
    """Updates another workflow."""
    cart = workflow.get("cart", Cart.run)
    told = [str(await cart.update(Cart.add, 1))]
    try:
        await cart.update(Cart.add, -1)
    except UpdateRejected:
        told.append("rejected")
    try:
        await cart.update(Cart.add, 101, 1)
    except UpdateFailed as failed:
        told.append(type(failed.cause).__name__)
    return [*told, await cart.update(Cart.close)]


@workflow.defn
class Counting:
    """Continues as new after every second signal, with what it has counted."""

    def __init__(self, total: int = 0, rounds: int = 2) -> None:
        self.total = total
        self.seen = 0

    @workflow.run
    async def run(self, total: int = 0, rounds: int = 2) -> str:
        if rounds:
            await workflow.wait_until(lambda: self.seen >= 2 and workflow.all_handlers_finished())
            workflow.continue_as_new(self.run, self.total, rounds - 1)
        await quick("last round")
        return f"{self.total}, {'new' if workflow.info().continued_from else 'first'}"

    @workflow.signal
    async def add(self, amount: int) -> None:
        self.seen += 1
        await workflow.sleep("1s")
        echoed = int(await quick(amount))
        self.total += echoed

    @workflow.view
    def counted(self) -> int:
        return self.total


@workflow.defn
async def hasty(rounds: int) -> int:
    """Continues as new without having waited for anything."""
    if rounds:
        workflow.continue_as_new(hasty, rounds - 1)
    return 7


@workflow.defn
async def counts_by_a_child() -> str:
    return await workflow.execute("counting", Counting.run)


@workflow.defn
async def many_children(count: int) -> int:
    return sum(await asyncio.gather(*(workflow.execute(f"leaf-{each}", leaf, each) for each in range(count))))


@workflow.defn
async def family() -> list[str]:
    """One of everything that can become of another workflow."""
    told: list[str] = []
    sibling = await workflow.start("sibling", Sibling.run)
    try:
        await workflow.execute("sibling", Sibling.run)
    except WorkflowAlreadyStarted:
        told.append("in use")
    await sibling.signal(Sibling.end)
    told.append(await sibling.result())
    try:
        await workflow.execute("bad", leaf, -1)
    except ChildFailed as failed:
        told.append(f"{type(failed.cause).__name__} of {failed.workflow_id}")
    try:
        async with workflow.timeout("10s"):
            await workflow.execute("late", Sibling.run)
    except TimeoutError:
        told.append("too late")
    try:
        await workflow.get("nobody", Sibling.run).signal(Sibling.end)
    except WorkflowNotFound:
        told.append("nobody")
    try:
        await workflow.get("bad", leaf).result()
    except WorkflowFailed as failed_:
        told.append(type(failed_.cause).__name__)
    await workflow.start("cancelled", Sibling.run)
    await workflow.options(on_close="terminate").start("terminated", Sibling.run)
    await workflow.options(on_close="abandon").start("abandoned", Sibling.run)
    return told


# ---- tokens


@workflow.defn
async def asks(seconds: float) -> list[Any]:
    """Four tokens: answered with a value, failed, not answered in time, and never looked at."""
    value, bad = workflow.token(int, timeout=f"{seconds}s"), workflow.token(int)
    late, unseen = workflow.token(str, timeout=f"{seconds}s"), workflow.token(public=True)
    told: list[Any] = [await echo(len(value.text) > len("token_")), await value]
    try:
        await bad
    except TokenFailed as failed:
        told.append(str(failed.cause))
    try:
        await late
    except TimeoutError as error:
        told.append(str(error))
    return [*told, await value, unseen.is_answered]


@workflow.defn
class Moves:
    """Three runs in a row with the same named token; a token without a name ends with its run."""

    def __init__(self) -> None:
        self.calls = 0
        self.texts: list[str] = []

    @workflow.run
    async def run(self, round: int = 1) -> str:
        named = workflow.token(int, timeout="1 hour", name="answer")
        self.texts = [named.text, workflow.token(int).text, f"{round} {named.is_new}"]
        await workflow.wait_until(lambda: self.calls and workflow.all_handlers_finished())
        if round < 3:
            workflow.continue_as_new(self.run, round + 1)
        try:
            return f"{await named} {named.is_new} {workflow.token(int, name='answer').is_new}"
        except TokenFailed as failed:
            return f"failed: {failed.cause}"
        except TimeoutError:
            return "late"

    @workflow.signal
    def call(self) -> None:
        self.calls += 1

    @workflow.update
    async def count(self, by: int) -> int:
        self.calls += by
        return self.calls

    @workflow.view
    def told(self) -> list[str]:
        return self.texts


@activity.defn(timeout="30s", retry=activity.Retry(maximum_attempts=2))
async def approval(order: str) -> int:
    """The result comes later, from outside."""
    return activity.complete_later().result


@workflow.defn
async def asks_later(order: str) -> list[Any]:
    """Four activities whose results come from outside: given, failed, not given in time, never
    looked at."""
    told: list[Any] = [await approval(order)]
    try:
        await approval(order)
    except Exception as failed:
        told.append(str(failed))
    try:
        await approval(order)
    except ActivityTimedOut as late:
        told.append(late.attempts)
    unseen = asyncio.ensure_future(approval(order))
    await workflow.sleep("1s")
    unseen.cancel()
    return told


# ---- streams


@activity.defn
async def tell(count: int) -> int:
    out = activity.stream("numbers", int)
    for number in range(count):
        out.write(number)
    return count


@workflow.defn(name="Tells")
class Tells:
    """Writes to streams by itself, and by an activity; one that is suspended has written nothing
    since."""

    def __init__(self) -> None:
        self.calls = 0

    @workflow.run
    async def run(self) -> list[int]:
        out = workflow.stream("words", str)
        out.write("begun")
        told = [await tell(2)]
        out.write("told")
        for at in range(3):
            await workflow.wait_until(lambda at=at: self.calls > at)  # type: ignore[misc]
            out.write(f"call {at}")
        out.write("over")
        return told

    @workflow.signal
    def call(self) -> None:
        self.calls += 1


@workflow.defn(name="Tells")
class TellsBadly(Tells):
    """Cannot be replayed beside what the other one has done."""

    @workflow.run
    async def run(self) -> list[int]:
        workflow.stream("words", str).write("never")
        await workflow.sleep("1s")
        return []


# ---- stories


@workflow.defn
class Order:
    """Charged, picked up, delivered; refunded if it is not picked up."""

    def __init__(self) -> None:
        self.state = "charging"

    @workflow.run
    async def process(self, cents: int) -> str:
        order_id = workflow.info().workflow_id
        async with workflow.saga() as saga:
            saga.compensate(refund, order_id)
            await charge(order_id, cents)
            self.state = "paid"
            if not await workflow.wait_until(lambda: self.state == "picked up", timeout="1m"):
                raise Failure("no driver accepted the order")
        if not await workflow.wait_until(lambda: self.state == "delivered", timeout="1m"):
            raise Failure("the order was not delivered")
        await workflow.sleep("1m")
        return str(await echo(f"rate {order_id}"))

    @workflow.signal
    def picked_up(self) -> None:
        self.state = "picked up"

    @workflow.signal
    def delivered(self) -> None:
        self.state = "delivered"

    @workflow.query
    def progress(self, loud: bool) -> str:
        return self.state.upper() if loud else self.state

    @workflow.query
    def broken(self) -> str:
        raise ValueError("this query always raises")

    @workflow.query
    def secretive(self) -> object:
        return object()

    @workflow.view
    def status(self) -> str:
        return self.state


@workflow.defn
class Trip:
    """Two bookings; a cancellation undoes both, however often it is asked for."""

    @workflow.run
    async def travel(self) -> str:
        async with workflow.saga() as saga:
            saga.compensate(refund, "hotel")
            await charge("hotel", 100)
            saga.compensate(refund, "flight")
            await charge("flight", 200)
            await workflow.sleep("1 day")
        return "home again"


@workflow.defn
async def undone(is_parallel: bool) -> str:
    """A trip that fails; one compensation is tried again, one fails, one succeeds."""
    retry = Retry(maximum_attempts=4, first_interval="2s", coefficient=1)
    tries = iter(range(1, 100))

    def wobbly() -> None:
        if next(tries) < 3:
            raise ConnectionError("the hotel does not answer")

    async with workflow.saga(parallel=is_parallel, retry=retry) as saga:
        saga.compensate(refund, "train")
        saga.compensate(wobbly)
        saga.options(retry=Retry(maximum_attempts=2), name="museum").compensate(give_back_no_ticket)
        await charge("flight", 3500)
    return "home again"


def give_back_no_ticket() -> None:
    raise ConnectionError("the museum is closed")


@workflow.defn
async def waits_for_the_end(how: OnCancel) -> str:
    """Two waits for activities are cancelled: one of a task that is out, one in a back-off."""
    try:
        async with asyncio.timeout(3):
            await asyncio.gather(
                echo.options(on_cancel=how)("out"), flaky.options(on_cancel=how)(99), return_exceptions=True
            )
    except TimeoutError:
        pass
    return await charge("late", 100)


@workflow.defn
class Box:
    """Collects what it is given until it is closed."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.is_closed = False

    @workflow.run
    async def collect(self) -> list[Any]:
        await workflow.wait_until(lambda: self.is_closed)
        return self.items

    @workflow.signal
    def put(self, item: int) -> None:
        self.items.append(item)

    @workflow.signal
    async def put_slowly(self, item: int) -> None:
        self.items.append(await echo(item))

    @workflow.signal
    async def put_in_order(self, item: int) -> None:
        """The order in which these come is not to be seen."""
        insort(self.items, await echo(item))

    @workflow.signal
    async def put_later(self, item: int, seconds: int) -> None:
        await asyncio.sleep(seconds)
        self.items.append(item)

    @workflow.signal
    def close(self) -> None:
        self.is_closed = True

    @workflow.query
    def count(self) -> int:
        return len(self.items)

    @workflow.view
    def content(self) -> list[Any]:
        if len(self.items) == 13:
            raise ValueError("thirteen cannot be shown")
        return self.items


@workflow.defn
class Race:
    """A signal against the clock."""

    def __init__(self) -> None:
        self.is_called = False

    @workflow.run
    async def run(self, seconds: int) -> str:
        return (
            "signal"
            if await workflow.wait_until(lambda: self.is_called, timeout=f"{seconds}s")
            else "timeout"
        )

    @workflow.signal
    def call(self) -> None:
        self.is_called = True


@workflow.defn
class Fragile:
    """A handler that raises takes the run down, in order."""

    @workflow.run
    async def run(self) -> None:
        async with workflow.saga() as saga:
            saga.compensate(refund, "deposit")
            await workflow.sleep("1 day")

    @workflow.signal
    async def drop(self, text: str) -> None:
        await quick("falling")
        raise ValueError(text)

    @workflow.signal
    async def tidy(self) -> None:
        """Asked to stop, it tidies up with two activities."""
        try:
            await asyncio.Event().wait()
        finally:
            await echo("first")
            await echo("second")


@workflow.defn
class Stubborn:
    """Its handler waits for ever, until it is cancelled."""

    @workflow.run
    async def run(self) -> str:
        return "main is done"

    @workflow.signal
    async def linger(self) -> None:
        await asyncio.Event().wait()


@workflow.defn
async def fan_out(count: int) -> int:
    return sum(await asyncio.gather(*(echo(number) for number in range(count))))


@workflow.defn
async def fan_out_steps(count: int) -> int:
    return sum(await asyncio.gather(*(quick(number) for number in range(count))))


@workflow.defn
async def chain_steps(count: int) -> int:
    total = 0
    for number in range(count):
        total += await quick(number)
    return total


@workflow.defn
async def tell_others(order_id: str) -> str:
    """A record before, between and after what is waited for."""
    await workflow.produce("orders", {"order": order_id, "is": "accepted"}, key=order_id)
    receipt = await charge(order_id, 1)
    await quick(1)
    await workflow.produce(
        "orders", {"order": order_id, "is": receipt}, key=order_id, cloudevent="shop.charged"
    )
    await asyncio.sleep(5)
    await workflow.produce("orders", None, key=order_id)
    return receipt


@workflow.defn
async def group() -> str:
    """One fails, the others are cancelled."""
    story = "all is well"
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(60))
            tasks.create_task(charge("one", 3500))
            tasks.create_task(seat("two"))
    except* CardDeclined as declined:
        story = f"{len(declined.exceptions)} declined"
    return story


@workflow.defn
async def sleeps(count: int) -> list[int]:
    """Timers that fire in another order than they were started."""
    ended: list[int] = []

    async def nap(seconds: int) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    await asyncio.gather(*(nap(seconds) for seconds in range(count, 0, -1)))
    return ended


@workflow.defn
async def sleep_then_step(seconds: int) -> Any:
    await asyncio.sleep(seconds)
    return await quick("rested")


@workflow.defn
async def time_limited() -> str:
    try:
        async with asyncio.timeout(30):
            await seat("nobody")
    except TimeoutError:
        return "went on without"
    return "got it"


@workflow.defn
async def first_of_two() -> str:
    """The slower one is cancelled."""
    slow, fast = (
        asyncio.ensure_future(asyncio.sleep(60, "slow")),
        asyncio.ensure_future(asyncio.sleep(5, "fast")),
    )
    done, pending = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return done.pop().result()


@workflow.defn
async def dice() -> list[float]:
    """Chance and time come from the history."""
    first = workflow.random().random()
    await asyncio.sleep(1)
    return [first, workflow.random().random(), workflow.now().timestamp(), workflow.uuid4().int % 1000]


@workflow.defn
class Patient:
    """Waits for ever."""

    @workflow.run
    async def run(self) -> None:
        await asyncio.Event().wait()


@workflow.defn
class Swallows:
    """Continues after its first cancellation."""

    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            await quick("noted")
            return f"not now ({error})"
        return "never"


@workflow.defn
class Careless:
    """Cancels an activity and does not look whether it had ended."""

    def __init__(self) -> None:
        self.is_over = False

    @workflow.run
    async def run(self) -> str:
        self.task = asyncio.ensure_future(charge("careless", 1))
        self.nap = asyncio.ensure_future(asyncio.sleep(10))
        await workflow.wait_until(lambda: self.is_over)
        return "over"

    @workflow.signal
    def drop(self) -> None:
        self.task.cancel()
        self.nap.cancel()

    @workflow.signal
    def end(self) -> None:
        self.is_over = True


# ---- code that cannot be trusted


@workflow.defn
async def spin() -> None:
    while True:
        await asyncio.sleep(0)


@workflow.defn
async def leaky() -> float:
    return time.time()


@workflow.defn
class Fickle:
    """As it was first deployed."""

    @workflow.run
    async def run(self) -> str:
        await echo("first")
        await self.called()
        return str(await echo("last"))

    async def called(self) -> None:
        await workflow.wait_until(lambda: self.calls > 0)

    def __init__(self) -> None:
        self.calls = 0

    @workflow.signal
    def call(self) -> None:
        self.calls += 1

    @workflow.query
    def count(self) -> int:
        return self.calls


@workflow.defn(name="Fickle")
class DivergedFickle(Fickle):
    """Does something else first: no history of the one above fits."""

    @workflow.run
    async def run(self) -> str:
        await quick("a new idea")
        await echo("first")
        await self.called()
        return "diverged"


@workflow.defn(name="Fickle")
class FixedFickle(Fickle):
    """Differs only after the signal."""

    @workflow.run
    async def run(self) -> str:
        await echo("first")
        await self.called()
        return f"fixed: {await echo('last')}"


@dataclass
class Paid:
    cents: int
    by: str


@workflow.defn
async def inline_steps(count: int) -> list[Any]:
    """Closures that are decoded, retried, cancelled, and one name in parallel."""

    def paid(cents: int) -> Paid:
        return Paid(cents, "card")

    async def flaky_closure() -> str:
        if activity.info().attempt <= 2:
            raise ConnectionError("no answer")
        return f"attempt {activity.info().attempt}"

    first = await workflow.step("pay", paid, count)
    total = [await workflow.step("add", lambda at: at + count, at) for at in range(3)]
    retried = await workflow.step("flaky", flaky_closure)
    await workflow.sleep("2s")
    same = await asyncio.gather(*(workflow.step("same", lambda at: at, at) for at in range(4)))
    return [first.cents, first.by, total, retried, same]


class Bank:
    """Outside of the platform: it outlives crashes."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def charge(self, key: str, cents: int) -> int:
        self.calls[key] += 1
        return cents

    def look_up(self, key: str, cents: int) -> int:
        if not self.calls[key]:
            raise NotDone
        return cents


BANK = Bank()


@workflow.defn
async def charged_once() -> list[Any]:
    """Two steps that may not run twice; the outcome of the second can be looked up."""
    try:
        first: Any = await workflow.step("blind", BANK.charge, "blind", 5, at_most_once=True)
    except OutcomeUnknown:
        first = "unknown"
    second = await workflow.step(
        "seen",
        BANK.charge,
        "seen",
        7,
        at_most_once=True,
        reconcile=lambda: BANK.look_up("seen", 7),
    )
    return [first, second]


@activity.defn(at_most_once=True)
async def pay_blind(cents: int) -> int:
    return BANK.charge("blind", cents)


async def _looked_up(cents: int) -> int:
    return BANK.look_up("seen", cents)


@activity.defn(at_most_once=True, reconcile=_looked_up)
async def pay_seen(cents: int) -> int:
    return BANK.charge("seen", cents)


@workflow.defn
async def paid_once() -> list[Any]:
    """Two activities that may not run twice; the outcome of the second can be looked up."""
    try:
        first: Any = await pay_blind(5)
    except OutcomeUnknown:
        first = "unknown"
    return [first, await pay_seen(7)]


_WORKFLOWS = [
    Cart,
    paid_once,
    undone,
    waits_for_the_end,
    shops,
    inline_steps,
    charged_once,
    Counting,
    hasty,
    counts_by_a_child,
    Moves,
    asks,
    asks_later,
    leaf,
    Sibling,
    many_children,
    family,
    Order, Box, Race, Fragile, Stubborn, Patient, Swallows, call_flaky, call_flaky_step, exhausted, give_up,
    three_attempts, call_hang,
    picky, call_slowed, call_odd, call_blob, call_seat, seat_within_10s, call_in_thread, odd_result, broken,
    fan_out, fan_out_steps, chain_steps,
    tell_others, group, sleeps, sleep_then_step, time_limited, first_of_two, dice, spin, leaky, Relay,
]  # fmt: skip
_ACTIVITIES: list[activity.Activity[..., Any]] = [
    charge, refund, echo, tell, approval, pay_blind, pay_seen, quick, in_thread, flaky, flaky_step,
    unreachable, slowed, hang, odd, blob,
]  # fmt: skip

DEPLOYMENTS: dict[str, Registry] = {
    "first": Registry.of([*_WORKFLOWS, Trip, Careless, Fickle, Tells], _ACTIVITIES),
    "telling badly": Registry.of([*_WORKFLOWS, TellsBadly], _ACTIVITIES),
    "diverged": Registry.of([*_WORKFLOWS, DivergedFickle], _ACTIVITIES),
    "fixed": Registry.of([*_WORKFLOWS, FixedFickle], _ACTIVITIES),
    "before the patch": Registry.of([*_WORKFLOWS, Amended], _ACTIVITIES),
    "patched": Registry.of([*_WORKFLOWS, AmendedPatched], _ACTIVITIES),
    "two versions": Registry.of([*_WORKFLOWS, Amended, AmendedAgain], _ACTIVITIES),
    "the second version": Registry.of([*_WORKFLOWS, AmendedAgain], _ACTIVITIES),
    "fewer": Registry.of(_WORKFLOWS, _ACTIVITIES),
    "with-seat": Registry.of([*_WORKFLOWS, Trip, Careless, Fickle], [*_ACTIVITIES, seat]),
}
"""What may be deployed, by name; `seat` is served by "with-seat" only."""
