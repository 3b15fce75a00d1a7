"""Mistakes in calls of perdure suspend the run with the author's line, whatever the code catches: a
change of the code cures them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import pytest

from perdure import activity, workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.replay import guard
from perdure.replay.handlers import fault_of
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime


@pytest.fixture(autouse=True)
def _mistakes_are_freed_here() -> Iterator[None]:
    """Coroutines that nobody awaits are what these tests are about. One that its error's traceback
    holds would be freed, and warned about, in whichever test the collector runs next."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


@activity.defn
async def charge(order: str, cents: int = 0) -> str:
    return f"{order} {cents}"


@activity.defn
async def note(*, text: str) -> None: ...


untyped: Any = charge
untyped_note: Any = note
any_workflow: Any = workflow


class Box:
    @activity.defn
    async def keep(self, what: str) -> None: ...


untyped_keep: Any = Box.keep


async def awaited_twice() -> None:
    call: Any = charge("a")
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    task.cancel()
    await call


async def dropped() -> None:
    untyped("a")
    await asyncio.sleep(0)


async def overwritten() -> None:
    call: Any = charge("a")
    call = await asyncio.sleep(0, None)
    del call


async def dropped_together() -> None:
    [untyped(order) for order in ("a", "b")]
    await asyncio.sleep(0)


async def dropped_helper() -> None:
    untyped_helper()
    await asyncio.sleep(0)


async def dropped_sleep() -> None:
    any_workflow.sleep("1s")
    await asyncio.sleep(0)


async def beats() -> None:
    activity.heartbeat("x")


async def helper() -> None: ...


async def compensates_a_class_member() -> None:
    async with workflow.saga() as saga:
        saga.compensate(any_workflow)


untyped_helper: Any = helper


async def condition_of_an_if(call: Callable[[], Any]) -> object:
    if call():
        return "yes"
    return "no"


