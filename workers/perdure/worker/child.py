"""A child process that runs plain functions of activities, one after the other.

Started by `processes.py` as a program of its own: it imports the module of the function and
nothing of the parent's `__main__`. Messages are msgpack with a length before them, over a socket.
When the socket ends, the parent has died, and the child ends immediately.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any, Final, Never, cast

import msgspec

from perdure import activity, context
from perdure.activity import Activity, Attempt, Info
from perdure.authoring.attempt import Outlet, outlet
from perdure.codec.failures import info_of
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model.failure import FailureInfo
from perdure.model.limits import STORED_BYTES
from perdure.model.runtime import misuse
from perdure.model.source import place_of
from perdure.model.tasks import Task
from perdure.threads import WatchedThread

_LENGTH: Final = 4
_MAIN: Final = "__perdure_main__"
"""The name of a parent's `__main__` here, so that its last lines do not run again."""


class Request(msgspec.Struct, tag="call", kw_only=True):
    """A call.

    Attributes:
        module: of the function.
        file: of the module; used if it cannot be imported by its name.
        qualname: of the function.
        name: of the activity.
        info: of the attempt.
        task: of the attempt, without its input; None in a test.
        details: the last heartbeat of the attempt before, JSON.
        input: the arguments, JSON.
    """

    module: str
    file: str
    qualname: str
    name: str
    info: Info
    task: Task | None
    details: bytes
    input: bytes


class Ready(msgspec.Struct, tag="ready"):
    """The child has begun, and takes calls."""


class Beat(msgspec.Struct, tag="beat"):
    """A heartbeat, with its details as JSON."""

    details: bytes


class Result(msgspec.Struct, tag="result"):
    """The end of a call: its result as JSON, or its failure.

    Attributes:
        is_later: the function has called `complete_later`.
    """

    value: bytes = b""
    failure: FailureInfo | None = None
    is_later: bool = False


Message = Ready | Beat | Result
_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final = msgspec.msgpack.Decoder(Request)
messages: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
payloads: Final = JsonPayloads(limit_bytes=STORED_BYTES)
"""Plain JSON on the way: the parent knows the codec and the limits of the app."""


def framed(message: Request | Message) -> bytes:
    """A message with its length."""
    data = _encoder.encode(message)
    return len(data).to_bytes(_LENGTH, "big") + data


def main(descriptor: int, path: str) -> Never:
    """Serve calls until the parent ends.

    Args:
        descriptor: of the socket to the parent.
        path: the parent's `sys.path`, JSON.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent decides
    sys.path[:] = json.loads(path)
    connection = socket.socket(fileno=descriptor)
    lock = Lock()

    def send(message: Message) -> None:
        with lock:  # threads of a function may send heartbeats
            connection.sendall(framed(message))

    send(Ready())
    calls: SimpleQueue[Request] = SimpleQueue()
    WatchedThread(_read, "perdure-child", (connection, calls)).start()
    while True:
        send(_answer(calls.get(), send))


def _read(connection: socket.socket, calls: SimpleQueue[Request]) -> None:
    """Take calls; end the process with the parent, also while a function computes."""
    with suppress(OSError), connection.makefile("rb") as file:
        while length := file.read(_LENGTH):
            calls.put(_requests.decode(file.read(int.from_bytes(length, "big"))))
    os._exit(0)


def _answer(call: Request, send: Callable[[Message], None]) -> Result:
    attempt = Attempt(
        call.info,
        lambda details: send(Beat(_details(details))),
        tuple(msgspec.json.decode(call.details)) if call.details else (),
        task=call.task,
        open_stream=_no_stream,
    )
    try:
        found = _function_of(call)
        what = f"activity {call.name!r}"
        args, kwargs = payloads.decode_arguments(found.written, call.input, what=what)
        outlet.set(Outlet(_no_command, _NoClients()))
        context.enter(call.task.context if call.task is not None else b"")
        with activity.running(attempt):
            value = found.written(*args, **kwargs)
        if attempt.is_later:
            return Result(is_later=True)
        return Result(payloads.encode(value, found.returns, what=f"the result of {what}"))
    except BaseException as error:  # noqa: BLE001 - the author's
        return Result(failure=info_of(error))


def _function_of(call: Request) -> Activity[..., Any]:
    found: Any = _module_of(call.module, call.file)
    for name in call.qualname.split("."):
        found = getattr(found, name)
    if not isinstance(found, Activity):
        raise UsageError(f"{call.file}: {call.qualname} is not an activity in its own process: {found!r}.")
    return cast("Activity[..., Any]", found)


def _module_of(name: str, file: str) -> Any:
    known = _MAIN if name == "__main__" else name
    if known in sys.modules:
        return sys.modules[known]
    if known == name:
        with suppress(ModuleNotFoundError):
            module = importlib.import_module(name)
            if os.path.realpath(module.__file__ or "") == os.path.realpath(file):
                return module
    spec = importlib.util.spec_from_file_location(known, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} cannot be imported in a process of its own.")
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def _details(details: tuple[object, ...]) -> bytes:
    from perdure.worker.details import encoded

    return encoded(details, "activity")


def _no_command(_commands: object) -> None:
    """Nothing here takes commands."""


def _no_stream(_attempt: Attempt, _name: str, _type: Any) -> Never:
    raise UsageError(
        "activity.stream has no connection in a process of its own (executor='process'): write to it in an "
        "activity that runs in a thread."
    )


class _NoClients:
    """Refuses clients, with advice."""

    def of_async(self) -> Never:
        """For code on a loop of its own."""
        raise _no_client()

    def of_sync(self) -> Never:
        """For the function itself."""
        raise _no_client()


def _no_client() -> UsageError:
    return misuse(
        "activity.client belongs to the worker, and this is a process of its own (executor='process'): use "
        "SyncClient.connect(url)."
    )


def source_of(found: Activity[..., Any]) -> tuple[str, str, str]:
    """Module, file and qualified name of an activity's function."""
    fn = found.written
    return fn.__module__, place_of(fn).rpartition(":")[0], fn.__qualname__
