"""When the next attempt begins, and when there is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import activity, errors
from perdure.authoring.retry import policy_of
from perdure.codec.failures import info_of
from perdure.core.machine import Stamp
from perdure.core.machines.activity import after_failure
from perdure.core.state import ActivityState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FAILURE_BYTES, FailureInfo, size_of
from perdure.model.options import ActivityOptions, RetryPolicy, interval_us
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven


def after(policy: RetryPolicy, failure: FailureInfo = BROKEN, attempt: int = 1, at: int = NOW) -> ev.Event:
    state = ActivityState(ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(retry=policy), "t"), NOW)
    state.attempt = attempt
    return after_failure(state, failure, Stamp(at, lambda: "next"), timed_out=False)


def is_retried(policy: RetryPolicy, failure: FailureInfo = BROKEN, attempt: int = 1, at: int = NOW) -> bool:
    return isinstance(after(policy, failure, attempt, at), ev.ActivityAttemptFailed)


def test_by_default_one_second_then_twice_as_long_up_to_a_hundred_times_the_first() -> None:
    seconds = [interval_us(policy_of(activity.Retry()), attempt, -1) / SECOND for attempt in range(1, 11)]
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]


def test_by_default_there_is_no_last_attempt() -> None:
    assert is_retried(RetryPolicy(), attempt=10**9, at=NOW + 10**15)


@given(st.integers(0, 10**12), st.floats(1, 1e300), st.integers(0, 10**15), st.integers(1, 10**9))
def test_no_interval_is_longer_than_the_longest_or_negative(
    first: int, coefficient: float, longest: int, attempt: int
) -> None:
    policy = RetryPolicy(first, coefficient, longest)
    assert 0 <= interval_us(policy, attempt, -1) <= longest
    assert interval_us(policy, attempt, -1) <= interval_us(policy, attempt + 1, -1)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_first_interval_of_zero_stays_zero(longest: int, attempt: int) -> None:
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


@pytest.mark.parametrize("kind", ["UsageError", "PayloadError", "NotAwaited"])
@pytest.mark.parametrize(
    "policy", [RetryPolicy(), RetryPolicy(maximum_attempts=1), RetryPolicy(give_up_after_us=SECOND)]
)
@pytest.mark.parametrize(("attempt", "pause_s"), [(1, 60), (2, 120), (6, 1_920), (7, 3_600), (1_000, 3_600)])
def test_a_mistake_never_ends_an_activity_and_is_repeated_after_a_minute_then_ever_more_rarely(
    kind: str, policy: RetryPolicy, attempt: int, pause_s: int
) -> None:
    event = after(policy, FailureInfo(f"perdure.errors:{kind}", is_final=True), attempt=attempt)
    assert isinstance(event, ev.ActivityAttemptFailed)
    assert event.retry_at == NOW + pause_s * SECOND


def test_a_mistake_excluded_from_retries_ends_the_activity() -> None:
    policy = policy_of(activity.Retry(never=(errors.PayloadError,)))
    assert not is_retried(policy, info_of(errors.PayloadError("no")))


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
def test_never_is_by_class_and_base_class_below_exception(
    never: tuple[type[Exception], ...], retried: bool
) -> None:
    policy = policy_of(activity.Retry(never=never))
    assert is_retried(policy, info_of(ConnectionRefusedError("no"))) is retried


@pytest.mark.parametrize(
    ("passed_us", "retried"), [(0, True), (9 * SECOND - 1, True), (9 * SECOND, False), (20 * SECOND, False)]
)
def test_an_attempt_that_would_begin_at_give_up_after_or_later_is_not_made(
    passed_us: int, retried: bool
) -> None:
    assert is_retried(RetryPolicy(give_up_after_us=10 * SECOND), at=NOW + passed_us) is retried


def test_the_last_failure_has_the_number_of_attempts() -> None:
    event = after(RetryPolicy(maximum_attempts=3), attempt=3)
    assert isinstance(event, ev.ActivityFailed)
    assert (event.attempts, event.failure, event.timed_out) == (3, BROKEN, False)


def fail(run: Driven, failure: FailureInfo) -> Any:
    token = run.state.activities[1].token
    (event,) = run.events(cm.FailActivity, number=1, token=token, failure=failure)
    if isinstance(event, ev.ActivityAttemptFailed):
        run.at = event.retry_at
        run.events(cm.RetryActivity, number=1)
    return event


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.schedule()
    return driven


def test_a_failure_that_repeats_itself_is_recorded_once(run: Driven) -> None:
    other = FailureInfo("builtins:OSError", "disk")
    events = [fail(run, each) for each in (BROKEN, BROKEN, BROKEN, other, BROKEN, BROKEN)]
    assert [event.same_as for event in events] == [0, 1, 1, 0, 0, 5]
    assert events[1].failure == FailureInfo(BROKEN.type)
    assert (run.state.activities[1].failure, run.state.activities[1].failed) == (BROKEN, 5)


def test_the_last_failure_is_recorded_in_full_even_where_it_repeats_itself() -> None:
    run = Driven()
    run.schedule(maximum_attempts=3)
    events = [fail(run, BROKEN) for _ in range(3)]
    assert (type(events[-1]), events[-1].failure) == (ev.ActivityFailed, BROKEN)


def test_a_week_of_failures_that_all_differ_takes_a_kilobyte_an_attempt(run: Driven) -> None:
    sizes: list[int] = []
    while run.at < NOW + 7 * 24 * 3600 * SECOND:
        failure = FailureInfo("app:Broken", f"{run.at} {'x' * 30_000}", b"y" * 30_000, traceback="z" * 30_000)
        sizes.append(len(msgspec.msgpack.encode(fail(run, failure))))
    assert len(sizes) > 6_000
    assert max(sizes) < FAILURE_BYTES + 100
    assert sum(sizes) < 10 * FAILURE_BYTES + 1_100 * len(sizes)


def test_a_week_of_one_failure_takes_a_hundred_bytes_an_attempt(run: Driven) -> None:
    failure = FailureInfo("app:Broken", "x" * 30_000, b"y" * 30_000, traceback="z" * 30_000)
    assert (
        sum(len(msgspec.msgpack.encode(fail(run, failure))) for _ in range(6_000))
        < FAILURE_BYTES + 100 * 6_000
    )


def test_a_report_of_a_worker_that_cuts_nothing_is_cut_when_it_is_recorded(run: Driven) -> None:
    event = fail(run, FailureInfo("app:Declined", "x" * 900_000, is_final=True))
    assert isinstance(event, ev.ActivityFailed)
    assert size_of(event.failure) <= FAILURE_BYTES


def test_a_group_with_a_member_that_is_never_retried_is_not_retried() -> None:
    inner = FailureInfo("app:Odd", bases=("builtins:LookupError",))
    group = FailureInfo(
        "builtins:ExceptionGroup",
        exceptions=(BROKEN, FailureInfo("builtins:ExceptionGroup", exceptions=(inner,))),
    )
    assert is_retried(RetryPolicy(), group)
    assert not is_retried(RetryPolicy(never=("builtins:LookupError",)), group)
    mistake = FailureInfo("perdure.errors:UsageError")
    assert not is_retried(RetryPolicy(), FailureInfo("builtins:ExceptionGroup", exceptions=(BROKEN, mistake)))
