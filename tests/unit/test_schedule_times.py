"""The times of schedules, through daylight saving and at their limits."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from perdure.builtin.schedule_times import Spec, count_between, id_of, jittered, moment_of, times_after, us_of

ROME = "Europe/Rome"


def times(spec: Spec, after: datetime, count: int) -> list[str]:
    found = islice(times_after(spec, us_of(after), us_of(after)), count)
    return [f"{moment_of(each):%d %H:%M}" for each in found]


def test_a_skipped_time_runs_once_at_the_end_of_the_gap() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert times(Spec("t", cron="30 2 * * *", timezone=ROME), before, 3) == [
        "29 01:00",
        "30 00:30",
        "31 00:30",
    ]


def test_a_repeated_time_runs_once_the_first_time() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert times(Spec("t", cron="30 2 * * *", timezone=ROME), before, 2) == ["25 00:30", "26 01:30"]


def test_each_hour_that_passes_counts_where_the_hour_is_a_star() -> None:
    before = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert times(Spec("t", cron="0 * * * *", timezone=ROME), before, 3) == [
        "25 00:00",
        "25 01:00",
        "25 02:00",
    ]


def test_excluded_days_are_those_of_the_time_zone() -> None:
    before = datetime(2026, 12, 23, 12, tzinfo=UTC)
    spec = Spec("t", cron="30 0 * * *", timezone=ROME, exclude=["2026-12-25"])
    assert times(spec, before, 2) == ["23 23:30", "25 23:30"]


def test_intervals_count_from_the_anchor() -> None:
    spec = Spec("t", every_us=10)
    assert list(islice(times_after(spec, 25, 3), 3)) == [33, 43, 53]
    assert list(islice(times_after(spec, 33, 3), 1)) == [43]


@pytest.mark.parametrize(
    ("first", "last", "count"), [(13, 33, 3), (14, 33, 2), (13, 12, 0), (0, 13, 1), (0, 10**9, 11)]
)
def test_intervals_are_counted_up_to_one_more_than_the_limit(first: int, last: int, count: int) -> None:
    assert count_between(Spec("t", every_us=10), first, last, 3, 10) == count


def test_the_jitter_of_a_time_is_always_the_same_and_within_its_limit() -> None:
    spec = Spec("t", every_us=10**9, jitter_us=1_000)
    found = [jittered(spec, "s", at) - at for at in range(0, 100_000, 1_000)]
    assert found == [jittered(spec, "s", at) - at for at in range(0, 100_000, 1_000)]
    assert 0 <= min(found) < max(found) <= 1_000
    assert len(set(found)) > 50


def test_the_id_of_a_run_has_its_time() -> None:
    assert id_of("s", us_of(datetime(2026, 12, 1, 2, tzinfo=UTC))) == "s-2026-12-01T02:00:00Z"
    assert id_of("s", 1) == "s-1970-01-01T00:00:00.000001Z"
