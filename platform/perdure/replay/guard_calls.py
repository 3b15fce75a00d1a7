"""The calls that the determinism guard sees or replaces: clocks, `random`, `uuid`, `os.environ`,
`os.urandom`, threads.
"""

from __future__ import annotations

import functools
import os
import random
import secrets
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from types import BuiltinMethodType, CodeType
from typing import Any, Final

from perdure.replay import blame
from perdure.replay import guard_advice as advice
from perdure.replay.activation import running_loop
from perdure.replay.clock_sites import clock_name
from perdure.replay.loop import RunLoop

_CLOCKS: Final = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
    "process_time_ns",
    "thread_time", "thread_time_ns",
)  # fmt: skip
_CLOCKS_WITHOUT_ARGUMENT: Final = ("localtime", "gmtime", "ctime", "asctime")
_SECRETS: Final = ("token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow", "randbits")
_RANDOM: Final = (
    "random", "uniform", "triangular", "randint", "choice", "randrange", "sample", "shuffle", "choices",
    "normalvariate",
    "lognormvariate", "expovariate", "vonmisesvariate", "gammavariate", "gauss", "betavariate",
    "paretovariate", "weibullvariate",
    "getrandbits", "randbytes", "binomialvariate", "seed", "getstate", "setstate",
)  # fmt: skip
_RANDOM_SHOWN: Final = {"__init__": "random.Random()", "seed": "Random.seed"}
_ENVIRONMENT_MODULES: Final = frozenset(("os", "collections.abc", __name__))
_URANDOM_MODULES: Final = frozenset(("random", "secrets", "uuid", __name__))
_RUNTIME: Final = "RunRuntime."
_originals: dict[Any, tuple[str, str]] = {}
"""The callables that `sys.monitoring` watches for, each with its display name and what to use
instead."""


def install() -> None:
    """Wrap the calls that are wrapped on every Python, then guard the clocks: monitored from 3.12,
    wrapped on 3.11.
    """
    _note_clocks()
    _suspend_for_unawaited()
    for name in _RANDOM:
        if hasattr(random, name):
            _redirect(random, name, _method_of_random(name))
    _redirect(uuid, "uuid4", lambda loop: loop.runtime.uuid4)
    _refuse(uuid, "uuid1", advice.NO_SECRETS)
    for module, name in ((os, "urandom"), (random, "_urandom")):
        _refuse(module, name, advice.NO_SECRETS, shown="os.urandom", passing=_URANDOM_MODULES)
    _refuse(
        threading.Thread,
        "start",
        advice.THREAD,
        shown="Thread.start",
        passing=frozenset(("concurrent.futures.thread",)),
    )
    environment: Any = type(os.environ)
    for name in ("__getitem__", "__iter__", "__setitem__", "__delitem__"):
        _refuse(environment, name, advice.ENVIRONMENT, shown="os.environ", passing=_ENVIRONMENT_MODULES)
    for name in _CLOCKS_WITHOUT_ARGUMENT:
        _refuse(time, name, advice.CLOCK, given=0)
    _refuse(time, "strftime", advice.CLOCK, given=1)
    for name in ("__init__", "seed"):
        _refuse(random.Random, name, advice.UNSEEDED, shown=_RANDOM_SHOWN[name], given=1)
    if sys.version_info >= (3, 12):
        _start_monitoring()
        return
    for name in _CLOCKS:
        _refuse(time, name, advice.CLOCK)
    _refuse(time, "sleep", advice.SLEEP)


def _suspend_for_unawaited() -> None:
    """Suspend the run of a coroutine that was never awaited. CPython calls this function when such
    a coroutine is freed.
    """
    machinery: Any = warnings
    warn = machinery._warn_unawaited_coroutine  # noqa: SLF001 - the only place where it can be noticed

    @functools.wraps(warn)
    def suspend_or_warn(coroutine: Any) -> None:
        loop = _loop_of(coroutine) or running_loop()
        name = coroutine.__qualname__.rpartition("<locals>.")[2].removeprefix(_RUNTIME)
        if type(loop) is not RunLoop or not loop.unawaited(
            f"the coroutine {name}()", coroutine.__name__, blame.caller()
        ):
            warn(coroutine)

    machinery._warn_unawaited_coroutine = suspend_or_warn  # noqa: SLF001


