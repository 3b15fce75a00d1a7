"""What a cancelled wait does with its activity, and a run with its handlers when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from perdure import activity, testing, workflow
from perdure.activity import OnCancel
from perdure.client.waits import waits_for
from perdure.errors import ActivityTimedOut, UpdateFailed, UsageError, WorkflowFailed
from perdure.registry import Registry

told: list[str] = []


def note(what: str) -> None:
    """Of workflow code, which is replayed."""
    if what not in told:
        told.append(what)


going_on = threading.Event()
may_end = threading.Event()


@activity.defn
async def clean_up(what: str) -> None:
    told.append(f"cleaned up {what}")


@activity.defn
async def patient() -> str:
    """Takes its time to stop."""
    told.append("begins")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        for _ in range(20):
            await asyncio.sleep(0)
        told.append("stops")
        raise
    return "never"


@activity.defn
async def stubborn() -> str:
    told.append("begins")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told.append("succeeds nevertheless")
    return "a result"


@activity.defn(retry=activity.Retry(maximum_attempts=5))
async def clumsy() -> None:
    told.append("begins")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told.append("breaks")
        raise ConnectionError("it broke while it stopped") from None


@activity.defn
def on_a_thread() -> str:
    told.append("begins")
    going_on.set()
    may_end.wait(10)
    try:
        activity.heartbeat()
    except asyncio.CancelledError:
        told.append("stops")
        raise
    return "unasked"


@activity.step
async def beside() -> str:
    told.append("begins")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        told.append("stops")
        raise
    return "never"


@activity.defn
async def unending() -> None:
    told.append("begins")
    await asyncio.to_thread(may_end.wait, 10)
    told.append("ends")


@activity.defn(retry=activity.Retry(first_interval="1 day"))
async def broken() -> None:
    told.append("fails")
    raise ConnectionError("no answer")


@activity.defn(heartbeat_timeout="10s", timeout="1 hour", retry=activity.Retry(maximum_attempts=1))
async def silent(beats: int) -> str:
    for number in range(beats):
        activity.heartbeat(number)
        await asyncio.sleep(0)
    await asyncio.Event().wait()
    return "never"


@workflow.defn
async def listens(beats: int) -> str:
    try:
        return await silent(beats)
    except ActivityTimedOut as late:
        return str(late.cause)


KINDS = {each.name: each for each in (patient, stubborn, clumsy, on_a_thread, beside, unending, broken)}


@workflow.defn
async def wait(kind: str, how: OnCancel, timeout: str) -> str:
    try:
        async with workflow.timeout(timeout):
            await KINDS[kind].options(on_cancel=how)()
    except TimeoutError:
        note("goes on")
    return "done"


@workflow.defn
async def cancelled(kind: str, how: OnCancel) -> None:
    try:
        await KINDS[kind].options(on_cancel=how)()
    finally:
        note("goes on")


@workflow.defn
class Busy:
    """A run with handlers that are under way when it ends."""

    def __init__(self) -> None:
        self.ends = self.swallows = 0

    @workflow.run
    async def run(self, how: str) -> str:
        await workflow.wait_until(lambda: self.ends)
        if how == "fails":
            raise ConnectionError("the run fails")
        if how == "waits":
            await asyncio.Event().wait()
        return "ended"

    @workflow.signal
    def end(self) -> None:
        self.ends += 1

    @workflow.signal
    async def book(self, what: str) -> None:
        async with workflow.saga() as saga:
            saga.compensate(clean_up, what)
            await asyncio.Event().wait()

    @workflow.update
    async def reserve(self, what: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await workflow.sleep("1 hour")
            await clean_up(what)
        return what

    @workflow.signal
    async def swallow(self, times: int) -> None:
        while self.swallows < times:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.swallows += 1


@workflow.defn
async def at_once(how: OnCancel) -> list[str]:
    task = asyncio.create_task(patient.options(on_cancel=how)())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return [str(task.cancelled())]


REGISTRY = Registry.of([wait, cancelled, Busy, at_once, listens], [*KINDS.values(), clean_up, silent])


def played(scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        told.clear()
        going_on.clear()
        may_end.clear()
        async with testing.Environment(REGISTRY, patience="0.05s") as env:
            await scenario(env)
            may_end.set()

    asyncio.run(main())


def names(history: list[str], prefix: str = "Activity") -> list[str]:
    return [each for each in history if each.startswith(prefix)]


async def events(env: testing.Environment, id: str) -> list[str]:
    return [type(event).__name__ for record in await env.client.history(id) for event in record.events]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["patient", "beside"])
def test_by_default_the_code_continues_while_the_activity_stops(kind: str) -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", cancelled, kind, "ask")
        await until(lambda: "begins" in told)
        await run.cancel()
        with pytest.raises(WorkflowFailed):
            await run.result()
        await until(lambda: "stops" in told)
        assert told == ["begins", "goes on", "stops"]

    played(scenario)


@pytest.mark.parametrize(
    ("kind", "becomes", "event"),
    [
        ("patient", "stops", "ActivityCancelled"),
        ("beside", "stops", "ActivityCancelled"),
        ("stubborn", "succeeds nevertheless", "ActivityCompleted"),
        ("clumsy", "breaks", "ActivityFailed"),
    ],
)
def test_the_code_may_wait_until_the_activity_has_ended(kind: str, becomes: str, event: str) -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", cancelled, kind, "wait")
        await until(lambda: "begins" in told)
        await run.cancel()
        with pytest.raises(WorkflowFailed, match="cancelled"):
            await run.result()
        assert told == ["begins", becomes, "goes on"]
        assert names(await events(env, "run"))[-2:] == ["ActivityStopRequested", event]

    played(scenario)


def test_a_function_in_a_thread_is_waited_for_too() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", cancelled, "on_a_thread", "wait")
        await asyncio.to_thread(going_on.wait, 10)
        await run.cancel()
        (found,) = (await env.client.describe("run")).activities
        assert (found.name, found.doing) == ("on_a_thread", "stopping")
        may_end.set()
        with pytest.raises(WorkflowFailed, match="cancelled"):
            await run.result()
        assert told == ["begins", "stops", "goes on"]

    played(scenario)


def test_a_second_cancellation_ends_the_wait() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", cancelled, "on_a_thread", "wait")
        await asyncio.to_thread(going_on.wait, 10)
        await run.cancel()
        assert "asked to stop" in await waits_for(env.client._transport, "run")  # pyright: ignore[reportPrivateUsage]
        await run.cancel()
        with pytest.raises(WorkflowFailed, match="cancelled"):
            await run.result()
        assert told == ["begins", "goes on"]

    played(scenario)


def test_a_timeout_waits_as_a_cancellation_does() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", wait, "patient", "wait", "30s")
        assert await run.result() == "done"
        assert told == ["begins", "stops", "goes on"]

    played(scenario)


def test_an_activity_that_backs_off_is_not_waited_for() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", wait, "broken", "wait", "1 hour")
        assert await run.result() == "done"
        assert told == ["fails", "goes on"]
        assert names(await events(env, "run"))[-2:] == ["ActivityStopRequested", "ActivityCancelled"]

    played(scenario)


def test_an_abandoned_activity_continues_when_the_run_has_closed() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", cancelled, "unending", "abandon")
        await until(lambda: "begins" in told)
        await run.cancel()
        with pytest.raises(WorkflowFailed, match="cancelled"):
            await run.result()
        may_end.set()
        await until(lambda: "ends" in told)
        assert told == ["begins", "goes on", "ends"]

    played(scenario)


def test_an_activity_that_was_never_dispatched_leaves_nothing() -> None:
    async def scenario(env: testing.Environment) -> None:
        hows: tuple[OnCancel, ...] = ("ask", "wait", "abandon")
        for how in hows:
            assert await env.client.execute(f"run-{how}", at_once, how) == ["True"]
            assert names(await events(env, f"run-{how}")) == []

    played(scenario)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_handlers_clean_up_before_a_run_that_fails_or_is_cancelled_closes(how: str) -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", Busy.run, how)
        await run.signal(Busy.book, "a hotel")
        update = await run.start_update(Busy.reserve, "a flight")
        await (run.signal(Busy.end) if how == "fails" else run.cancel())
        with pytest.raises(WorkflowFailed):
            await run.result()
        assert sorted(told) == ["cleaned up a flight", "cleaned up a hotel"]
        with pytest.raises(UpdateFailed):
            await update.result()

    played(scenario)


def test_each_cancellation_cancels_a_handler_that_continues() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", Busy.run, "returns")
        await run.signal(Busy.swallow, 3)
        await run.signal(Busy.end)
        for _ in range(3):
            assert (await env.client.describe("run")).status == "running"
            await run.cancel()
        assert await run.result() == "ended"

    played(scenario)


def test_a_storm_of_cancellations_does_not_stop_compensations() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", Busy.run, "waits")
        await run.signal(Busy.book, "a hotel")
        await run.signal(Busy.end)
        await asyncio.gather(*(run.cancel(f"storm {number}") for number in range(500)))
        with pytest.raises(WorkflowFailed, match="cancelled"):
            await run.result()
        assert told == ["cleaned up a hotel"]
        assert len(await events(env, "run")) < 30

    played(scenario)


@pytest.mark.parametrize("given", ["kill", "", None, 1])
def test_another_word_is_refused_with_the_line(given: object) -> None:
    word: object = given
    if given is None:
        patient.options(on_cancel=None)
        return
    with pytest.raises(UsageError, match=r'test_on_cancel\.py:\d+: .*on_cancel must be "ask", "wait" or'):
        patient.options(on_cancel=word)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("beats", [0, 3])
def test_an_attempt_that_is_silent_for_too_long_has_failed(beats: int) -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", listens, beats)
        await env.sleep("9s")
        assert (await env.client.describe("run")).status == "running"
        await env.sleep("2s")
        assert await run.result() == "attempt 1 sent no heartbeat within heartbeat_timeout=10s"

    played(scenario)
