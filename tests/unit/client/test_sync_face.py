"""What a program without asyncio asks for reaches the asynchronous client whole: no option is left
out, none is another's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.client import Client, Handle, SyncClient, SyncHandle
from perdure.client.sync import _LoopThread

ANSWER = SimpleNamespace(id="order-1", number=3)
NOT_ASKED = {"connect", "close", "watch", "stream"}  # the last two ask when they are iterated


class Remembers:
    """An asynchronous client or handle that notes what it is asked."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self.id, self.run_id = "order-1", "run-1"
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._kind, name)

        def note(*args: Any, **kwargs: Any) -> Any:
            given = inspect.signature(method).bind(self, *args, **kwargs).arguments
            self.asked.append((name, {key: value for key, value in given.items() if key != "self"}))
            return answer() if inspect.iscoroutinefunction(method) else ANSWER

        async def answer() -> Any:
            return ANSWER

        return note


def methods_of(kind: type[Any]) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_") and inspect.isfunction(vars(kind)[name])]


CASES = [(Client, SyncClient, name) for name in methods_of(SyncClient)] + [
    (Handle, SyncHandle, name) for name in methods_of(SyncHandle)
]


@pytest.mark.parametrize(
    ("asynchronous", "synchronous", "name"),
    [case for case in CASES if case[2] not in NOT_ASKED],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_every_argument_is_passed_on_as_what_it_is(
    asynchronous: type[Any], synchronous: type[Any], name: str
) -> None:
    remembers = Remembers(asynchronous)
    thread = _LoopThread()
    given: dict[str, Any] = {}
    args: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in list(inspect.signature(getattr(asynchronous, name)).parameters.values())[1:]:
        value = f"the {parameter.name}"
        match parameter.kind:
            case inspect.Parameter.KEYWORD_ONLY:
                given[parameter.name] = named[parameter.name] = value
            case inspect.Parameter.VAR_POSITIONAL:
                given[parameter.name] = (value,)
                args.append(value)
            case inspect.Parameter.VAR_KEYWORD:
                given[parameter.name] = named["by_name"] = value
                given[parameter.name] = {"by_name": value}
            case _:
                given[parameter.name] = value
                args.append(value)
    try:
        answer = getattr(synchronous(remembers, thread), name)(*args, **named)
    finally:
        thread.stop()
    assert remembers.asked == [(name, given)]
    inner = getattr(answer, "_handle", getattr(answer, "_client", answer))
    assert inner is (
        None if inspect.signature(getattr(asynchronous, name)).return_annotation == "None" else ANSWER
    )
