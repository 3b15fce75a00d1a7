"""Options that travel with commands and events."""

from __future__ import annotations

from msgspec import Struct

from perdure.model.duration import LONGEST_US

DEFAULT_QUEUE = "default"


class RetryPolicy(Struct, array_like=True, frozen=True, omit_defaults=True):
    """Retry policy of an activity.

    Attributes:
        first_interval_us: between the first attempt's failure and the second attempt.
        coefficient: each interval is the previous one times this.
        maximum_interval_us: no interval is longer.
        maximum_attempts: 0 for no limit.
        give_up_after_us: the limit on all attempts together, including the waits; 0 for no limit.
        never: exception types that are not retried, each as `module:QualName`.
    """

    first_interval_us: int = 1_000_000
    coefficient: float = 2.0
    maximum_interval_us: int = 100_000_000
    maximum_attempts: int = 0
    give_up_after_us: int = 0
    never: tuple[str, ...] = ()


class ActivityOptions(Struct, array_like=True, frozen=True, omit_defaults=True):
    """Options of one activity call.

    Attributes:
        queue: the task queue; empty for a step, which runs in the engine's process.
        timeout_us: the limit on one attempt.
        retry: when attempts are repeated.
        idempotency_key: the same for all attempts; empty: the engine makes one from run and number.
        summary: one line for people.
        use: for an inline step, the number of times that the run has used its name, including this
            call; 0: the function is registered.
        at_most_once: its function is not started a second time while the outcome of the first is
            unknown.
        on_cancel: what a cancelled wait for it does: `ask` asks it to stop and continues, `wait`
            asks it and waits for its end, `abandon` leaves it alone.
        heartbeat_timeout_us: the longest time between two heartbeats of its function; 0: it need
            not send any.
        when_exhausted: what happens when no attempt is left: `fail` the activity, or `pause` the
            run, and let an operator decide.
    """

    queue: str = DEFAULT_QUEUE
    timeout_us: int = 60_000_000
    retry: RetryPolicy = RetryPolicy()
    idempotency_key: str = ""
    summary: str = ""
    use: int = 0
    at_most_once: bool = False
    on_cancel: str = "ask"
    heartbeat_timeout_us: int = 0
    when_exhausted: str = "fail"

    @property
    def is_step(self) -> bool:
        """Whether it is a step, which the engine runs itself."""
        return not self.queue


def interval_us(policy: RetryPolicy, attempt: int, retry_after_us: int) -> int:
    """Delay after the failure of attempt `attempt` (from 1), microseconds.

    The delay that the error asked for, if it did; else exponential back-off with a cap.
    """
    if retry_after_us >= 0:
        return min(retry_after_us, LONGEST_US)
    if not policy.first_interval_us:
        return 0
    try:
        return int(
            min(policy.first_interval_us * policy.coefficient ** (attempt - 1), policy.maximum_interval_us)
        )
    except OverflowError:  # the power is too large for a float: the cap was reached long before
        return policy.maximum_interval_us
