"""When the next attempt begins, and when there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import activity, errors
from perdure._retry import policy_of
from perdure.codec.failures import info_of
from perdure.core.activity import ActivityState, after_failure, interval_us
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from tests.unit.core.driven import BROKEN, NOW, SECOND


def after(policy: RetryPolicy, failure: FailureInfo = BROKEN, attempt: int = 1, at: int = NOW) -> ev.Event:
    state = ActivityState(ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(retry=policy), "t"), NOW)
    state.attempt = attempt
    return after_failure(state, failure, at, timed_out=False, token="next")


def is_retried(policy: RetryPolicy, failure: FailureInfo = BROKEN, attempt: int = 1, at: int = NOW) -> bool:
    return isinstance(after(policy, failure, attempt, at), ev.ActivityAttemptFailed)


def test_by_default_one_second_then_twice_as_long_up_to_a_hundred_times_the_first() -> None:
    seconds = [interval_us(policy_of(activity.Retry()), attempt, -1) / SECOND for attempt in range(1, 11)]
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]


def test_by_default_there_is_no_last_attempt() -> None:
    assert is_retried(RetryPolicy(), attempt=10**9, at=NOW + 10**15)


@given(st.integers(0, 10**12), st.floats(1, 1e300), st.integers(0, 10**15), st.integers(1, 10**9))
def test_no_interval_is_longer_than_the_longest_or_negative(first: int, coefficient: float, longest: int, attempt: int) -> None:
    policy = RetryPolicy(first, coefficient, longest)
    assert 0 <= interval_us(policy, attempt, -1) <= longest
    assert interval_us(policy, attempt, -1) <= interval_us(policy, attempt + 1, -1)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_first_interval_of_nothing_stays_nothing(longest: int, attempt: int) -> None:
    assert interval_us(RetryPolicy(0, 2.0, longest), attempt, -1) == 0


@pytest.mark.parametrize("asked", [0, 45 * SECOND, 10**15])
def test_the_delay_that_the_error_asks_for_counts_even_over_the_cap(asked: int) -> None:
    assert interval_us(RetryPolicy(), 3, asked) == asked


def test_retry_after_asks_for_a_delay() -> None:
    assert info_of(errors.RetryAfter("45s")).retry_after_us == 45 * SECOND


@pytest.mark.parametrize(("attempt", "retried"), [(1, True), (2, True), (3, False), (4, False)])
def test_maximum_attempts_counts_the_first(attempt: int, retried: bool) -> None:
    assert is_retried(RetryPolicy(maximum_attempts=3), attempt=attempt) is retried


def test_a_failure_is_final() -> None:
    assert not is_retried(RetryPolicy(), FailureInfo("app:CardDeclined", is_final=True))


@pytest.mark.parametrize("kind", ["UsageError", "PayloadError"])
def test_the_authors_mistakes_are_final(kind: str) -> None:
    assert not is_retried(RetryPolicy(), FailureInfo(f"perdure.errors:{kind}"))


@pytest.mark.parametrize(
    ("never", "retried"),
    [
        ((ConnectionError,), False),
        ((OSError,), False),
        ((Exception,), True),
        ((LookupError,), True),
        ((LookupError, ConnectionRefusedError), False),
        ((BrokenPipeError,), True),
    ],
)
def test_never_is_by_class_and_base_class_below_exception(never: tuple[type[Exception], ...], retried: bool) -> None:
    policy = policy_of(activity.Retry(never=never))
    assert is_retried(policy, info_of(ConnectionRefusedError("no"))) is retried


@pytest.mark.parametrize(("passed_us", "retried"), [(0, True), (9 * SECOND - 1, True), (9 * SECOND, False), (20 * SECOND, False)])
def test_an_attempt_that_would_begin_at_give_up_after_or_later_is_not_made(passed_us: int, retried: bool) -> None:
    assert is_retried(RetryPolicy(give_up_after_us=10 * SECOND), at=NOW + passed_us) is retried


def test_the_last_failure_tells_how_many_attempts_there_were() -> None:
    event = after(RetryPolicy(maximum_attempts=3), attempt=3)
    assert isinstance(event, ev.ActivityFailed)
    assert (event.attempts, event.failure, event.timed_out) == (3, BROKEN, False)