async def a_task_is_shown_by(call: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(call())
    assert repr(task)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def condition_of_a_while(call: Callable[[], Any]) -> None:
    while not call():
        pass


async def text(call: Callable[[], Any]) -> str:
    return f"{call()}"


async def text_of_a_kind(call: Callable[[], Any]) -> str:
    return f"{call()!r:>10}"


async def converted(call: Callable[[], Any]) -> str:
    return str(call())


async def sum_in_place(call: Callable[[], Any]) -> object:
    total: Any = 0
    total += call()
    return total


async def negated_number(call: Callable[[], Any]) -> object:
    return -call()


async def compared(call: Callable[[], Any]) -> object:
    return call() == 3


async def compared_by_size(call: Callable[[], Any]) -> object:
    return call() > 3


async def compared_with_none(call: Callable[[], Any]) -> object:
    return call() is None


async def negated(call: Callable[[], Any]) -> object:
    return not call()


async def one_of_two(call: Callable[[], Any]) -> object:
    return 3 if call() or False else 4


async def iterated(call: Callable[[], Any]) -> None:
    for _ in call():
        pass


async def iterated_in_a_comprehension(call: Callable[[], Any]) -> object:
    return [each or 0 for each in call()]


async def unpacked(call: Callable[[], Any]) -> object:
    _, second = call()
    return second


async def searched(call: Callable[[], Any]) -> object:
    return 3 in call()


async def a_member_of_a_list(call: Callable[[], Any]) -> object:
    return call() in ["a", "b"]


async def indexed(call: Callable[[], Any]) -> object:
    return call()["a"]


async def asserted(call: Callable[[], Any]) -> None:
    assert call()


async def opened(call: Callable[[], Any]) -> None:
    with call():
        pass


async def called(call: Callable[[], Any]) -> object:
    return call()(3)


def ignore(_: object) -> None: ...


async def given_to_a_function_that_ignores_it(call: Callable[[], Any]) -> None:
    ignore(call())


async def held_by_a_variable(call: Callable[[], Any]) -> int:
    value = call()
    return 3 if value is None else 4


async def held_by_a_variable_of_a_helper(call: Callable[[], Any]) -> None:
    await held_by_a_variable(call)
    await asyncio.sleep(0)


async def matched(call: Callable[[], Any]) -> object:
    match call():
        case 3:
            return "three"
        case _:
            pass
    return "other"


async def in_an_except_block(call: Callable[[], Any]) -> object:
    try:
        int("x")
    except ValueError:
        return "yes" if call() else "no"
    return "went on"


USES: Final = (
    condition_of_an_if, condition_of_a_while, text, text_of_a_kind, converted, sum_in_place, negated_number,
    compared,
    compared_by_size, compared_with_none, negated, one_of_two, iterated, iterated_in_a_comprehension,
    unpacked, searched,
    a_member_of_a_list, indexed, asserted, opened, called, given_to_a_function_that_ignores_it,
    held_by_a_variable,
    held_by_a_variable_of_a_helper, matched, in_an_except_block,
)  # fmt: skip
CALLS: Final[dict[str, Callable[[], Any]]] = {
    "an activity": lambda: untyped("a"),
    "a coroutine function": lambda: untyped_helper(),
    "wait_until": lambda: any_workflow.wait_until(lambda: True),
    "sleep": lambda: any_workflow.sleep("1s"),
    "an asyncio coroutine": lambda: asyncio.Event().wait(),
}

MISTAKES: Final[dict[str, tuple[Callable[[], Coroutine[Any, Any, Any]], str]]] = {
    "too many arguments": (lambda: untyped("a", 1, 2), "charge.*too many positional arguments"),
    "too few arguments": (lambda: untyped(), "charge.*missing a required argument: 'order'"),
    "an unknown keyword": (lambda: untyped("a", dollars=1), "charge.*unexpected keyword argument 'dollars'"),
    "a keyword that is missing": (lambda: untyped_note("text"), "note.*too many positional|note.*missing"),
    "an argument twice": (lambda: untyped("a", order="b"), "multiple values for argument 'order'"),
    "too many arguments to a method": (lambda: untyped_keep("a", "b"), "keep.*too many positional"),
    "an argument without JSON": (lambda: untyped(object()), "cannot be encoded"),
    "an option that makes no sense": (
        lambda: untyped.options(timeout="soon")("a"),
        "cannot read the duration",
    ),
    "a queue that makes no sense": (lambda: untyped.options(queue="")("a"), "queue"),
    "a sleep that is no duration": (lambda: any_workflow.sleep(5), "a duration is a timedelta or text"),
    "a sleep until a time without zone": (lambda: workflow.sleep(datetime(2030, 1, 1)), "time zone"),
    "a condition that is no function": (lambda: any_workflow.wait_until(True), "takes a function"),
    "a condition that is async": (lambda: any_workflow.wait_until(helper), "plain function"),
    "a timeout that is no duration": (
        lambda: workflow.wait_until(lambda: False, timeout="soon"),
        "cannot read the duration",
    ),
    "a topic that cannot be": (lambda: workflow.produce("no topic", 1), "topic"),
    "a record without JSON": (lambda: workflow.produce("topic", object()), "cannot be encoded"),
    "a compensation that cannot be called": (compensates_a_class_member, "compensate takes a function"),
    "a heartbeat": (beats, "for activities"),
    "a call that is dropped": (dropped, "'charge' was never awaited"),
    "a call that is overwritten": (overwritten, "'charge' was never awaited"),
    "calls that are dropped together": (dropped_together, "'charge' was never awaited"),
    "a call that is awaited twice": (awaited_twice, "cannot reuse an awaited call"),
    "a coroutine of the author's that is dropped": (dropped_helper, "helper.* was never awaited"),
    "a sleep that is dropped": (dropped_sleep, "sleep.* was never awaited"),
}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    guard.install()


def run_of(program: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[RunLoop, asyncio.Task[Any]]:
    no_info: Any = None
    loop = RunLoop("run")
    RunRuntime(loop, 7, JsonPayloads(validate_on_encode=False), no_info)
    loop.now = 1_700_000_000_000_000
    task = loop.create_task(program())
    loop.run()
    return loop, task


@pytest.mark.parametrize("swallowed", [(), Exception, BaseException])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_mistake_suspends_the_run_and_names_the_users_line(mistake: str, swallowed: Any) -> None:
    call, message = MISTAKES[mistake]

    async def program() -> str:
        try:
            await call()
        except swallowed:
            await asyncio.sleep(0)
        return "went on"

    with pytest.raises(UsageError, match=rf"^{Path(__file__)}:\d+: (.|\n)*({message})"):
        run_of(program)


@pytest.mark.parametrize("swallowed", [(), BaseException])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.filterwarnings("ignore:.* was never awaited")
def test_a_call_without_await_suspends_the_run_however_its_value_is_used(
    kind: str, use: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]], swallowed: Any
) -> None:
    async def program() -> str:
        try:
            await use(CALLS[kind])
        except swallowed:
            await asyncio.sleep(0)
        return "went on"

    with pytest.raises(UsageError, match=rf"^{Path(__file__)}:\d+: (.|\n)*await"):
        run_of(program)


@pytest.mark.filterwarnings("ignore:.* was never awaited")
@pytest.mark.parametrize("kind", CALLS)
def test_a_call_without_await_that_is_asked_for_an_attribute_suspends_the_run(kind: str) -> None:
    async def program() -> object:
        return CALLS[kind]().text

    loop, task = run_of(program)
    with pytest.raises(UsageError, match=r"asked for 'text' and not awaited"):
        fault_of(task)
    loop.is_evicted = True  # as every suspended run


def suspended_by_a_condition(kind: str) -> None:
    async def program() -> None:
        await condition_of_an_if(CALLS[kind])

    with pytest.raises(UsageError):
        run_of(program)


def suspended_by_an_attribute(kind: str) -> None:
    test_a_call_without_await_that_is_asked_for_an_attribute_suspends_the_run(kind)


