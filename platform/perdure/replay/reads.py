"""Answers queries of live runs, and evaluates their views."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model.signature import hints_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition


def answer(
    definition: Definition,
    payloads: Payloads,
    instance: Any,
    evaluate: Callable[..., Any],
    name: str,
    payload: bytes,
) -> bytes:
    """Call a query, and return its encoded answer.

    Args:
        definition: of the run's type.
        payloads: decodes the arguments and encodes the answer.
        instance: the instance of the workflow class; None before it exists.
        evaluate: calls a function as workflow code that may only read.
        name: the query.
        payload: its arguments.

    Raises:
        errors.UsageError: there is no such query.
        Exception: raised by the query.
    """
    fn = definition.queries.get(name)
    if fn is None:
        known = ", ".join(sorted(definition.queries)) or "none"
        raise errors.UsageError(f"workflow type {definition.name!r} has no query {name!r}; it has: {known}")
    args, kwargs = payloads.decode_arguments(fn, payload, what=f"query {name!r}")
    if instance is None:
        raise errors.UsageError("the run has not started: its start is delayed, or its __init__ raised")
    value = evaluate(partial(fn, instance, *args, **kwargs))
    return payloads.encode(value, _returned(fn), what=f"the answer of query {name!r}")


def seen(
    definition: Definition, payloads: Payloads, instance: Any, evaluate: Callable[..., Any]
) -> bytes | None:
    """The encoded view; None when the type has none or the run has not begun.

    Args:
        definition: of the run's type.
        payloads: encodes the view.
        instance: the instance of the workflow class; None before it exists.
        evaluate: calls a function as workflow code that may only read.

    Raises:
        Exception: the view raised it, or its value cannot be encoded.
    """
    fn = definition.view
    if fn is None or instance is None:
        return None
    try:
        return payloads.encode(evaluate(fn, instance), _returned(fn), what="the view")
    except errors.NotAwaited as error:
        raise errors.NotAwaited(f"{definition.place}: {error}") from None


@cache
def _returned(fn: Callable[..., Any]) -> Any:
    """The return annotation of a function."""
    return hints_of(fn).get("return", Any)
