"""Activities in tests: a fake in the place of one, and the attempt that a function asks about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from perdure.activity import Activity, Attempt, Info, running
from perdure.authoring.attempt import Outlet, outlet
from perdure.client import Client
from perdure.client.client import lent
from perdure.errors import UsageError
from perdure.model.source import calling_place

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def fake(target: Activity[P, R], fn: Callable[P, R | Awaitable[R]], /) -> Generator[None]:
    """Put a function in the place of an activity.

        with testing.fake(charge, lambda order_id, cents: "receipt"):

    Inside it is what runs, in every thread: when the activity is called outside workflows, and in a
    worker of this process.

    Args:
        target: the activity; of a method take it from the class.
        fn: takes what the activity takes, without `self`; sync or async.

    Raises:
        UsageError: the target is no activity, or the fake is no function.
    """
    if not isinstance(target, Activity):
        raise UsageError(
            f"{calling_place()}: testing.fake takes an activity, as its decorator returns it, not {target!r}."
        )
    if not callable(fn):
        raise UsageError(f"{calling_place()}: the fake of {target!r} must be a function, not {fn!r}.")
    definition = target.definition
    before = definition.faked_by
    _put(definition, fn)
    try:
        yield
    finally:
        _put(definition, before)


def _put(definition: Activity[..., Any], fn: Callable[..., Any] | None) -> None:
    for each in (definition, *definition.stand_ins):
        each.faked_by = fn


@contextmanager
def attempt(
    *, idempotency_key: str = "test", attempt: int = 1, client: Client | None = None
) -> Generator[None]:
    """Inside, `activity.info()` works, in an activity that is called there and in a bare function.

    Args:
        idempotency_key: what the function sees.
        attempt: the number of the attempt, from 1.
        client: what `activity.client()` gives; `env.client`. Only for async functions.
    """
    token = outlet.set(None if client is None else Outlet(_ignore, _Given(client)))
    try:
        yield from _prepared(idempotency_key, attempt)
    finally:
        outlet.reset(token)


class _Given:
    """Gives the client of a test."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def of_async(self) -> Client:
        """The client."""
        return lent(self._client)

    def of_sync(self) -> Client:
        """A sync function would need a loop in another thread."""
        raise UsageError("testing.attempt(client=…) is for async functions; run the activity in a workflow.")


def _ignore(_commands: object) -> None:
    """Nothing takes what the attempt of a test sends."""


def _prepared(idempotency_key: str, attempt: int) -> Generator[None]:
    with running(Attempt(Info("test", "test", "test", attempt, idempotency_key), is_waiting=True)):
        yield
