"""The awaitable that calls in workflow code return. It suspends the run if the code uses it as
though it were the value.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from perdure.model.runtime import current, misuse
from perdure.model.source import is_ours

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType

R = TypeVar("R")


class Unawaited(Coroutine[object, None, R]):
    """Lazy, and awaited once, like a coroutine, but without a frame of its own. Refuses to be used
    as a value.

    A coroutine of CPython is true, is not equal to anything and has a text: code that forgot an
    `await` would continue with those. The methods that refuse are defined on the class, so that
    they cost nothing where `await` is written (`__getattr__` would: CPython then looks up every
    attribute the slow way).

    Attributes:
        called: the name of the called function, for messages.
    """

    __slots__ = ("_waiter",)

    called: str
    _waiter: Generator[Any, Any, R] | None

    def send(self, value: Any, /) -> Any:
        """Run one step of the task that wraps this call."""
        waiter = self._waiter
        if waiter is None:
            waiter = self._waiter = self.__await__()
        return waiter.send(value)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Any:
        """Raise in the task that wraps this call; a call that is cancelled before its first step
        never begins.
        """
        waiter = self._waiter
        error = val if val is not None else typ() if isinstance(typ, type) else typ
        if tb is not None:
            error = error.with_traceback(tb)
        if waiter is None:
            self.close()
            raise error
        return waiter.throw(error)

    def close(self) -> None:
        """Idempotent."""
        if self._waiter is not None:
            self._waiter.close()

    # ---- used as if it were its value

    def __bool__(self) -> bool:
        return True if current() is None or _is_asked_by_us() else self._refuse("used as a condition")

    def __repr__(self) -> str:
        return f"<{self.called}, not awaited>"

    def __str__(self) -> str:
        return repr(self) if current() is None or _is_asked_by_us() else self._refuse("made into text")

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec) if current() is None else self._refuse("made into text")

    def __eq__(self, other: object) -> bool:
        # a list that removes one of several compares them
        if current() is None or hasattr(type(other), "__await__"):
            return self is other
        return self._refuse("compared")

    __hash__ = object.__hash__

    def _refuse(self, how: str) -> NoReturn:
        raise misuse(f"{self.called} is {how} and not awaited. Write `await` before the call.")


def _is_asked_by_us() -> bool:
    """Whether perdure or asyncio called the method that asks: both inspect every coroutine."""
    return is_ours(sys._getframe(2).f_globals.get("__name__", ""))  # noqa: SLF001


def _refusing(how: str) -> Callable[..., NoReturn]:
    def refuse(self: Unawaited[Any], *_: object) -> NoReturn:
        self._refuse(how)

    return refuse


_BINARY: Final = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift",
)  # fmt: skip
_USES: Final[dict[str, tuple[str, ...]]] = {
    "used in a calculation": (
        *_BINARY, *(f"r{each}" for each in _BINARY), "neg", "pos", "abs", "invert", "round", "trunc", "floor",
        "ceil",
    ),
    "compared": ("lt", "le", "gt", "ge"),
    "used as a number": ("int", "float", "complex", "index"),
    # without `__iter__`, which makes it an Iterable for isinstance(): Python iterates by this one,
    # too
    "used as a container": ("getitem", "setitem", "delitem", "len", "reversed"),
    "used in a `with` or `async for`": ("enter", "exit", "aenter", "aexit", "aiter"),
}  # fmt: skip
for _how, _names in _USES.items():
    for _name in _names:
        setattr(Unawaited, f"__{_name}__", _refusing(_how))


class WaitCall(Unawaited[R]):
    """The awaitable that `workflow.wait_until` returns. It reports when it is never awaited.

    Args:
        awaitable: the runtime's wait.
    """

    __slots__ = ("_awaitable",)

    called = "workflow.wait_until()"

    def __init__(self, awaitable: Awaitable[R]) -> None:
        self._awaitable = awaitable
        self._waiter = None

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  typeshed's is an attribute, asyncio only reads it
        """The name that asyncio shows in its messages."""
        return self.called

    def __await__(self) -> Generator[Any, Any, R]:
        return self._awaitable.__await__()

    def close(self) -> None:
        """Idempotent."""
        super().close()
        close = getattr(self._awaitable, "close", None)
        if close is not None:
            close()
