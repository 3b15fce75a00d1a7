"""Runs Python's own tests of asyncio on the loop of a run, with virtual time; prints what came of
it as JSON.

A script, for any Python: `python suite.py test_locks test_queues …`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import inspect
import json
import logging
import math
import sys
import unittest
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Generator
from typing import Any

from perdure.replay.futures import Handle
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

nothing: Any = None
abstract_loop: Any = asyncio.AbstractEventLoop
stock_loop: Any = asyncio.BaseEventLoop


class SuiteLoop(RunLoop, abstract_loop):  # type: ignore[misc]
    """`RunLoop`, and what a driver of tests needs of a loop: to be run, stopped and closed, and
    time that jumps."""

    def __init__(self, generate: Callable[[], Generator[float, float]] | None = None) -> None:
        super().__init__("suite")
        RunRuntime(self, 1, nothing, nothing)
        self._is_stopping = self._is_closed = self._is_running = self._debug = False
        self._exception_handler: Any = None
        self._factory: Any = None
        self._asked_for: list[float] = []
        self._generators: list[Any] = []
        self._generator = generate() if generate is not None else None
        self._default_executor = self._current_handle = None
        if self._generator is not None:
            next(self._generator)

    # ---- time

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with call_at()")
        self._asked_for.append(when)
        return super().call_at(when, callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self._asked_for.append(self.time() + delay)
        return super().call_later(delay, callback, *args, context=context)

    def advance_time(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)

    def _due(self, number: int) -> int:
        return math.ceil(self.timers.waiting[number].when() * 1e6 - 0.49)

    def _run_once(self) -> None:
        if not self._ready and not self._is_stopping and self._generator is None:
            if not self.timers.waiting:
                raise RuntimeError("nothing is ready, and nothing ever will be")
            self.now = max(self.now, min(map(self._due, self.timers.waiting)))
        for number in sorted(
            (n for n in self.timers.waiting if self._due(n) <= self.now), key=lambda n: (self._due(n), n)
        ):
            self.fire_timer(number)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.callback is not None:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:
                    told = {
                        "message": f"Exception in callback {handle.callback}",
                        "exception": error,
                        "handle": handle,
                    }
                    self.call_exception_handler(told)
            del handle
        if self._generator is not None:
            for when in self._asked_for:
                self.advance_time(self._generator.send(when))
            self._asked_for.clear()
        self.actions.clear()

    # ---- driven by a test

    def run_forever(self) -> None:
        if _get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._generators.append, finalizer=lambda each: self.create_task(each.aclose())
        )
        _set_running_loop(self)
        self._is_running = True
        try:
            while True:
                self._run_once()
                if self._is_stopping:
                    break
        finally:
            self._is_stopping = self._is_running = False
            _set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Any) -> Any:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        is_new = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if is_new:
            future._log_destroy_pending = False

        def stop(done: Any) -> None:
            if done.cancelled() or not isinstance(done.exception(), SystemExit | KeyboardInterrupt):
                self.stop()

        future.add_done_callback(stop)
        try:
            self.run_forever()
        except BaseException:
            if is_new and future.done() and not future.cancelled():
                future.exception()
            raise
        finally:
            future.remove_done_callback(stop)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def stop(self) -> None:
        self._is_stopping = True

    def close(self) -> None:
        self._is_closed = True
        self._ready.clear()
        self.timers.waiting.clear()
        generator, self._generator = self._generator, None
        if generator is not None:
            try:
                generator.send(0)
            except StopIteration:
                return
            raise AssertionError("the generator of times is not finished")

    def is_closed(self) -> bool:
        return self._is_closed

    def is_running(self) -> bool:
        return self._is_running

    def set_debug(self, enabled: bool) -> None:
        self._debug = enabled

    def get_debug(self) -> bool:
        return self._debug

    async def shutdown_asyncgens(self) -> None:
        for generator in self._generators:
            await generator.aclose()
        self._generators.clear()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    # ---- what tests set and ask

    def create_task(self, coro: Any, *, name: object = None, context: Any = None, **options: Any) -> Any:
        if self._factory is None:
            task: Any = super().create_task(coro, name=name, context=context, **options)
            self._tasks = self.live_tasks()  # tests look at reference counts
            return task
        task = self._factory(self, coro) if context is None else self._factory(self, coro, context=context)
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Any) -> None:
        self._factory = factory

    def get_task_factory(self) -> Any:
        return self._factory

    # asyncio's own, which format and log
    set_exception_handler = stock_loop.set_exception_handler
    call_exception_handler = stock_loop.call_exception_handler
    default_exception_handler = stock_loop.default_exception_handler


def use_everywhere() -> None:
    """Make asyncio and the helpers of its tests use the loop, whatever policy they set and
    reset."""
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    default: Any = asyncio.DefaultEventLoopPolicy()
    default.new_event_loop = SuiteLoop
    set_policy: Any = vars(asyncio)["set_event_loop_policy"]
    set_policy(default)

    def reset(policy: Any) -> None:
        set_policy(policy if policy is not None else default)

    for module in (asyncio, asyncio.events):
        vars(module)["set_event_loop_policy"] = reset
        vars(module)["_set_event_loop_policy"] = reset
    importlib.import_module("test.test_asyncio.utils").TestLoop = SuiteLoop  # type: ignore[attr-defined]
    handle: Any = Handle
    handle._cancelled = property(Handle.cancelled)
    handle.get_context = _context_of


def _context_of(handle: Handle) -> Any:
    return handle.context


def run(module: str) -> dict[str, Any]:
    """Run one module of tests: how many there were, and the names and reasons of those that did not
    pass."""
    tests = unittest.defaultTestLoader.loadTestsFromModule(
        importlib.import_module(f"test.test_asyncio.{module}")
    )
    result = unittest.TestResult()
    tests.run(result)
    lost = [
        (each.id().removeprefix("test.test_asyncio."), text) for each, text in result.failures + result.errors
    ]
    return {"run": result.testsRun, "skipped": len(result.skipped), "lost": dict(lost)}


if __name__ == "__main__":
    faulthandler.dump_traceback_later(120, exit=True)
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    use_everywhere()
    print(json.dumps({module: run(module) for module in sys.argv[1:]}))
