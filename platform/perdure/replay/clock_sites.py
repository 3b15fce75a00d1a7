"""On Python 3.11: `datetime.now()` and the like in the author's code, guarded where they are called.

Python 3.11 cannot show the calls of a code object, and the datetime types must not be patched. So the call sites are: where a
function of the author's looks up `now`, `utcnow` or `today` on a global that is the module `datetime` or one of its types, that one
instruction is made to load a stand-in, which asks the guard and then hands out the real method. Nothing else in the function sees
the stand-in.
"""

from __future__ import annotations

import datetime as dt
import dis
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

_CLOCKS: Final = ("now", "utcnow", "today")
_TYPES: Final = (dt.datetime, dt.date)
_STAND_IN: Final = "{} (guarded by perdure)"
_LARGEST_INDEX: Final = 127  # of a global whose load needs no EXTENDED_ARG


def guard_sites(function: FunctionType, called: Callable[[str], None]) -> None:
    """Guard the call sites of the function and of the functions within it.

    Args:
        function: the author's; its code is replaced when there is such a site.
        called: gets the name of the clock, in the frame of the stand-in, before the clock is handed out.
    """
    names: dict[str, Any] = function.__globals__
    code = _guarded(function.__code__, names, called)
    if code is not function.__code__:
        function.__code__ = code


def _guarded(code: CodeType, names: dict[str, Any], called: Callable[[str], None]) -> CodeType:
    constants = tuple(_guarded(each, names, called) if isinstance(each, CodeType) else each for each in code.co_consts)
    if any(new is not old for new, old in zip(constants, code.co_consts, strict=True)):
        code = code.replace(co_consts=constants)
    for offset, name in _sites(code, names):
        stand_in = _STAND_IN.format(name)
        names.setdefault(stand_in, _StandIn(names[name], called))
        code = _load_instead(code, offset, stand_in)
    return code


def _sites(code: CodeType, names: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Offset and name of each load of a global that leads to a clock."""
    if not set(_CLOCKS).intersection(code.co_names):
        return []
    found: list[tuple[int, str]] = []
    start: tuple[int, str] | None = None
    value: Any = None
    for instruction in dis.get_instructions(code):
        name = str(instruction.argval)
        if instruction.opname == "LOAD_GLOBAL":
            value = names.get(name)
            start = (instruction.offset, name) if value is dt or any(value is each for each in _TYPES) else None
        elif start is not None and instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            if value is dt:
                value = getattr(dt, name, None)
            else:
                if name in _CLOCKS and any(value is each for each in _TYPES):
                    found.append(start)
                start = None
        else:
            start = None
    return found


def _load_instead(code: CodeType, offset: int, name: str) -> CodeType:
    if name in code.co_names:
        index = code.co_names.index(name)
    else:
        index = len(code.co_names)
        code = code.replace(co_names=(*code.co_names, name))
    if index > _LARGEST_INDEX:
        return code
    content = bytearray(code.co_code)
    content[offset + 1] = (index << 1) | (content[offset + 1] & 1)
    return code.replace(co_code=bytes(content))


class _StandIn:
    """The module `datetime`, or one of its types, for the one look-up that leads to a clock."""

    __slots__ = ("_called", "_of")

    def __init__(self, of: Any, called: Callable[[str], None]) -> None:
        self._of = of
        self._called = called

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._of, name)
        if self._of is dt:
            return _StandIn(value, self._called)
        self._called(f"{self._of.__name__}.{name}")
        return value
