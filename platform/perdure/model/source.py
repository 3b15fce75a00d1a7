"""Locates your code, for messages."""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_OURS: Final = frozenset({"perdure", "asyncio", "contextlib", "dataclasses", "functools"})


def is_ours(module: str) -> bool:
    """Whether a module is perdure's, or stands between perdure and your code.

    Args:
        module: its `__name__`.
    """
    return module.partition(".")[0] in _OURS


def place_of(target: object) -> str:
    """`file:line` of a function; `module.QualName` of anything else."""
    code = getattr(target, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(target)


def calling_module() -> str:
    """`__name__` of your innermost module on the stack; empty: none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way that needs no import
    while frame is not None and is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def calling_place() -> str:
    """`file:line` of your innermost frame; empty: none."""
    frame = sys._getframe(1)  # noqa: SLF001  the documented way that needs no import
    while is_ours(frame.f_globals.get("__name__", "")):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def drops_a_result(frame: FrameType) -> bool:
    """Whether a statement of the frame is dropping a value: `charge(order)` without await, or `call
    = None`.

    An exception that passes through drops values, too, and so does a function that returns: those
    are not this.

    Args:
        frame: which called the `__del__` of the value.
    """
    name = dis.opname[frame.f_code.co_code[frame.f_lasti]] if frame.f_lasti >= 0 else ""
    return name.startswith(("POP_TOP", "STORE_", "DELETE_"))
