"""On Python 3.11: guards `datetime.now()` and the like in workflow code at their call sites.

Python 3.11 cannot show the calls of a code object, and the datetime types must not be patched. So
your module is changed when it is loaded:

- where a function looks up `now`, `utcnow` or `today` on a global that is the module `datetime` or
  one of its types, that one instruction loads a `StandIn`, which asks the guard and then returns
  the real method. Nothing else in the function sees it;
- a clock that the module keeps (`now = datetime.now`, a class attribute, a default argument, a
  closure, a `partial`) is replaced by a `GuardedClock`, which asks the guard when it is called.
"""

from __future__ import annotations

import datetime as dt
import dis
import functools
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinMethodType, CodeType, FunctionType
from typing import Any, Final

CLOCKS: Final = ("now", "utcnow", "today")
"""The class methods of the datetime types that read a clock."""

_STAND_IN: Final = "{} {:x} (guarded by perdure)"
_LARGEST_INDEX: Final = 127  # for a global whose load needs no EXTENDED_ARG


def guard_module(
    names: dict[str, Any],
    functions: Iterable[FunctionType],
    classes: Iterable[type],
    called: Callable[[str], None],
) -> None:
    """Guard the clocks of a module; guarding it again changes nothing.

    Args:
        names: its globals.
        functions: your functions in it.
        classes: your classes in it.
        called: gets the name of the clock in the frame of the stand-in, before the clock is used.
    """
    for name, value in list(names.items()):
        if (clock := clock_name(value)) is not None:
            names[name] = GuardedClock(value, clock, called)
    for cls in classes:
        for name, value in list(vars(cls).items()):
            if (clock := clock_name(value)) is not None:
                setattr(cls, name, GuardedClock(value, clock, called))
    for function in functions:
        guard_sites(function, called)


def guard_sites(function: FunctionType, called: Callable[[str], None]) -> None:
    """Guard the call sites of the function and of the functions within it, and the clocks in its
    defaults and its closure.

    Args:
        function: your function; its code is replaced if there is such a site.
        called: gets the name of the clock in the frame of the stand-in, before the clock is used.
    """

    def guarded(value: Any) -> Any:
        clock = clock_name(value)
        return value if clock is None else GuardedClock(value, clock, called)

    if function.__defaults__:
        function.__defaults__ = tuple(guarded(value) for value in function.__defaults__)
    if function.__kwdefaults__:
        function.__kwdefaults__.update(
            {name: guarded(value) for name, value in function.__kwdefaults__.items()}
        )
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # empty
            continue
        if clock_name(value) is not None:
            cell.cell_contents = guarded(value)
    names: dict[str, Any] = function.__globals__
    code = _guarded(function.__code__, names, called)
    if code is not function.__code__:
        function.__code__ = code


def clock_name(value: Any) -> str | None:
    """The name of the clock if the value is a datetime clock, bound by `functools.partial` or not;
    else None.
    """
    while type(value) is functools.partial:
        value = value.func
    if type(value) is BuiltinMethodType and value.__name__ in CLOCKS:
        owner: Any = value.__self__
        if _is_date_type(owner):
            return f"{owner.__name__}.{value.__name__}"
    return None


def _is_date_type(value: Any) -> bool:
    return issubclass(type(value), type) and issubclass(value, dt.date)


def _guarded(code: CodeType, names: dict[str, Any], called: Callable[[str], None]) -> CodeType:
    constants = tuple(
        _guarded(each, names, called) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    if any(new is not old for new, old in zip(constants, code.co_consts, strict=True)):
        code = code.replace(co_consts=constants)
    for offset, name in _sites(code, names):
        original = names[name]
        # by identity: a reloaded module may give the name to something else
        stand_in = _STAND_IN.format(name, id(original))
        names[stand_in] = StandIn(original, called)
        code = _load_instead(code, offset, stand_in)
    return code


def _sites(code: CodeType, names: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Offset and name of each load of a global that leads to a clock."""
    if not set(CLOCKS).intersection(code.co_names):
        return []
    found: list[tuple[int, str]] = []
    start: tuple[int, str] | None = None
    value: Any = None
    for instruction in dis.get_instructions(code):
        name = str(instruction.argval)
        if instruction.opname == "LOAD_GLOBAL":
            value = names.get(name)
            start = (instruction.offset, name) if value is dt or _is_date_type(value) else None
        elif start is not None and instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            if value is dt:
                value = getattr(dt, name, None)
            else:
                if name in CLOCKS and _is_date_type(value):
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


class StandIn:
    """Stands for the module `datetime`, or for one of its types, in a look-up that leads to a
    clock.

    It stays in the globals of your module, where other code may find it. So it asks the guard for
    clocks only, and every other attribute is the original's.

    Args:
        original: the module or the type.
        called: gets the name of the clock.
    """

    __slots__ = ("_called", "_original")

    def __init__(self, original: Any, called: Callable[[str], None]) -> None:
        self._original = original
        self._called = called

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._original, name)
        if self._original is dt:
            return StandIn(value, self._called) if _is_date_type(value) else value
        if name in CLOCKS:
            self._called(f"{self._original.__name__}.{name}")
        return value


class GuardedClock:
    """Replaces a clock that your module keeps as a value: asks the guard, then calls the original.
    It equals the original, and is pickled as the original.

    Args:
        original: the clock, a method or a `partial` of one.
        name: of the clock, `datetime.now`.
        called: gets the name.
    """

    __slots__ = ("_called", "_name", "_original")

    def __init__(self, original: Callable[..., Any], name: str, called: Callable[[str], None]) -> None:
        self._original = original
        self._name = name
        self._called = called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._called(self._name)
        return self._original(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __eq__(self, other: object) -> bool:
        return self._original == (other._original if isinstance(other, GuardedClock) else other)

    def __hash__(self) -> int:
        return hash(self._original)

    def __repr__(self) -> str:
        return repr(self._original)

    def __reduce__(self) -> Any:
        return _same, (self._original,)


def _same(value: Any) -> Any:
    return value
