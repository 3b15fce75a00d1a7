"""Decodes recorded values for the code of a run. A value that cannot be decoded suspends the
run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model.described import described
from perdure.model.source import is_ours, place_of
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.payloads import Payloads


def arguments(
    payloads: Payloads, fn: Callable[..., Any], payload: bytes, what: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode the recorded arguments of a function.

    Raises:
        errors.PayloadError: they cannot be decoded: the run must be suspended.
    """
    try:
        return payloads.decode_arguments(fn, payload, what=what)
    except SUSPENDING:
        raise
    except BaseException as error:
        raise unreadable(error, f"the arguments of {what}", fn) from error


def unreadable(error: BaseException, what: str, fn: Callable[..., Any] | None = None) -> errors.UsageError:
    """The exception that suspends a run because its code cannot decode a recorded value; changed
    code may be able to. It is raised before the code sees the event.

    Args:
        error: raised by the codec, or by a type of yours.
        what: the value that could not be decoded, as text.
        fn: the function whose annotations declare the type; None: not known here.
    """
    place = "" if fn is None or is_ours(fn.__module__) else f"{place_of(fn)}: "
    if isinstance(error, errors.UsageError):
        return type(error)(f"{place}{error}")
    return errors.PayloadError(f"{place}{what} cannot be read: {described(error)}")
