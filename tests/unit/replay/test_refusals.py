"""What a run's loop does not provide, what leaves it, and what only reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from perdure.errors import UsageError
from perdure.model.runtime import WorkflowRuntime, current

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

REFUSED = (
    "run_in_executor", "call_soon_threadsafe", "add_reader", "remove_reader", "add_writer", "sock_recv", "sock_connect",
    "create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "subprocess_exec", "subprocess_shell",
    "connect_read_pipe", "add_signal_handler", "run_forever", "run_until_complete", "stop", "close", "set_debug", "set_task_factory",
    "set_exception_handler", "set_default_executor", "shutdown_asyncgens",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_happen_again_is_refused_by_name(driven: Driven, name: str) -> None:
    with pytest.raises(UsageError, match=rf"loop\.{name}\(\).*activity"):
        getattr(driven.loop, name)


def test_threads_are_refused(driven: Driven) -> None:
    async def program() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(UsageError, match="run_in_executor"):
        driven.begin(program).result()


def test_what_no_loop_has_is_an_attribute_error(driven: Driven) -> None:
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        driven.loop.fly  # noqa: B018


def test_every_method_of_a_loop_is_either_provided_or_refused(driven: Driven) -> None:
    for name in dir(asyncio.AbstractEventLoop):
        if not name.startswith("_"):
            try:
                assert callable(getattr(driven.loop, name))
            except UsageError as error:
                assert name in str(error)  # noqa: PT017 - one of two that are right


def test_workflow_code_finds_its_runtime_and_nobody_else_does(driven: Driven) -> None:
    async def program() -> WorkflowRuntime | None:
        return current()

    assert driven.begin(program).result() is driven.loop
    assert current() is None
    assert driven.loop.info() == "the info"
    driven.loop.replaying = True
    assert driven.loop.is_replaying()


def test_a_callback_that_raises_is_logged_and_the_run_goes_on(driven: Driven) -> None:
    async def program() -> str:
        asyncio.get_running_loop().call_soon(int, "x")
        await asyncio.sleep(0)
        return "went on"

    assert driven.begin(program).result() == "went on"
    assert [type(logged["exception"]) for logged in driven.logged] == [ValueError]


def test_nothing_is_logged_twice_on_replay(driven: Driven) -> None:
    driven.loop.replaying = True

    async def program() -> None:
        asyncio.get_running_loop().call_soon(int, "x")

    driven.begin(program)
    assert driven.logged == []


def test_a_system_exit_ends_the_task_not_the_engine(driven: Driven) -> None:
    async def program() -> None:
        raise SystemExit(3)

    task = driven.begin(program)
    assert isinstance(task.exception(), SystemExit)


def test_a_keyboard_interrupt_leaves_the_loop_in_order(driven: Driven) -> None:
    async def program() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driven.begin(program)
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_a_fault_ends_the_activation_even_if_the_code_swallows_it(driven: Driven) -> None:
    class Fault(BaseException):
        pass

    async def program() -> str:
        try:
            driven.loop.fault = Fault("clock")
            raise driven.loop.fault
        except BaseException:
            return "swallowed"

    with pytest.raises(Fault, match="clock"):
        driven.begin(program)


def test_evaluation_returns_what_the_function_returns_in_the_context_of_the_run(driven: Driven) -> None:
    def query(a: int, *, b: int) -> tuple[int, Any, bool]:
        return a + b, current(), driven.loop.is_read_only

    assert driven.loop.evaluate(query, 1, b=2) == (3, driven.loop, True)
    assert not driven.loop.is_read_only
    assert current() is None


@pytest.mark.parametrize("what", ["an activity", "a task", "a timer", "a sleep", "a wake-up", "a random number", "a uuid"])
def test_evaluation_leaves_no_trace(driven: Driven, what: str) -> None:
    future = driven.loop.create_future()
    future.add_done_callback(print)

    def wait() -> None:
        coroutine = asyncio.sleep(1)
        try:
            coroutine.send(None)
        finally:
            coroutine.close()

    tries = {
        "an activity": driven.act,
        "a task": lambda: asyncio.create_task(asyncio.sleep(0)),
        "a timer": lambda: asyncio.get_running_loop().call_later(1, print),
        "a sleep": wait,
        "a wake-up": lambda: future.set_result(1),
        "a random number": driven.loop.random,
        "a uuid": driven.loop.uuid4,
    }
    with pytest.raises(UsageError, match="may only read"):
        driven.loop.evaluate(tries[what])
    driven.loop.run()
    assert driven.wanted() == []
    assert (driven.loop.activities, driven.loop.timers, driven.loop.live_tasks()) == (0, 0, [])
    assert driven.loop.is_spoilt == (what == "a wake-up")


def test_what_the_guard_forbids_is_a_usage_error_in_an_evaluation_and_spares_the_run(driven: Driven) -> None:
    class Fault(BaseException):
        pass

    def query() -> None:
        driven.loop.fault = Fault("clock")
        raise driven.loop.fault

    with pytest.raises(UsageError, match="clock"):
        driven.loop.evaluate(query)
    driven.loop.run()


def test_a_call_may_do_what_workflow_code_may(driven: Driven) -> None:
    def create() -> Any:
        driven.act("at once")
        return driven.loop.random()

    assert driven.loop.call(create) is driven.loop.random()
    assert len(driven.wanted()) == 1
