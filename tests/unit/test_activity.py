"""The result of `@activity.defn`, and calls of it in different places."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, testing
from perdure.activity import Attempt, Info
from perdure.errors import UsageError
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.runtime import ActivitySpec, WorkflowLoop, WorkflowRuntime
from perdure.registry import Registry


@activity.defn(timeout="10s", retry=activity.Retry(maximum_attempts=2))
async def join(left: str, right: str, *, between: str = "") -> str:
    return left + between + right


@activity.defn
def thread_name(prefix: str = "") -> str:
    return prefix + threading.current_thread().name


@activity.step
def key() -> str:
    return activity.idempotency_key()


@activity.defn
async def calls_another() -> str:
    return await join("a", "b")


@activity.defn
async def calls_the_bare_function() -> str:
    result: str = await join.fn("a", "b")
    return result


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    @activity.defn
    async def add(self, amount: int) -> int:
        return self.start + amount

    @activity.defn(name="minus")
    def subtract(self, amount: int) -> int:
        return self.start - amount


class RecordingLoop(asyncio.SelectorEventLoop, WorkflowLoop, WorkflowRuntime):
    """A run as far as activities can tell: what is scheduled is noted, and answered with its
    arguments."""

    reads_only = False

    @property
    def is_read_only(self) -> bool:
        return self.reads_only

    @property
    def runtime(self) -> WorkflowRuntime:  # type: ignore[override]  # a stand-in for both
        return self

    def __init__(self) -> None:
        super().__init__()
        self.scheduled: list[tuple[ActivitySpec, tuple[Any, ...], Mapping[str, Any], ActivityOptions]] = []

    def schedule_activity(
        self,
        activity: ActivitySpec,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ActivityOptions,
    ) -> Awaitable[Any]:
        self.scheduled.append((activity, args, kwargs, options))
        answer: asyncio.Future[Any] = self.create_future()
        self.call_soon(lambda: None if answer.done() else answer.set_result(args))
        return answer


@pytest.fixture
def loop() -> Iterator[RecordingLoop]:
    loop = RecordingLoop()
    yield loop
    loop.close()


# ---- called outside workflows


def test_outside_a_workflow_an_async_activity_is_its_function() -> None:
    assert asyncio.run(join("a", "b", between="-")) == "a-b"


def test_outside_a_workflow_a_sync_activity_runs_in_a_thread() -> None:
    assert threading.current_thread().name not in asyncio.run(thread_name())


def test_a_call_of_a_sync_activity_gives_a_coroutine() -> None:
    call = thread_name()
    assert asyncio.iscoroutine(call)
    call.close()


def test_the_activity_of_an_instance_runs_with_that_instance() -> None:
    counter = Counter(10)
    assert asyncio.run(counter.add(1)) == 11
    assert asyncio.run(counter.subtract.options(timeout="1s")(1)) == 9
    assert counter.subtract.fn(3) == 7


def test_a_method_called_on_the_class_outside_workflows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"test_activity\.py:\d+: .*on an instance of Counter"):
        _ = Counter.add(1)


def test_an_activity_called_inside_another_is_refused_with_advice() -> None:
    with pytest.raises(
        UsageError, match=r"test_activity\.py:\d+: .*'join' is called inside another activity.*join\.fn"
    ):
        asyncio.run(calls_another())


def test_the_bare_function_may_be_called_inside_another_activity() -> None:
    assert asyncio.run(calls_the_bare_function()) == "ab"


# ---- called in workflow code


def test_in_a_workflow_a_call_is_scheduled_when_it_is_awaited(loop: RecordingLoop) -> None:
    async def code() -> Any:
        call = join("a", "b", between="-")
        assert not loop.scheduled
        return await call

    assert loop.run_until_complete(code()) == ("a", "b")
    assert loop.scheduled == [(join, ("a", "b"), {"between": "-"}, join.defaults)]


def test_in_a_workflow_a_method_is_scheduled_without_self(loop: RecordingLoop) -> None:
    async def code() -> None:
        await Counter.add(1)
        await Counter(10).add(2)

    loop.run_until_complete(code())
    assert [(called, args) for called, args, _, _ in loop.scheduled] == [
        (Counter.add, (1,)),
        (Counter.add, (2,)),
    ]


def test_options_of_a_call_are_those_it_is_scheduled_with(loop: RecordingLoop) -> None:
    async def code() -> None:
        await join.options(timeout="3s", idempotency_key="k", summary="s", queue="q")("a", "b")

    loop.run_until_complete(code())
    retry = RetryPolicy(maximum_attempts=2)
    assert loop.scheduled[0][0] is join
    assert loop.scheduled[0][3] == ActivityOptions("q", 3_000_000, retry, "k", "s")
    assert join.defaults == ActivityOptions("default", 10_000_000, retry)


def test_options_of_options_keep_what_they_do_not_name(loop: RecordingLoop) -> None:
    first = join.options(timeout="3s", idempotency_key="k", summary="s", queue="q")
    other = activity.Retry(maximum_attempts=5)

    async def code() -> None:
        await first.options(timeout="4s")("a", "b")
        await first.options(retry=other)("a", "b")

    loop.run_until_complete(code())
    assert [options for _, _, _, options in loop.scheduled] == [
        ActivityOptions("q", 4_000_000, RetryPolicy(maximum_attempts=2), "k", "s"),
        ActivityOptions("q", 3_000_000, RetryPolicy(maximum_attempts=5), "k", "s"),
    ]


async def by_task() -> Any:
    return await asyncio.create_task(join("a", "b"))


async def by_gather() -> Any:
    return (await asyncio.gather(join("a", "b"), thread_name()))[0]


async def by_group() -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(join("a", "b"))
    return task.result()


async def by_wait_for() -> Any:
    return await asyncio.wait_for(join("a", "b"), 10)


async def by_shield() -> Any:
    return await asyncio.shield(join("a", "b"))


async def by_as_completed() -> Any:
    return await next(asyncio.as_completed([join("a", "b")]))


@pytest.mark.parametrize("code", [by_task, by_gather, by_group, by_wait_for, by_shield, by_as_completed])
def test_asyncio_takes_a_call_for_a_coroutine(
    code: Callable[[], Coroutine[Any, Any, Any]], loop: RecordingLoop
) -> None:
    assert loop.run_until_complete(code()) == ("a", "b")


def test_a_call_cancelled_before_its_first_step_is_not_scheduled(loop: RecordingLoop) -> None:
    async def code() -> None:
        task = asyncio.create_task(join("a", "b"))
        task.cancel()
        await task

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(code())
        gc.collect()
    assert not loop.scheduled
    assert not caught


def test_a_call_cancelled_later_cancels_what_was_scheduled(loop: RecordingLoop) -> None:
    async def code() -> None:
        task = asyncio.create_task(join("a", "b"))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(code())
    assert len(loop.scheduled) == 1


def test_a_call_that_is_never_awaited_warns(loop: RecordingLoop) -> None:
    async def code() -> None:
        keep: list[object] = [join("a", "b")]
        keep.pop  # noqa: B018 - the call goes when the function ends
        gc.collect()

    with pytest.warns(RuntimeWarning, match="'join' was never awaited"):
        loop.run_until_complete(code())


def test_a_call_that_is_closed_does_not_warn(loop: RecordingLoop) -> None:
    async def code() -> None:
        join("a", "b").close()
        gc.collect()

    loop.run_until_complete(code())
    assert not loop.scheduled


def test_a_call_is_awaited_once(loop: RecordingLoop) -> None:
    async def code() -> None:
        call = join("a", "b")
        await call
        await call

    with pytest.raises(UsageError, match="cannot reuse"):
        loop.run_until_complete(code())


def test_a_call_where_code_only_reads_is_refused_at_its_line(loop: RecordingLoop) -> None:
    async def code() -> None:
        loop.reads_only = True
        _ = join("a", "b")

    line = inspect.getsourcelines(code)[1] + 2
    with pytest.raises(UsageError, match=rf"test_activity\.py:{line}: .*query"):
        loop.run_until_complete(code())


def test_a_task_of_a_call_is_shown_by_its_name(loop: RecordingLoop) -> None:
    async def code() -> str:
        task = asyncio.create_task(join("a", "b"))
        shown = repr(task)
        await task
        return shown

    assert "join()" in loop.run_until_complete(code())


# ---- the attempt that is running


def test_outside_an_attempt_there_is_no_idempotency_key() -> None:
    with pytest.raises(UsageError, match=r"testing\.attempt"):
        asyncio.run(key())


def test_an_attempt_of_a_test_is_seen_by_activities_and_bare_functions() -> None:
    with testing.attempt(idempotency_key="k", attempt=3):
        assert asyncio.run(key()) == "k"
        assert key.fn() == "k"
        assert activity.info() == Info("test", "test", "test", 3, "k")


def test_within_the_attempt_of_a_test_an_activity_inside_another_is_refused() -> None:
    with testing.attempt(), pytest.raises(UsageError, match="inside another activity"):
        asyncio.run(calls_another())


def test_heartbeats_reach_the_runner_of_the_attempt() -> None:
    heard: list[tuple[object, ...]] = []
    with activity.running(Attempt(heartbeat=heard.append)):
        activity.heartbeat(1, "two")
        activity.heartbeat()
    assert heard == [(1, "two"), ()]


def test_a_heartbeat_ends_a_sync_attempt_that_is_cancelled() -> None:
    with activity.running(Attempt(is_cancelled=True)), pytest.raises(asyncio.CancelledError):
        activity.heartbeat()


def test_the_last_heartbeat_is_that_of_the_attempt_before() -> None:
    assert activity.last_heartbeat() == ()
    with activity.running(Attempt(last_heartbeat=(7,))):
        assert activity.last_heartbeat() == (7,)


def test_a_heartbeat_outside_a_worker_is_ignored() -> None:
    activity.heartbeat("x")


def test_a_heartbeat_in_workflow_code_is_refused(loop: RecordingLoop) -> None:
    async def code() -> None:
        activity.heartbeat()

    with pytest.raises(UsageError, match="this is workflow code"):
        loop.run_until_complete(code())


# ---- fakes


def test_a_fake_runs_in_place_of_the_function_until_the_block_ends() -> None:
    with testing.fake(thread_name, lambda prefix="": prefix + "fake"):
        assert asyncio.run(thread_name("x")) == "xfake"
        assert asyncio.run(thread_name.options(timeout="1s")("y")) == "yfake"
    assert asyncio.run(thread_name()) != "fake"


def test_a_fake_of_a_method_takes_no_self_and_may_be_async() -> None:
    async def add(amount: int) -> int:
        return -amount

    with testing.fake(Counter.add, add):
        assert asyncio.run(Counter(1).add(5)) == -5
        assert asyncio.run(Counter.add(5)) == -5


def test_a_fake_within_a_fake_gives_way_to_the_outer_one_also_after_an_error() -> None:
    def fail() -> None:
        with testing.fake(thread_name, lambda prefix="": "inner"):
            raise KeyError

    with testing.fake(thread_name, lambda prefix="": "outer"):
        with pytest.raises(KeyError):
            fail()
        assert asyncio.run(thread_name()) == "outer"


# ---- definitions


def test_an_activity_has_the_options_of_its_decorator() -> None:
    assert (join.name, join.is_local, join.is_async, join.owner, join.returns) == (
        "join",
        False,
        True,
        None,
        str,
    )
    assert (key.name, key.is_local, key.is_async, key.defaults.queue) == ("key", True, False, "")
    assert (Counter.add.name, Counter.add.owner, Counter.add.attribute) == ("Counter.add", Counter, "add")
    assert (Counter.subtract.name, Counter.subtract.attribute) == ("minus", "subtract")
    assert inspect.signature(join) == inspect.signature(join.fn)


def test_an_attempt_has_a_minute_and_one_of_a_step_ten_seconds() -> None:
    assert thread_name.defaults == ActivityOptions("default", 60_000_000)
    assert key.defaults == ActivityOptions("", 10_000_000)


def test_every_activity_is_listed() -> None:
    assert {join, thread_name, key, Counter.add}.issubset(activity.DEFINED)


def test_the_name_of_a_local_function_is_its_own() -> None:
    @activity.defn
    def local() -> None: ...

    assert local.name == "local"


def test_an_activity_that_a_class_borrows_is_no_method() -> None:
    class Borrower:
        borrowed = join

    borrower: Any = Borrower()
    assert borrower.borrowed is join
    assert join.owner is None


def test_a_static_method_is_a_function() -> None:
    class Tools:
        @staticmethod
        @activity.defn
        async def double(number: int) -> int:
            return number * 2

    double: Any = vars(Tools)["double"].__get__(None, Tools)
    assert asyncio.run(double(4)) == 8
    assert double.name == "Tools.double"


def test_annotations_of_a_local_class_are_found() -> None:
    class Local: ...

    @activity.defn
    def make() -> Local:
        return Local()

    assert make.returns is Local


def generates() -> Iterator[int]:
    yield 1


async def generates_async() -> AsyncIterator[int]:
    yield 1


def valid() -> None: ...


def look(order: str, /, *, cents: int = 0) -> int:
    return cents


def once(reconcile: Any) -> object:
    return activity.defn(at_most_once=True, reconcile=reconcile)(look)


def nothing() -> None: ...
def one(order: str) -> None: ...
def two(order: str, extra: int) -> None: ...
def both(order: str, cents: int) -> None: ...
def both_or_one(order: str, cents: int = 0) -> None: ...
def anything(*args: object, **options: object) -> None: ...


AN_UNKNOWN_OPTION: Any = {"local": True}
A_QUEUE: Any = {"queue": "q"}


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: activity.defn(lambda: None), "a lambda has no name"),
        (lambda: activity.defn(generates), "generates yields"),
        (lambda: activity.defn(generates_async), "generates_async yields"),
        (lambda: activity.defn(Counter), "is for functions and methods that take `self`, not <class"),
        (lambda: activity.defn(staticmethod(valid)), "not <staticmethod"),
        (lambda: activity.defn(name="")(valid), "name must not be empty"),
        (lambda: activity.defn(name="a\0b")(valid), r"U\+0000"),
        (lambda: activity.defn(timeout="0s")(valid), "timeout must be positive"),
        (lambda: activity.defn(timeout="soon")(valid), "cannot read the duration 'soon'"),
        (lambda: activity.defn(queue="x" * 300)(valid), "the queue is 300 bytes long"),
        (
            lambda: activity.defn(**AN_UNKNOWN_OPTION)(valid),
            "unknown option 'local'; known: name, timeout, retry, queue",
        ),
        (lambda: activity.step(**A_QUEUE)(valid), "unknown option 'queue'; known: name, timeout, retry"),
        (lambda: key.options(queue="q"), "has no queue"),
        (lambda: join.options(idempotency_key=3), "idempotency_key must be text"),  # type: ignore[arg-type]
        (lambda: join.options(retry="often"), "retry must be an activity.Retry"),  # type: ignore[arg-type]
        (lambda: activity.named("", returns=int), "name must not be empty"),
        (lambda: activity.provide(valid), "async def` that yields"),  # type: ignore[arg-type]
        (lambda: activity.Retry(coefficient=0.5), "coefficient must be a number of at least 1"),
        (lambda: activity.Retry(coefficient=float("nan")), "coefficient must be"),
        (lambda: activity.Retry(maximum_attempts=0), "maximum_attempts must be"),
        (lambda: activity.Retry(maximum_attempts=True), "maximum_attempts must be"),
        (lambda: activity.Retry(give_up_after="0s"), "give_up_after must be positive"),
        (lambda: activity.Retry(first_interval="-1s"), "cannot read the duration"),
        (lambda: activity.Retry(never=(int,)), "exception classes"),  # type: ignore[arg-type]
        (lambda: activity.Retry(never=ValueError), "exception classes"),  # type: ignore[arg-type]
        (lambda: activity.Retry(never="ValueError"), "exception classes, such as"),  # type: ignore[arg-type]
        (lambda: activity.Retry(never=["ValueError"]), "exception classes, such as"),  # type: ignore[list-item]
        (lambda: activity.Retry(coefficient=[2]), "coefficient must be a number"),  # type: ignore[arg-type]
        (lambda: activity.Retry(first_interval=[1]), "a duration is a timedelta"),  # type: ignore[arg-type]
        (lambda: activity.Retry(maximum_attempts=[1]), "maximum_attempts must be"),  # type: ignore[arg-type]
        (lambda: activity.provide(), "write @activity.provide without parentheses"),  # type: ignore[call-arg]
        (
            lambda: once(nothing),
            r"reconcile must take what look takes, \(order: str, /, \*, cents: int = 0\)",
        ),
        (lambda: once(two), "reconcile must take what look takes"),
        (lambda: once(one), "reconcile must take what look takes"),
        (lambda: once(both), "reconcile must take what look takes"),
        (lambda: once(Counter.__init__), "reconcile must take what look takes"),
    ],
)
def test_invalid_options_are_refused_with_their_line(define: Callable[[], object], message: str) -> None:
    known = len(activity.DEFINED)
    with pytest.raises(UsageError, match=rf"test_activity\.py:\d+: .*{message}"):
        define()
    assert len(activity.DEFINED) == known


def test_a_retry_is_compiled_as_written() -> None:
    retry = activity.Retry(timedelta(seconds=2), 1.5, "1h", 7, "1 day", (ValueError, UsageError))

    @activity.defn(retry=retry)
    def tried() -> None: ...

    never = ("builtins:ValueError", "perdure.errors:UsageError")
    assert tried.defaults.retry == RetryPolicy(2_000_000, 1.5, 3_600_000_000, 7, 86_400_000_000, never)


@pytest.mark.parametrize("never", [[ValueError], (ValueError,), {ValueError}, []])
def test_final_exceptions_are_given_as_any_collection(never: Any) -> None:
    retry = activity.Retry(never=never)
    assert retry == activity.Retry(never=tuple(never))
    assert join.options(retry=retry).defaults.retry.never == ("builtins:ValueError",) * len(never)


@pytest.mark.parametrize("reconcile", [look, anything, both_or_one, dict])
def test_a_function_that_takes_what_the_activity_takes_looks_up_its_outcome(reconcile: Any) -> None:
    defined: Any = once(reconcile)
    assert defined.reconcile is reconcile


def test_the_outcome_of_a_method_is_looked_up_by_a_method() -> None:
    class Bank:
        def look(self, cents: int) -> int:
            return cents

        @activity.defn(at_most_once=True, reconcile=look)
        def charge(self, cents: int) -> int:
            return cents

    assert Bank.charge.reconcile is Bank.look
    refused = r"what charge takes, \(cents: int\) -> int, a method of the same class, but is look\("
    with pytest.raises(UsageError, match=refused):
        activity.defn(at_most_once=True, reconcile=look)(Bank.charge.written)


def test_intervals_are_capped_at_a_hundred_times_the_first_by_default() -> None:
    @activity.defn(retry=activity.Retry(first_interval="2s"))
    def tried() -> None: ...

    assert tried.defaults.retry.maximum_interval_us == 200_000_000
    assert join.options(retry=activity.Retry()).defaults.retry == RetryPolicy()


def test_intervals_that_stay_the_same_are_a_retry() -> None:
    assert (
        join.options(retry=activity.Retry(first_interval="2s", coefficient=1)).defaults.retry.coefficient == 1
    )


def test_an_activity_known_by_name_is_scheduled_by_it(loop: RecordingLoop) -> None:
    translate = activity.named("translate", returns=int, queue="q")

    async def code() -> None:
        await translate("x", to="de")

    loop.run_until_complete(code())
    assert (translate.name, translate.returns, translate.defaults.queue) == ("translate", int, "q")
    assert loop.scheduled[0][1:3] == (("x",), {"to": "de"})
    assert translate not in activity.DEFINED


def test_an_activity_known_by_name_has_no_function_to_run() -> None:
    with pytest.raises(UsageError, match="declared by name only"):
        asyncio.run(activity.named("translate", returns=int)("x"))


def test_a_provider_says_what_it_provides() -> None:
    @activity.provide
    async def counter() -> AsyncIterator[Counter]:
        yield Counter(1)

    assert activity.PROVIDERS[-1].factory is counter
    assert activity.PROVIDERS[-1].provides is Counter


def test_of_two_providers_of_one_class_the_later_counts() -> None:
    async def one() -> AsyncIterator[Counter]:
        yield Counter(1)

    async def two() -> AsyncIterator[Counter]:
        yield Counter(2)

    first, last = activity.Provider(one), activity.Provider(two)
    assert Registry.of(providers=[first, last]).providers == {Counter: last}
    assert Registry.of(providers=[last, first]).providers == {Counter: first}


def test_a_provider_without_annotation_is_refused_with_its_line() -> None:
    @activity.provide
    async def nothing():  # type: ignore[no-untyped-def]  # noqa: ANN202
        yield 3

    with pytest.raises(UsageError, match=r"test_activity\.py:\d+: annotate what nothing yields"):
        _ = activity.PROVIDERS.pop().provides


def test_activities_pickle_by_name() -> None:
    assert pickle.loads(pickle.dumps(join)) is join
    assert pickle.loads(pickle.dumps(Counter.add)) is Counter.add
    again = pickle.loads(pickle.dumps(join.options(timeout="3s")))
    assert again.defaults == join.options(timeout="3s").defaults
    assert again.definition is join


def test_the_activity_of_an_instance_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="take it from the class"):
        pickle.dumps(Counter(1).add)
