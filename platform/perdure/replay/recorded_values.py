"""Recorded values that the code of a run is given. One that cannot be decoded suspends the run."""

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
    """Recorded arguments of a function.

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
    """What suspends a run whose code cannot be given a recorded value, before it sees anything of
    it: other code may read it.

    Args:
        error: of the codec, or of a type of yours.
        what: could not be decoded.
        fn: the function whose annotations say what it is; None: not known here.
    """
    place = "" if fn is None or is_ours(fn.__module__) else f"{place_of(fn)}: "
    if isinstance(error, errors.UsageError):
        return type(error)(f"{place}{error}")
    return errors.PayloadError(f"{place}{what} cannot be read: {described(error)}")
