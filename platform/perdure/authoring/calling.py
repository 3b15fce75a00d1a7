"""Calls of activities and steps outside a workflow: the function is called once, in this
process.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from perdure.authoring.attempt import Attempt, Info, current_attempt, running
from perdure.errors import UsageError
from perdure.model.source import calling_place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def run_as(
    attempt: Attempt | None, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[object, None, Any]:
    """Call the function, a sync one in a thread.

    Args:
        attempt: the result of `attempt_here`.
        name: the activity or step.
        fn: the function to call.
        args: its arguments.
        kwargs: its keyword arguments.
    """
    return _run(fn, Attempt() if attempt is None else _taken(attempt, name), args, kwargs)


def attempt_here(what: str, advice: str) -> Attempt | None:
    """The attempt that a test has prepared for this call (`testing.attempt`), if there is one.

    Raises:
        UsageError: this code already runs inside an attempt.
    """
    attempt = current_attempt()
    if attempt is not None and not attempt.is_waiting:
        raise UsageError(
            f"{calling_place()}: the {what} is called inside another activity, where it would not be "
            f"retried and has no idempotency key of its own. {advice}"
        )
    return attempt


def _taken(attempt: Attempt, name: str) -> Attempt:
    facts = attempt.info
    named = (
        None
        if facts is None
        else Info(facts.workflow_id, facts.run_id, name, facts.attempt, facts.idempotency_key)
    )
    return Attempt(named, attempt.heartbeat, attempt.last_heartbeat, attempt.is_cancelled)


async def _run(
    fn: Callable[..., Any], attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with running(attempt):
        if inspect.iscoroutinefunction(fn):
            return await fn(*args, **kwargs)
        result = await asyncio.to_thread(fn, *args, **kwargs)
        return await result if inspect.isawaitable(result) else result
