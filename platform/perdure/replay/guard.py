"""The determinism guard: rejects calls of workflow code that replay could not repeat.

It acts only while the running loop of the thread is a `RunLoop`, and names your line. It sees:

- files, sockets, programs, threads, `input`: an audit hook; if a library asks on your code's
  behalf, your line is shown;
- clocks and `time.sleep` called by workflow code: from 3.12 by `sys.monitoring`, local to workflow
  code objects, so that a harmless call site costs nothing after its first call; on 3.11 by wrappers
  in the module `time`, and for `datetime.now` and the like by `clock_sites.py`. The datetime types
  are never patched: extension modules hold on to them;
- `random.*` and `uuid.uuid4`, which are not refused but draw from the run's own stream;
- `os.environ` and `os.urandom` (and so `secrets`), by wrappers.

It does not see a call on 3.11 through a name that was imported into a function under another name,
nor a call site that first calls something harmless and later a clock. `perdure check` replays
histories to find such leaks.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final, cast

from perdure.replay import blame, clock_sites
from perdure.replay.blame import NonDeterministic
from perdure.replay.guard_advice import CLOCK, TERMINAL, THREAD, running_workflow

__all__ = ["NonDeterministic", "install", "watch", "watch_module"]


def install() -> None:
    """Install the guard; once per process, before workflow modules are imported. Idempotent."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    from perdure.replay import guard_calls

    sys.addaudithook(_audit)
    guard_calls.install()


def watch(code: CodeType) -> None:
    """Guard the calls made by this code and by the functions and classes within it, wherever its
    file is stored.
    """
    from perdure.replay import guard_calls

    blame.is_of_author(code.co_filename)
    guard_calls.watch(code)


def watch_module(module: ModuleType) -> None:
    """Guard the calls made by all functions and classes of your module."""
    functions, classes = members_of(module)
    if not guard_has_monitoring():
        clock_sites.guard_module(vars(module), functions, classes, clock_called)
    for function in functions:
        watch(function.__code__)


def guard_has_monitoring() -> bool:
    """Whether this Python can monitor the calls of a code object (from 3.12)."""
    return sys.version_info >= (3, 12)


def functions_of(module: ModuleType) -> list[FunctionType]:
    """The functions whose globals are the module's: plain ones, methods, and those inside perdure's
    own descriptors.
    """
    return members_of(module)[0]


def members_of(module: ModuleType) -> tuple[list[FunctionType], list[type]]:
    """The functions whose globals are the module's, wherever they are stored, and the classes that
    the module defines.
    """
    names = vars(module)
    functions: list[FunctionType] = []
    classes: list[type] = []
    todo: list[Any] = list(names.values())
    seen: set[int] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        # not isinstance(): that asks the object itself, and a proxy of yours may raise
        kind = cast("Any", type(thing))
        if issubclass(kind, FunctionType):
            if thing.__globals__ is names:
                functions.append(thing)
            todo += [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
        elif issubclass(kind, type):
            members = type.__getattribute__(thing, "__dict__")
            if members.get("__module__") == module.__name__:
                classes.append(thing)
                todo += members.values()
        elif issubclass(kind, staticmethod | classmethod):
            todo.append(thing.__func__)
        elif issubclass(kind, property):
            todo += [thing.fget, thing.fset, thing.fdel]
        elif _is_ours(kind):
            todo += _attributes(thing)
    return functions, classes


def clock_called(name: str) -> None:
    """Reject a clock that workflow code is about to call. Rewritten call sites call this."""
    loop = running_workflow()
    if loop is not None:
        frame = blame.caller(2)
        if not blame.is_importing(frame):
            blame.deny(loop, f"{name}()", CLOCK, blame.position(frame))


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    instead = _EVENTS.get(event)
    if instead is not None:
        loop = running_workflow()
        if loop is not None and not (event == "open" and _TIME_ZONES in str(arguments[0])):
            blame.deny_caller(
                loop,
                f"{event.replace('__new__', 'socket').removeprefix('builtins.')}()",
                instead,
                blame.caller(),
            )


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises when it is empty
    except ValueError:
        return False
    return True


def _is_ours(kind: type) -> bool:
    """Whether the object is perdure's own, such as a descriptor, which may hold your functions."""
    return kind not in _STAND_INS and str(kind.__module__).partition(".")[0] == "perdure"


def _attributes(thing: Any) -> list[Any]:
    """The values of the object's instance dictionary and slots, read without its `__getattr__`."""
    found: list[Any] = []
    for kind in type(thing).__mro__:
        for name, member in vars(kind).items():
            if type(member) is MemberDescriptorType or (
                name == "__dict__" and type(member) is GetSetDescriptorType
            ):
                with suppress(AttributeError):  # an empty slot
                    value = member.__get__(thing)
                    found += value.values() if name == "__dict__" else [value]
    return found


_STAND_INS: Final = (clock_sites.StandIn, clock_sites.GuardedClock)
_FILES: Final = "its result is not recorded. Use files in an activity."
_NETWORK: Final = "its result is not recorded. Use the network in an activity."
_PROGRAM: Final = "its effect is not recorded. Run programs in an activity."
_EVENTS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link"),
        _FILES,
    ),
    **dict.fromkeys(
        ("os.symlink", "os.truncate", "os.chmod", "shutil.rmtree", "tempfile.mkstemp", "tempfile.mkdtemp"),
        _FILES,
    ),
    **dict.fromkeys(("sqlite3.connect", "sqlite3.connect/handle", "mmap.__new__"), _FILES),
    **dict.fromkeys(
        ("socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"), _NETWORK
    ),
    **dict.fromkeys(
        ("socket.gethostbyname", "socket.gethostname", "urllib.Request", "http.client.connect"), _NETWORK
    ),
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        _PROGRAM,
    ),
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), THREAD),
    "builtins.input": TERMINAL,
}
_TIME_ZONES: Final = f"{os.sep}zoneinfo{os.sep}"  # opened by ZoneInfo, in C, without a frame of its own
_is_installed = False
