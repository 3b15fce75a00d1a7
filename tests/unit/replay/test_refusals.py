"""Calls that a run's loop does not provide, calls that leave it, and code that only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
import pytest

from perdure.errors import UsageError
from perdure.model.runtime import WorkflowRuntime, current
from perdure.replay import loop
from perdure.replay.blame import NonDeterministic
from perdure.replay.calls import call, evaluate

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

REFUSED = (
    "run_in_executor", "call_soon_threadsafe", "add_reader", "remove_reader", "add_writer", "sock_recv",
    "sock_connect",
    "create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "subprocess_exec",
    "subprocess_shell",
    "connect_read_pipe", "add_signal_handler", "run_forever", "run_until_complete", "stop", "close",
    "set_debug", "set_task_factory",
    "set_exception_handler", "set_default_executor", "shutdown_asyncgens",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_nondeterministic_calls_are_refused_by_name_at_the_users_line(driven: Driven, name: str) -> None:
    async def program() -> None:
        getattr(asyncio.get_running_loop(), name)(1, 2, three=3)

    line = program.__code__.co_firstlineno + 1
    with pytest.raises(NonDeterministic, match=rf"test_refusals\.py:{line}: loop\.{name}\(\).*activity"):
        driven.begin(program)


def test_looking_a_method_up_suspends_nothing(driven: Driven) -> None:
    async def program() -> bool:
        return all(hasattr(asyncio.get_running_loop(), name) for name in REFUSED)

    assert driven.begin(program).result() is True


def test_what_no_loop_has_is_an_attribute_error(driven: Driven) -> None:
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        driven.loop.fly  # noqa: B018


def test_every_method_of_a_loop_is_either_provided_or_refused(driven: Driven) -> None:
    for name in dir(asyncio.AbstractEventLoop):
        if not name.startswith("_"):
            assert callable(getattr(driven.loop, name))


DOORS: Final[dict[str, Callable[[], Any]]] = {
    "to_thread": lambda: asyncio.to_thread(print),
    "run_in_executor": lambda: asyncio.get_running_loop().run_in_executor(None, print),
    "run_coroutine_threadsafe": lambda: threadsafe(),
    "call_soon_threadsafe": lambda: asyncio.get_running_loop().call_soon_threadsafe(print),
    "open_connection": lambda: asyncio.open_connection("127.0.0.1", 1),
    "start_server": lambda: asyncio.start_server(print, "127.0.0.1", 0),
    "open_unix_connection": lambda: asyncio.open_unix_connection("/nowhere"),
    "create_subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    "create_subprocess_shell": lambda: asyncio.create_subprocess_shell("true"),
    "getaddrinfo": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    "getnameinfo": lambda: asyncio.get_running_loop().getnameinfo(("127.0.0.1", 1)),
    "add_reader": lambda: asyncio.get_running_loop().add_reader(0, print),
    "add_writer": lambda: asyncio.get_running_loop().add_writer(1, print),
    "add_signal_handler": lambda: asyncio.get_running_loop().add_signal_handler(15, print),
    "sock_recv": lambda: asyncio.get_running_loop().sock_recv(cast("Any", None), 1),
    "httpx": lambda: fetch(),
    "httpx in a task of a library": lambda: asyncio.create_task(_library_fetch()),
}


def threadsafe() -> Any:
    coroutine = asyncio.sleep(0)
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, asyncio.get_running_loop())
    finally:
        coroutine.close()


async def fetch() -> None:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        await http.get("http://localhost:1/")


_names: dict[str, Any] = {"httpx": httpx}
exec(
    compile(
        "async def library_fetch():\n    async with httpx.AsyncClient(verify=False, trust_env=False) as "
        "http:\n"
        "        await http.get('http://localhost:1/')\n",
        f"{Path(asyncio.__file__).parent}/of_a_library.py",
        "exec",
    ),
    _names,
)
_library_fetch: Callable[[], Coroutine[Any, Any, None]] = _names["library_fetch"]


@pytest.mark.parametrize("swallowed", [(), Exception, BaseException])
@pytest.mark.parametrize("door", DOORS)
def test_forbidden_calls_of_asyncio_suspend_the_run_even_if_caught(
    driven: Driven, door: str, swallowed: Any
) -> None:
    async def program() -> str:
        try:
            entered = DOORS[door]()
            await entered
        except swallowed:
            await asyncio.sleep(0)
        return "went on"

    with pytest.raises(
        NonDeterministic, match=r"^.*test_refusals\.py:\d+: .*cannot be used in a workflow"
    ) as caught:
        driven.begin(program)
    assert driven.loop.fault is caught.value


def test_code_that_swallows_a_refusal_and_spins_is_suspended_for_the_refusal(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_STEPS", 1_000)

    async def program() -> None:
        while True:
            try:
                await asyncio.to_thread(print)
            except BaseException:
                await asyncio.sleep(0)

    with pytest.raises(NonDeterministic, match="run_in_executor"):
        driven.begin(program)


def test_a_refusal_that_a_constructor_swallows_counts(driven: Driven) -> None:
    def create() -> None:
        try:
            asyncio.get_running_loop().call_soon_threadsafe(print)
        except BaseException:
            raise ValueError("something else") from None

    with pytest.raises(NonDeterministic, match="call_soon_threadsafe"):
        call(driven.loop, create)


def test_a_query_that_swallows_a_refusal_is_refused_and_spares_the_run(driven: Driven) -> None:
    def query() -> str:
        try:
            asyncio.get_running_loop().call_soon_threadsafe(print)
        except BaseException:
            return "swallowed"
        return "went on"

    with pytest.raises(UsageError, match="call_soon_threadsafe"):
        evaluate(driven.loop, query)
    driven.loop.run()


def test_only_workflow_code_finds_its_runtime(driven: Driven) -> None:
    async def program() -> WorkflowRuntime | None:
        return current()

    assert driven.begin(program).result() is driven.runtime
    assert current() is None
    assert driven.runtime.info() == "the info"
    driven.loop.replaying = True
    assert driven.runtime.is_replaying()


def test_a_callback_that_raises_is_logged_and_the_run_continues(driven: Driven) -> None:
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


def test_a_keyboard_interrupt_ends_the_task_not_the_engine(driven: Driven) -> None:
    async def program() -> None:
        raise KeyboardInterrupt

    task = driven.begin(program)
    assert isinstance(task.exception(), KeyboardInterrupt)
    assert driven.loop.exit is None, "its task holds it"
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

    assert evaluate(driven.loop, query, 1, b=2) == (3, driven.runtime, True)
    assert not driven.loop.is_read_only
    assert current() is None


@pytest.mark.parametrize(
    "what", ["an activity", "a task", "a timer", "a sleep", "a wake-up", "a random number", "a uuid"]
)
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
        "a random number": driven.runtime.random,
        "a uuid": driven.runtime.uuid4,
    }
    with pytest.raises(UsageError, match="may only read"):
        evaluate(driven.loop, tries[what])
    driven.loop.run()
    assert driven.wanted() == []
    assert (driven.runtime.activities.count, driven.loop.timers.count, driven.loop.live_tasks()) == (0, 0, [])
    assert driven.loop.is_spoilt == (what == "a wake-up")


def test_what_the_guard_forbids_is_a_usage_error_in_an_evaluation_and_spares_the_run(driven: Driven) -> None:
    class Fault(BaseException):
        pass

    def query() -> None:
        driven.loop.fault = Fault("clock")
        raise driven.loop.fault

    with pytest.raises(UsageError, match="clock"):
        evaluate(driven.loop, query)
    driven.loop.run()


def test_a_call_may_do_what_workflow_code_may(driven: Driven) -> None:
    def create() -> Any:
        driven.act("at once")
        return driven.runtime.random()

    assert call(driven.loop, create) is driven.runtime.random()
    assert len(driven.wanted()) == 1
