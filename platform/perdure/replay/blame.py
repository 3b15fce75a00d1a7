"""Finds the source line responsible for an action, and suspends its run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence


class NonDeterministic(BaseException):
    """Workflow code made a call that a replay could not repeat; its run is suspended until the code
    is changed.
    """


class Suspendable(Protocol):
    """The part of a run's loop that blame needs; `RefusingLoop` has it."""

    def suspend_for(self, error: BaseException) -> None:
        """Suspend the run because of this error; it is kept."""

    def live_tasks(self) -> Sequence[asyncio.Task[Any]]:
        """The tasks that are not done, oldest first."""
        ...


ENTRY_POINTS: Final[set[CodeType]] = set()
"""Code of `RunLoop` that calls workflow code: the frames that called it do not belong to the
run."""

UNKNOWN: Final = "the workflow's code"
"""Stands for an unknown line: a callback in C, started by a library."""


def deny(loop: Suspendable, what: str, instead: str, where: str) -> NoReturn:
    """Suspend the run. The exception is also kept as the loop's `fault`, so that the run is
    suspended even if the code swallows it.

    Args:
        loop: the run's loop.
        what: the forbidden call, as "time.time()".
        instead: what to do, as a sentence.
        where: file and line of your code.

    Raises:
        NonDeterministic: always.
    """
    error = NonDeterministic(f"{where}: {what} cannot be used in a workflow: {instead}")
    loop.suspend_for(error)
    raise error


def deny_caller(loop: Suspendable, what: str, instead: str, frame: FrameType | None) -> None:
    """Suspend the run for a forbidden call that a frame makes, in workflow code or in a library on
    its behalf.

    Returns only if a trusted module makes the call.

    Raises:
        NonDeterministic: the caller is not trusted.
    """
    where = asker(loop, frame)
    if where is not None:
        deny(loop, what, instead, where)


def asker(loop: Suspendable, frame: FrameType | None) -> str | None:
    """Your innermost line that caused the call; None: a trusted module made the call.

    Args:
        loop: the run's loop. A library's own task has no line of yours on its stack: then it is
            where your tasks wait.
        frame: the frame that makes the call.
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


def author_line(loop: Suspendable, frame: FrameType | None) -> str:
    """Your innermost line that led to the frame, or else the line where your tasks wait."""
    while frame is not None and frame.f_code not in ENTRY_POINTS:
        if is_author(frame):
            return position(frame)
        frame = frame.f_back
    return waiting_place(loop)


def waiting_place(loop: Suspendable) -> str:
    """Your innermost line in the youngest of the run's tasks that has one, or `UNKNOWN`."""
    return waits_at(loop) or UNKNOWN


def waits_at(loop: Suspendable) -> str:
    """Your innermost line in the youngest of the run's tasks that has one; empty: none has."""
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
    return ""


def direct_author(frame: FrameType | None, passing: frozenset[str] = frozenset()) -> FrameType | None:
    """The frame, if it is workflow code and not an import, else None; frames of the modules
    `passing` are skipped.
    """
    while frame is not None and (
        frame.f_code.co_filename == GENERATED or frame.f_globals.get("__name__") in passing
    ):
        frame = frame.f_back
    return frame if frame is not None and is_author(frame) and not is_importing(frame) else None


def is_importing(frame: FrameType | None) -> bool:
    """Whether the frame runs because workflow code imports a module; the guard allows its calls."""
    while frame is not None and frame.f_code not in ENTRY_POINTS:
        if _IMPORT_MACHINERY in str(frame.f_globals.get("__name__", "")):
            return True
        frame = frame.f_back
    return False


def is_author(frame: FrameType) -> bool:
    """Whether the frame is workflow code: in a watched file, or in a file that belongs neither to
    Python nor to a library nor to perdure.
    """
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
    """Treat all code in the file as workflow code from now on, wherever it is stored."""
    if file != GENERATED:
        _author_files[file] = True


def position(frame: FrameType) -> str:
    """File and line of the frame; those of its caller if the frame's code was generated (the
    `__init__` of a dataclass).
    """
    while frame.f_code.co_filename == GENERATED and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def caller(depth: int = 1) -> FrameType:
    """The frame of the caller; `depth` 2: of the caller's caller."""
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
