"""Child processes for activities that compute (`executor="process"`)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from perdure.codec.failures import failure_of
from perdure.worker.attempt import Attempts, Raised
from perdure.worker.child import Beat, Request, Result, framed, messages, payloads, source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.activity import Activity, Attempt
    from perdure.model.inline import InlineStep
    from perdure.worker.child import Message

_PROGRAM: Final = "import sys; from perdure.worker.child import main; main(int(sys.argv[1]), sys.argv[2])"


class ProcessAttempts(Attempts):
    """Attempts of which some run in child processes, at most one for each core.

    A child that is asked to stop, or whose time is over, is killed; another one takes its place.
    """

    children: Children

    async def _call(
        self,
        called: Activity[..., Any] | InlineStep,
        fn: Callable[[], Any],
        attempt: Attempt,
        begin: Callable[[], None],
    ) -> Any:
        if getattr(called, "executor", "") != "process" or called.faked_by is not None:
            return await super()._call(called, fn, attempt, begin)
        assert isinstance(fn, partial)  # of `Functions.call_of`
        activity: Any = called
        what = f"activity {activity.name!r}"
        task = attempt.task
        assert attempt.info is not None  # a task's
        module, file, qualname = source_of(activity)
        request = Request(
            module=module,
            file=file,
            qualname=qualname,
            name=activity.name,
            info=attempt.info,
            task=None if task is None else replace(task, input=b""),
            details=msgspec.json.encode(attempt.last_heartbeat) if attempt.last_heartbeat else b"",
            input=payloads.encode_arguments(activity.written, fn.args, fn.keywords, what=what),
        )
        result = await self.children.run(request, attempt.heartbeat, begin)
        if result.failure is not None:
            raise Raised(failure_of(result.failure))
        attempt.is_later = result.is_later
        return None if result.is_later else payloads.decode(result.value, activity.returns, what=what)


class Children:
    """The child processes of one worker. Belongs to its loop.

    Args:
        limit: the most that run concurrently; more calls wait, and their timeouts do not run yet.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._turns = asyncio.Semaphore(limit or os.cpu_count() or 1)
        self._idle: deque[_Child] = deque()
        self._all: set[_Child] = set()
        self._is_closed = False

    async def run(
        self, call: Request, heartbeat: Callable[[tuple[object, ...]], None], begin: Callable[[], None]
    ) -> Result:
        """Call a function in a child.

        Args:
            call: the function and its arguments.
            heartbeat: called with the details of each of its heartbeats.
            begin: called when there is a child for it.

        Raises:
            ChildProcessError: the child died.
            asyncio.CancelledError: the call was cancelled; the child has been killed.
        """
        async with self._turns:
            child = await self._child()
            begin()
            try:
                result = await child.call(call, heartbeat)
            except BaseException:
                await asyncio.shield(self._kill(child))
                raise
            self._idle.append(child)
            return result

    async def close(self) -> None:
        """Kill all children. Idempotent."""
        self._is_closed = True
        for child in list(self._all):
            await self._kill(child)

    async def _child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            await self._kill(child)  # it died while it had nothing to do
        if self._is_closed:
            raise ChildProcessError("the worker has stopped")
        child = _Child()
        self._all.add(child)
        try:
            await child.open()
        except BaseException:
            await asyncio.shield(self._kill(child))
            raise
        return child

    async def _kill(self, child: _Child) -> None:
        with suppress(ValueError):
            self._idle.remove(child)
        self._all.discard(child)
        await child.kill()


class _Child:
    """One child process."""

    def __init__(self) -> None:
        mine, its = socket.socketpair()
        with its:
            command = [sys.executable, "-c", _PROGRAM, str(its.fileno()), json.dumps(sys.path)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(),))  # noqa: S603  of our own
        self._socket = mine
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def open(self) -> None:
        """Connect it to this loop, and wait until it has begun.

        Raises:
            ChildProcessError: it died before.
        """
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        try:
            await self._next()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChildProcessError(f"a process for activities {await self._end()}") from None

    async def call(self, call: Request, heartbeat: Callable[[tuple[object, ...]], None]) -> Result:
        """Call a function."""
        assert self._writer is not None  # opened
        try:
            self._writer.write(framed(call))
            await self._writer.drain()
            while True:
                message = await self._next()
                if isinstance(message, Result):
                    return message
                if isinstance(message, Beat):
                    heartbeat(tuple(msgspec.json.decode(message.details)))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChildProcessError(f"the process of {call.name} {await self._end()}") from None

    async def _next(self) -> Message:
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        return messages.decode(await self._reader.readexactly(length))

    async def kill(self) -> None:
        """Kill the process. Idempotent."""
        self._process.kill()
        if self._writer is not None:
            self._writer.close()
        else:
            self._socket.close()
        await asyncio.to_thread(self._process.wait)

    async def _end(self) -> str:
        """The end of the process, as text."""
        code = await asyncio.to_thread(self._process.wait)
        if code >= 0:
            return f"ended with exit code {code} before it had a result"
        return f"was killed by signal {-code} ({signal.strsignal(-code) or 'unknown'}), or by a fault in it"
