"""Where in the author's code something is, for messages."""

from __future__ import annotations

import sys
from typing import Final

_OURS: Final = frozenset({"perdure", "asyncio", "contextlib", "dataclasses", "functools"})


def is_ours(module: str) -> bool:
    """Whether a module is not the author's: ours, or what stands between ours and the author's.

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


def calling_place() -> str:
    """`file:line` of the innermost of the author's frames; empty when there is none."""
    frame = sys._getframe(1)  # noqa: SLF001  the documented way that needs no import
    while is_ours(frame.f_globals.get("__name__", "")):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
