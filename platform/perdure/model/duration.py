"""Durations: `timedelta`, or text such as "30 days" or "1m 30s"."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from perdure.errors import UsageError

Duration = timedelta | str

LATEST_US: Final = 253_402_300_799_000_000
"""The last second of the year 9999, the last that `datetime` has, microseconds since 1970."""
LONGEST_US: Final = 10_000 * 365 * 86_400_000_000
"""The longest duration. A time plus two of these stays far below 64 bits."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1_000),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000_000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000_000),
    **dict.fromkeys(("w", "week", "weeks"), 604_800_000_000),
}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*,?", re.ASCII | re.IGNORECASE)


def utc_text(at: int) -> str:
    """A time, microseconds since 1970, for people, to the second."""
    return f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%d %H:%M:%S} UTC"


def microseconds(duration: Duration) -> int:
    """The duration in microseconds, rounded up; at most 10,000 years, which counts as for ever.

    Args:
        duration: a `timedelta`, or parts of a number and a unit: "500ms", "1m 30s", "30 days".
            Years and months are refused: they have no fixed length.

    Raises:
        UsageError: not a duration, or negative.
    """
    if isinstance(duration, timedelta):
        total = (duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds
    elif isinstance(duration, str):
        total = _parse(duration)
    else:
        raise UsageError(f'a duration is a timedelta or text such as "30s", not {duration!r}')
    if total < 0:
        raise UsageError(f"a duration must not be negative: {duration!r}")
    return min(total, LONGEST_US)


def argument_us(what: str, duration: Duration) -> int:
    """As `microseconds`; messages name the argument.

    Args:
        what: the argument, such as "timeout".
        duration: its value.

    Raises:
        UsageError: not a duration, or negative.
    """
    try:
        return microseconds(duration)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def moment_us(moment: object, what: str) -> int:
    """A time in microseconds since 1970; times before 1970 are 0.

    Args:
        moment: a `datetime` with a time zone.
        what: names it in messages.

    Raises:
        UsageError: it is no datetime, or it has no time zone.
    """
    if not isinstance(moment, datetime):
        raise UsageError(f"{what} must be a datetime, not {moment!r}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise UsageError(f"{what}={moment!r} has no time zone; give it one, such as datetime.UTC")
    return max(0, (moment - _EPOCH) // timedelta(microseconds=1))


def moment_of_text(text: str, what: str) -> datetime:
    """The time that a text says in ISO 8601, with its time zone: "2026-12-24T18:00:00+01:00".

    Args:
        text: the text.
        what: names it in messages.

    Raises:
        UsageError: it is no such text, or it has no time zone.
    """
    example = 'write it as "2026-12-24T18:00:00+01:00", or with "Z" for UTC'
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"cannot read {what} {text!r}: {example}") from None
    if found.tzinfo is None:
        raise UsageError(f"{what} {text!r} has no time zone: {example}")
    return found


@lru_cache(maxsize=1024)
def _parse(text: str) -> int:
    position, total = 0, 0.0
    while match := _PART.match(text, position):
        scale = _UNITS.get(match[2].lower())
        if scale is None:
            break
        total += float(match[1]) * scale
        position = match.end()
    if not position or position != len(text):
        raise UsageError(
            f'cannot read the duration {text!r}: write a number and a unit, such as "500ms", "30s", "1m '
            '30s", "2h", "30 days"'
        )
    whole = int(min(total, LONGEST_US))
    return whole if whole == total else whole + 1