def _loop_of(coroutine: Any) -> RunLoop | None:
    """The loop of the run that made the coroutine; None: not known. If an exception of a suspended
    run holds the coroutine, the garbage collector frees it at a random time, when another run may
    be active; so the coroutine's own run is looked up.
    """
    if not coroutine.__qualname__.startswith(_RUNTIME):
        return None
    runtime = coroutine.cr_frame.f_locals.get("self")
    loop = getattr(runtime, "_loop", None)
    return loop if type(loop) is RunLoop else None


def _method_of_random(name: str) -> Callable[[Any], Callable[..., Any]]:
    return lambda loop: getattr(loop.runtime.random(), name)


def _note_clocks() -> None:
    for name in _CLOCKS:
        _originals[getattr(time, name)] = f"time.{name}", advice.CLOCK
    _originals[time.sleep] = "time.sleep", advice.SLEEP
    for name in _SECRETS:
        _originals[getattr(secrets, name)] = f"secrets.{name}", advice.NO_SECRETS
    for name in _RANDOM:
        if hasattr(random, name):  # imported by name before the guard was there
            _originals[getattr(random, name)] = (
                f"random.{name}",
                "import perdure before `random`, or use workflow.random().",
            )
    _originals[uuid.uuid4] = "uuid.uuid4", "import perdure before `uuid`, or use workflow.uuid4()."


def _redirect(module: Any, name: str, of_run: Callable[[Any], Callable[..., Any]]) -> None:
    original = getattr(module, name)

    @functools.wraps(original)
    def redirected(*args: Any, **kwargs: Any) -> Any:
        loop = running_loop()
        if type(loop) is not RunLoop or blame.is_importing(blame.caller()):
            return original(*args, **kwargs)
        return of_run(loop)(*args, **kwargs)

    setattr(module, name, redirected)


def _refuse(
    owner: Any,
    name: str,
    instead: str,
    *,
    shown: str = "",
    passing: frozenset[str] = frozenset(),
    given: int | None = None,
) -> None:
    """Reject a callable in workflow code.

    Args:
        owner: the module or the class.
        name: of the callable.
        instead: what to do.
        shown: its name in messages.
        passing: modules that may be between your code and the call.
        given: the index of the positional argument, from 0, that makes the call harmless; None:
            none does.
    """
    original = getattr(owner, name)
    what = f"{shown or f'{owner.__name__}.{name}'}{'' if name.startswith('__') else '()'}"

    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        loop = running_loop()
        if type(loop) is RunLoop and (given is None or len(args) <= given or args[given] is None):
            frame = blame.direct_author(blame.caller(), passing)
            if frame is not None:
                blame.deny(loop, what, instead, blame.position(frame))
        return original(*args, **kwargs)

    setattr(owner, name, guarded)


if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _CALL: Final = _monitoring.events.CALL
    _TOOLS: Final = (4, 3)  # those that serve only to call it
    _tool: int | None = None

    def _start_monitoring() -> None:
        global _tool
        _tool = next((tool for tool in _TOOLS if _monitoring.get_tool(tool) is None), None)
        if _tool is not None:
            _monitoring.use_tool_id(_tool, "perdure")
            _monitoring.register_callback(_tool, _CALL, _on_call)

    def watch(code: CodeType) -> None:
        """Monitor the calls of this code and of the code within it."""
        if _tool is None:
            return
        _monitoring.set_local_events(_tool, code, _CALL)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                watch(constant)

    def _on_call(_code: CodeType, _offset: int, function: Any, argument: Any) -> Any:
        found = _fault_of(function, argument)
        if found is None:
            return _monitoring.DISABLE
        loop = advice.running_workflow()
        if loop is not None:
            frame = blame.caller()
            if not blame.is_importing(frame):
                blame.deny(loop, f"{found[0]}()", found[1], blame.position(frame))
        return None

    def _fault_of(function: Any, argument: Any) -> tuple[str, str] | None:
        """The display name and the advice of a callable that must not be called; None: it may
        be.
        """
        while type(function) is functools.partial:
            argument = function.args[0] if function.args else argument
            function = function.func
        if type(function) is BuiltinMethodType:
            clock = clock_name(function)
            if clock is not None:
                return clock, advice.CLOCK
            owner, name = function.__self__, function.__name__
            if owner is time and name in _CLOCKS_WITHOUT_ARGUMENT and argument is _monitoring.MISSING:
                return f"time.{name}", advice.CLOCK
        try:
            return _originals.get(function)
        except TypeError:  # not hashable
            return None

else:

    def watch(code: CodeType) -> None:
        """Do nothing: the clocks are wrapped."""
