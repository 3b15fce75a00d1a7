"""Which line of the author's did something, and how its run is suspended for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from perdure.replay.refusing import RefusingLoop


class NonDeterministic(BaseException):
    """Workflow code did what a replay could not repeat; its run is suspended until the code is changed."""


ENTRY_POINTS: Final[set[CodeType]] = set()
"""The code of `RunLoop` that calls the author's: nothing above it on the stack concerns the run."""

UNKNOWN: Final = "the workflow's code"
"""Stands for a line that nobody knows: a callback in C, started by a library."""


def deny(loop: RefusingLoop, what: str, instead: str, where: str) -> NoReturn:
    """Suspend the run: the exception is also kept as the loop's `fault`, so that code which swallows it does not go on.

    Args:
        loop: the run.
        what: was called, "time.time()".
        instead: what to do, as a sentence.
        where: file and line of the author.

    Raises:
        NonDeterministic: always.
    """
    error = NonDeterministic(f"{where}: {what} cannot be used in a workflow: {instead}")
    loop.suspend_for(error)
    raise error


def deny_caller(loop: RefusingLoop, what: str, instead: str, frame: FrameType | None) -> None:
    """Suspend the run for what a frame, or a library on the author's behalf, asks for.

    Returns only when a part that may do as it likes is the one that asks.

    Raises:
        NonDeterministic: nobody trusted asks.
    """
    where = asker(loop, frame)
    if where is not None:
        deny(loop, what, instead, where)


def asker(loop: RefusingLoop, frame: FrameType | None) -> str | None:
    """The author's innermost line, whoever asks on its behalf; None when a part that may do as it likes is the one that asks.

    Args:
        loop: the run. A library's own task has no line of the author's on its stack: then it is where the author's tasks wait.
        frame: of who asks.
    """
    found = None
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if frame.f_code in ENTRY_POINTS:
            break
        if found is None and is_author(frame):
            found = frame
        elif _IMPORT_MACHINERY in module or (found is None and module.partition(".")[0] in _TRUSTED):
            return None
        frame = frame.f_back
    return position(found) if found is not None else waiting_place(loop)


def author_line(loop: RefusingLoop, frame: FrameType | None) -> str:
    """The author's innermost line of those that led to the frame; or where the author's tasks wait."""
    while frame is not None and frame.f_code not in ENTRY_POINTS:
        if is_author(frame):
            return position(frame)
        frame = frame.f_back
    return waiting_place(loop)


def waiting_place(loop: RefusingLoop) -> str:
    """The author's innermost line in the youngest of the run's tasks that has one."""
    for task in reversed(loop.live_tasks()):
        found: FrameType | None = None
        coroutine: Any = task.get_coro()
        while coroutine is not None:
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
            if isinstance(frame, FrameType) and is_author(frame):
                found = frame
            coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        if found is not None:
            return position(found)
    return UNKNOWN


def direct_author(frame: FrameType | None, passing: frozenset[str] = frozenset()) -> FrameType | None:
    """The frame if it is the author's own code, not on import; frames of the modules `passing` are skipped."""
    while frame is not None and (frame.f_code.co_filename == GENERATED or frame.f_globals.get("__name__") in passing):
        frame = frame.f_back
    return frame if frame is not None and is_author(frame) and not is_importing(frame) else None


def is_importing(frame: FrameType | None) -> bool:
    """Whether the frame runs because workflow code imports a module: what that does is not the run's own doing."""
    while frame is not None and frame.f_code not in ENTRY_POINTS:
        if _IMPORT_MACHINERY in str(frame.f_globals.get("__name__", "")):
            return True
        frame = frame.f_back
    return False


def is_author(frame: FrameType) -> bool:
    """Whether the frame's code is the author's: in a watched file, or neither Python's, nor a library's, nor ours."""
    file = frame.f_code.co_filename
    known = _author_files.get(file)
    if known is None:
        module = str(frame.f_globals.get("__name__", ""))
        known = not (
            module.partition(".")[0] == "perdure"
            or file.startswith((_STANDARD_LIBRARY, "<frozen ", GENERATED))
            or f"{os.sep}site-packages{os.sep}" in file
            or f"{os.sep}dist-packages{os.sep}" in file
        )
        _author_files[file] = known
    return known


def is_of_author(file: str) -> None:
    """From now on all code in the file is the author's, wherever it is stored."""
    if file != GENERATED:
        _author_files[file] = True


def position(frame: FrameType) -> str:
    """File and line; of who called it, where the frame's own code was generated (the `__init__` of a dataclass)."""
    while frame.f_code.co_filename == GENERATED and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def caller(depth: int = 1) -> FrameType:
    """The frame of whoever called the function that asks; `depth` 2: of the caller of that."""
    return sys._getframe(depth + 1)  # noqa: SLF001 - there is no other way to know who calls


GENERATED: Final = "<string>"
_TRUSTED: Final = frozenset(
    (
        "logging",
        "warnings",
        "traceback",
        "linecache",
        "tokenize",
        "importlib",
        "pdb",
        "bdb",
        "perdure",
        "zoneinfo",
        "_strptime",
    )
)
_IMPORT_MACHINERY: Final = "importlib._bootstrap"
_STANDARD_LIBRARY: Final = f"{Path(os.__file__).parent}{os.sep}"
_author_files: dict[str, bool] = {}
