"""The times of a schedule: cron expressions and intervals, in a time zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from perdure.errors import UsageError
from perdure.model.limits import fault_of_id

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND_US: Final = 1_000_000
LONGEST_EVERY_US: Final = 3_653 * 86_400 * SECOND_US
"""Ten years."""
LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
OVERLAPS: Final = ("skip", "queue", "all", "cancel", "terminate")
LOOK_AHEAD: Final = 50
"""The number of coming times that must be further apart than the jitter."""
import_module("tzdata")  # now, since workflow code, which needs it first, must not import anything
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = 5


@dataclass
class Spec:
    """A schedule: what it starts, and when.

    Attributes:
        type: the workflow type of its runs.
        args: their positional arguments, as JSON values.
        kwargs: their keyword-only arguments, as JSON values.
        cron: five fields; empty: `every_us` is used.
        every_us: the interval, microseconds; 0: `cron` is used.
        timezone: of `cron` and `exclude`, such as "Europe/Rome".
        exclude: days without runs, as "2026-12-25".
        jitter_us: each run is started up to this much later, microseconds.
        overlap: what happens at a time when the run before has not ended; see `OVERLAPS`.
        catch_up_us: times that passed while no engine ran are caught up if they are not older,
            microseconds.
        timeout_us: of each run, microseconds; 0: none.
    """

    type: str
    args: list[Any] = field(default_factory=list[Any])
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    cron: str = ""
    every_us: int = 0
    timezone: str = "UTC"
    exclude: list[str] = field(default_factory=list[str])
    jitter_us: int = 0
    overlap: str = "skip"
    catch_up_us: int = 3_600 * SECOND_US
    timeout_us: int = 0


def check(spec: Spec, now_us: int) -> None:
    """Check a schedule.

    Args:
        spec: the schedule.
        now_us: its times after this one are checked, microseconds.

    Raises:
        UsageError: it can have no times, or a value is invalid; says which and what to do.
    """
    if fault := fault_of_id(spec.type, "type"):
        raise UsageError(fault)
    if bool(spec.cron) == bool(spec.every_us):
        raise UsageError("a schedule has either cron or every")
    if spec.every_us and not SECOND_US <= spec.every_us <= LONGEST_EVERY_US:
        raise UsageError("every must be between 1 second and 10 years")
    if spec.overlap not in OVERLAPS:
        raise UsageError(f"invalid overlap={spec.overlap!r}: must be one of {', '.join(OVERLAPS)}")
    if spec.jitter_us < 0 or spec.catch_up_us < 0 or spec.timeout_us < 0:
        raise UsageError("jitter, catch_up and timeout must not be negative")
    _zone(spec.timezone)
    for day in spec.exclude:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise UsageError(f'cannot read the day {day!r} of exclude: write it as "2026-12-25"') from None
    coming = list(_first(times_after(spec, now_us, now_us), LOOK_AHEAD if spec.jitter_us else 1))
    if not coming:
        raise UsageError("the schedule has no time after now: does exclude leave out every day?")
    gap = spec.every_us or min((later - one for one, later in pairwise(coming)), default=spec.jitter_us + 1)
    if spec.jitter_us >= gap:
        raise UsageError(
            f"the jitter of {spec.jitter_us / SECOND_US:g} s is not shorter than the interval of "
            f"{gap / SECOND_US:g} s"
        )


def times_after(spec: Spec, after_us: int, anchor_us: int) -> Iterator[int]:
    """The times of a schedule, without jitter, microseconds, in order.

    A local time that daylight saving skips is replaced by the end of the skipped hour, and one that
    comes twice counts once; with `*` in the field of the hour, each hour that passes counts.

    Args:
        spec: the schedule.
        after_us: times after this one.
        anchor_us: intervals count from here.

    Raises:
        UsageError: the cron expression or the time zone is invalid.
    """
    excluded = frozenset(spec.exclude)
    zone = _zone(spec.timezone)
    last_us = us_of(LAST)
    for at in _every(spec, after_us, anchor_us) if spec.every_us else _cron(spec.cron, zone, after_us):
        if at > last_us:
            return
        if excluded and moment_of(at).astimezone(zone).date().isoformat() in excluded:
            continue
        yield at


def next_time(spec: Spec, after_us: int, anchor_us: int) -> int:
    """The first time after this one, microseconds; 0: there is none."""
    return next(times_after(spec, after_us, anchor_us), 0)


def count_between(spec: Spec, first_us: int, last_us: int, anchor_us: int, limit: int) -> int:
    """The number of times from the first to the last moment, both included; counts to one more than
    the limit.
    """
    if spec.every_us and not spec.exclude:
        before = max(0, (first_us - 1 - anchor_us) // spec.every_us)
        return min(max(0, (last_us - anchor_us) // spec.every_us - before), limit + 1)
    count = 0
    for at in times_after(spec, first_us - 1, anchor_us):
        if at > last_us or count > limit:
            break
        count += 1
    return count


def jittered(spec: Spec, schedule: str, at_us: int) -> int:
    """When the run of a time is started: the same at each call."""
    if not spec.jitter_us:
        return at_us
    digest = blake2b(f"{schedule}/{at_us}".encode(), digest_size=8).digest()
    return at_us + int.from_bytes(digest) % (spec.jitter_us + 1)


def id_of(schedule: str, at_us: int) -> str:
    """The workflow id of the run of a time."""
    at = moment_of(at_us)
    precision = "microseconds" if at.microsecond else "seconds"
    return f"{schedule}-{at.isoformat(timespec=precision).removesuffix('+00:00')}Z"


def moment_of(at_us: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def us_of(at: datetime) -> int:
    """A datetime as microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def _every(spec: Spec, after_us: int, anchor_us: int) -> Iterator[int]:
    count = max(0, (after_us - anchor_us) // spec.every_us)
    while True:
        count += 1
        yield anchor_us + count * spec.every_us


def _cron(text: str, zone: ZoneInfo, after_us: int) -> Iterator[int]:
    if len(text.split()) != _FIELDS:
        raise UsageError(f'cannot read the cron expression {text!r}: it has five fields, such as "0 3 * * *"')
    try:
        times = CronSim(text, moment_of(max(after_us, 0)).astimezone(zone))
    except CronSimError as error:
        raise UsageError(f"cannot read the cron expression {text!r}: {error}") from None
    for at in times:
        yield us_of(at.astimezone(UTC))


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f'unknown time zone {name!r}; write one such as "Europe/Rome" or "UTC"') from None


def _first(times: Iterator[int], count: int) -> Iterator[int]:
    for _, at in zip(range(count), times, strict=False):
        yield at
