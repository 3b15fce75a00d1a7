"""The updates of a run: validated while it may only be read, handled as tasks of their own."""

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
    """Ask the validator of an update, if it has one.

    Args:
        definition: of the run's type.
        payloads: decodes the arguments.
        instance: of the workflow class; None before it is made.
        evaluate: calls a function as workflow code that may only read.
        name: of the update.
        payload: its arguments.

    Raises:
        Exception: what the validator raised: it says no.
    """
    check = definition.validators.get(name)
    if check is None:
        return
    args, kwargs = payloads.decode_arguments(definition.updates[name], payload, what=f"update {name!r}")
    evaluate(partial(check, instance, *args, **kwargs))


def updater_of(
    definition: Definition, payloads: Payloads, event: ev.UpdateAccepted, run_id: str, event_id: int
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The handler of an accepted update, its arguments, and those by name.

    Raises:
        ReplayError: the code has no such handler any more.
        PayloadError: it cannot read the arguments any more.
    """
    fn = definition.updates.get(event.name)
    if fn is None:
        raise errors.ReplayError(run_id, event_id, f"update {event.name!r}", "has no such handler")
    return fn, *payloads.decode_arguments(fn, event.input, what=f"update {event.name!r}")


async def answered(
    fn: Callable[..., Any], first: tuple[Any, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call the handler of an update, which is a function or a coroutine function; its result."""
    result: Any = fn(*first, *args, **kwargs)
    return await result if hasattr(cast("Any", type(result)), "__await__") else result


async def handle_update(
    loop: RunLoop,
    payloads: Payloads,
    number: int,
    fn: Callable[..., Any],
    handler: Coroutine[Any, Any, Any],
) -> None:
    """Run the handler of an accepted update; how it ends is the answer.

    Args:
        loop: of the run; gets the action that records the end.
        payloads: encodes the result, or the failure.
        number: of the update.
        fn: your function, which says what it returns.
        handler: its call.
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
