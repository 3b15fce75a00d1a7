"""Retry options of an activity."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from perdure.errors import UsageError
from perdure.model.duration import LONGEST_US, microseconds
from perdure.model.options import RetryPolicy
from perdure.model.source import calling_place

if TYPE_CHECKING:
    from collections.abc import Collection

    from perdure.model.duration import Duration

_DEFAULT_CAP: Final = 100
"""`maximum_interval` where none is given, as a multiple of `first_interval`."""

_NO_CLASSES: Final = "never must be a list or a tuple of exception classes, such as [ValueError], not {0!r}"


class Retry(Struct, frozen=True):
    """Retry options: when the next attempt starts, and when there is none.

    Attributes:
        first_interval: between the first failure and the second attempt.
        coefficient: each interval is the previous one times this; at least 1.
        maximum_interval: no interval is longer; 100 times the first where none is given.
        maximum_attempts: None for no limit.
        give_up_after: the limit on all attempts together, including the waits; None for no limit.
        never: exceptions that are not retried; a `Failure` never is. Kept as a tuple.
        when_exhausted: `fail`: when no attempt is left, your code gets the exception. `pause`: the
            run is paused, and an operator retries the activity, gives it a result, or lets it fail.
            Exceptions that are never retried go to your code either way.

    Raises:
        UsageError: one of them has an invalid value.
    """

    first_interval: Duration = "1s"
    coefficient: float = 2.0
    maximum_interval: Duration | None = None
    maximum_attempts: int | None = None
    give_up_after: Duration | None = None
    never: Collection[type[Exception]] = ()
    when_exhausted: Literal["fail", "pause"] = "fail"

    def __post_init__(self) -> None:
        try:
            if not isinstance(self.never, tuple):
                force_setattr(self, "never", _tuple_of(self.never))
            _check_exhausted(self.when_exhausted)
            _compiled(self)  # past the cache, where True equals 1
        except UsageError as error:
            raise UsageError(f"{calling_place()}: Retry: {error}") from None


@lru_cache(maxsize=256)
def policy_of(retry: Retry) -> RetryPolicy:
    """The form that commands and events carry."""
    return _compiled(retry)


def _compiled(retry: Retry) -> RetryPolicy:
    first = microseconds(retry.first_interval)
    return RetryPolicy(
        first_interval_us=first,
        coefficient=_coefficient(retry.coefficient),
        maximum_interval_us=_cap(first)
        if retry.maximum_interval is None
        else microseconds(retry.maximum_interval),
        maximum_attempts=_attempts(retry.maximum_attempts),
        give_up_after_us=0
        if retry.give_up_after is None
        else _positive(retry.give_up_after, "give_up_after"),
        never=_names(retry.never),
    )


def _check_exhausted(value: object) -> None:
    if value not in ("fail", "pause"):
        raise UsageError(f'when_exhausted must be "fail" or "pause", not {value!r}')


def _cap(first_us: int) -> int:
    return min(first_us * _DEFAULT_CAP, LONGEST_US)


def _coefficient(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 1:
        raise UsageError(f"coefficient must be a number of at least 1, not {value!r}")
    return float(value)


def _attempts(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(
            f"maximum_attempts must be a whole number of at least 1, or None for no limit, not {value!r}"
        )
    return value


def _positive(value: Duration, what: str) -> int:
    span = microseconds(value)
    if not span:
        raise UsageError(f"{what} must be positive; omit it for no limit")
    return span


def _tuple_of(never: object) -> tuple[Any, ...]:
    if isinstance(never, str):
        raise UsageError(_NO_CLASSES.format(never))
    try:
        return tuple(cast("Collection[Any]", never))
    except TypeError:
        raise UsageError(_NO_CLASSES.format(never)) from None


def _names(never: Collection[type[Exception]]) -> tuple[str, ...]:
    try:
        if all(issubclass(kind, Exception) for kind in never):
            return tuple(f"{kind.__module__}:{kind.__qualname__}" for kind in never)
    except TypeError:
        pass
    raise UsageError(_NO_CLASSES.format(never))