@pytest.mark.parametrize("suspended", [suspended_by_a_condition, suspended_by_an_attribute])
@pytest.mark.parametrize("kind", CALLS)
def test_python_does_not_warn_a_second_time_of_a_call_that_suspended_its_run(
    kind: str, suspended: Callable[[str], None]
) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True, action="always") as warned:
        suspended(kind)
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_the_line_of_a_call_that_a_variable_holds_is_that_of_the_call() -> None:
    async def program() -> str:
        await untyped_helper()
        held = charge("a")
        assert held is not None
        await asyncio.sleep(0)
        return "went on"

    line = program.__code__.co_firstlineno + 2
    with pytest.raises(UsageError, match=rf"{Path(__file__).name}:{line}: the call of the activity 'charge'"):
        run_of(program)


async def raises_with_a_call_in_hand(call: Callable[[], Any]) -> None:
    held = call()
    int("x")
    await held


async def named_exception(call: Callable[[], Any]) -> None:
    try:
        await raises_with_a_call_in_hand(call)
    except ValueError as error:
        str(error)


async def exception_without_name(call: Callable[[], Any]) -> None:
    with contextlib.suppress(ValueError):
        await raises_with_a_call_in_hand(call)
    try:
        await raises_with_a_call_in_hand(call)
    except ValueError:
        await asyncio.sleep(0)


async def argument_beside_one_that_raises(call: Callable[[], Any]) -> None:
    with contextlib.suppress(ValueError):
        await asyncio.gather(call(), asyncio.sleep(int("x")))


async def argument_in_an_except_block(call: Callable[[], Any]) -> None:
    try:
        int("x")
    except ValueError:
        with contextlib.suppress(ValueError):
            await asyncio.gather(call(), asyncio.sleep(int("x")))


async def cancelled_before_its_first_step(call: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(call())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def timed_out_before_its_first_step(call: Callable[[], Any]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(call(), 0)


async def closed(call: Callable[[], Any]) -> None:
    call().close()


async def compared_with_others(call: Callable[[], Any]) -> None:
    calls = [call(), call(), call()]
    last = calls[-1]
    calls.remove(last)
    assert last not in calls
    assert len({*calls, last}) == 3
    assert repr(last)
    for each in (*calls, last):
        each.close()


@pytest.mark.filterwarnings("ignore:.* was never awaited")
@pytest.mark.parametrize(
    "use",
    [
        named_exception, exception_without_name, argument_beside_one_that_raises, argument_in_an_except_block,
        a_task_is_shown_by, cancelled_before_its_first_step, timed_out_before_its_first_step, closed,
        compared_with_others,
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", CALLS)
def test_a_call_left_unawaited_because_of_an_exception_is_no_mistake(
    kind: str, use: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
) -> None:
    async def program() -> str:
        await use(CALLS[kind])
        await asyncio.sleep(0)
        return "went on"

    loop, task = run_of(program)
    loop.run()
    assert task.result() == "went on"


def test_the_line_of_a_wrong_call_is_that_of_the_call_though_it_is_awaited_elsewhere() -> None:
    async def program() -> None:
        calls = [
            untyped("b", 1, 2),
        ]
        await asyncio.gather(*calls)

    line = program.__code__.co_firstlineno + 2
    with pytest.raises(UsageError, match=rf"{Path(__file__).name}:{line}: "):
        run_of(program)


@pytest.mark.parametrize("what", ["sleep", "timeout", "wait_until"])
def test_a_negative_duration_is_over_immediately_as_in_asyncio(what: str) -> None:
    past = timedelta(seconds=-5)

    async def program() -> object:
        if what == "sleep":
            await workflow.sleep(past)
            await workflow.sleep(datetime(2001, 1, 1, tzinfo=UTC))
            return "went on"
        if what == "wait_until":
            return await workflow.wait_until(lambda: "", timeout=past) or "went on"
        try:
            async with workflow.timeout(past):
                await asyncio.Event().wait()
        except TimeoutError:
            return "went on"
        return "was never over"

    loop, task = run_of(program)
    if what == "timeout":
        assert [type(action).__name__ for action in loop.actions.items] == []
    assert task.result() == "went on"


def test_a_call_that_an_exception_drops_does_not_hide_the_exception() -> None:
    async def program() -> None:
        await asyncio.gather(charge("a"), asyncio.sleep(int("x")))

    with pytest.warns(RuntimeWarning, match="'charge' was never awaited"):
        task = run_of(program)[1]
    with pytest.raises(ValueError, match="invalid literal"):
        task.result()


def test_a_call_that_a_closing_task_group_refuses_does_not_hide_what_closed_it() -> None:
    async def fails() -> None:
        raise ValueError("first")

    async def late(group: asyncio.TaskGroup) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            group.create_task(charge("a"))

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(late(group))
            await asyncio.sleep(0)
            group.create_task(fails())

    with warnings.catch_warnings(action="ignore"):
        loop, task = run_of(program)
        assert loop.fault is None
        error: Any = task.exception()
        assert isinstance(error, ExceptionGroup)
        assert "first" in repr(cast("object", error))
        del loop, task, error
        gc.collect()
