"""The updates of a run: their validators may only read, their handlers run as tasks."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from perdure import errors
from perdure.model.actions import CompleteUpdate, FailUpdate
from perdure.model.signature import hints_of
from perdure.replay.suspensions import CURABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from perdure.model import events as ev
    from perdure.model.payloads import Payloads
    from perdure.replay.loop import RunLoop
    from perdure.workflow import Definition


def validate(
    definition: Definition,
    payloads: Payloads,
    instance: Any,
    evaluate: Callable[..., Any],
    name: str,
    payload: bytes,
) -> None:
    """Call the validator of an update, if it has one.

    Args:
        definition: of the run's type.
        payloads: decodes the arguments.
        instance: the instance of the workflow class; None before it exists.
        evaluate: calls a function as workflow code that may only read.
        name: the update.
        payload: its arguments.

    Raises:
        Exception: raised by the validator: the update is rejected.
    """
    check = definition.validators.get(name)
    if check is None:
        return
    args, kwargs = payloads.decode_arguments(definition.updates[name], payload, what=f"update {name!r}")
    evaluate(partial(check, instance, *args, **kwargs))


def updater_of(
    definition: Definition, payloads: Payloads, event: ev.UpdateAccepted, run_id: str, event_id: int
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The handler of an accepted update, its arguments, and its keyword arguments.

    Raises:
        ReplayError: the handler was removed from the code.
        PayloadError: the arguments cannot be decoded.
    """
    fn = definition.updates.get(event.name)
    if fn is None:
        raise errors.ReplayError(run_id, event_id, f"update {event.name!r}", "has no such handler")
    return fn, *payloads.decode_arguments(fn, event.input, what=f"update {event.name!r}")


async def answered(
    fn: Callable[..., Any], first: tuple[Any, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call the handler of an update, a function or a coroutine function, and return its result."""
    result: Any = fn(*first, *args, **kwargs)
    return await result if hasattr(cast("Any", type(result)), "__await__") else result


async def handle_update(
    loop: RunLoop,
    payloads: Payloads,
    number: int,
    fn: Callable[..., Any],
    handler: Coroutine[Any, Any, Any],
) -> None:
    """Run the handler of an accepted update; its result or failure is the answer.

    Args:
        loop: of the run; gets the action that records the end.
        payloads: encodes the result, or the failure.
        number: of the update.
        fn: your function; its annotation gives the type of the result.
        handler: the call of the function.
    """
    try:
        result = await handler
        encoded = payloads.encode(
            result, hints_of(fn).get("return", Any), what=f"the result of update {fn.__name__!r}"
        )
    except CURABLE:
        raise
    except asyncio.CancelledError:
        cancelled = errors.Cancelled("the workflow ended before the update did")
        loop.actions.items.append(FailUpdate(number, payloads.encode_failure(cancelled)))
    except BaseException as error:  # noqa: BLE001 - the author's: it fails the update, not the run
        loop.actions.items.append(FailUpdate(number, payloads.encode_failure(error)))
    else:
        loop.actions.items.append(CompleteUpdate(number, encoded))
