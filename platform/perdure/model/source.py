"""Locates your code, for messages."""

from __future__ import annotations

import dis
import gc
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType

_OURS: Final = frozenset({"perdure", "asyncio", "contextlib", "dataclasses", "functools"})


def is_ours(module: str) -> bool:
    """Whether a module is perdure's, or may be between perdure and your code on the stack.

    Args:
        module: its `__name__`.
    """
    return module.partition(".")[0] in _OURS


def place_of(target: object) -> str:
    """`file:line` of a function; `module.QualName` of anything else."""
    if is_ours(getattr(target, "__globals__", {}).get("__name__", "")):
        target = getattr(target, "__wrapped__", target)
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


def drops_a_result(frame: FrameType, *, is_author: bool = True) -> bool:
    """Whether the frame is dropping a value because the code has no more use for it:
    `charge(order)` without await, `if charge(order):`, or a variable of a function that has just
    returned.

    An exception that passes through the frame drops values, too; those do not count. The current
    instruction distinguishes the cases. Where it does not, the test is whether a traceback has the
    frame and belongs to an exception that is not being handled.

    Args:
        frame: the frame that called the value's `__del__`.
        is_author: whether the frame runs your code. Another frame counts only if a function has
            just returned to it: the value was one of that function's variables.
    """
    if frame.f_lasti < 0:
        return False
    code = frame.f_code.co_code
    name = dis.opname[code[frame.f_lasti]]
    if not is_author and not name.startswith(_CALLS):
        return False
    if name.startswith(_UNWINDING) or _ends_a_handler(code, frame.f_lasti):
        return False
    return name.startswith(_STATEMENTS) or not _is_unwinding(frame)


def unawaited_line(code: CodeType, name: str) -> int | None:
    """The first line on which a function calls something without awaiting it; None: there is none.

    Args:
        code: the function's code.
        name: the called name, without dots.
    """
    line = None
    for each in dis.get_instructions(code):
        if each.argval == name and each.opname.startswith("LOAD_"):
            line = each.positions.lineno if each.positions is not None else None
        elif each.opname == "GET_AWAITABLE":
            line = None
        elif line is not None and each.opname.startswith(_STATEMENTS + _RETURNS):
            return line
    return None


def _ends_a_handler(code: bytes, at: int) -> bool:
    """Whether the instruction is the `error = None` with which CPython ends an `except ... as
    error`; `del error` follows it. It frees the exception, and with it the variables of all frames
    that raised it.
    """
    name = dis.opname[code[at]]
    if not name.startswith("STORE_") or at < _UNIT or code[at - _UNIT] != dis.opmap["LOAD_CONST"]:
        return False
    deletes = dis.opmap.get(name.replace("STORE_", "DELETE_"), -1)
    return list(code[at + _UNIT : at + 2 * _UNIT]) == [deletes, code[at + 1]]


def _is_unwinding(frame: FrameType) -> bool:
    """Whether an unhandled exception is passing through the frame."""
    handled: set[int] = set()
    error = sys.exc_info()[1]
    while error is not None and id(error) not in handled:
        handled.add(id(error))
        traceback = error.__traceback__
        while traceback is not None:
            handled.add(id(traceback))
            traceback = traceback.tb_next
        error = error.__context__
    return any(
        type(each) is TracebackType and each.tb_frame is frame and id(each) not in handled
        for each in gc.get_referrers(frame)
    )


_UNIT: Final = 2
"""Bytes of an instruction: its code and its argument."""
_STATEMENTS: Final = ("POP_TOP", "STORE_", "DELETE_", "BEFORE_")
_RETURNS: Final = ("RETURN_", "POP_JUMP_", "YIELD_")
_CALLS: Final = ("CALL", "CACHE", "SEND", "PRECALL")
"""CACHE: where CPython 3.11 and 3.12 keep the instruction that a function returns to."""
_UNWINDING: Final = (
    "POP_EXCEPT",
    "RERAISE",
    "RAISE_",
    "PUSH_EXC",
    "CHECK_E",
    "PREP_RERAISE",
    "CLEANUP_",
    "WITH_EXCEPT",
)
