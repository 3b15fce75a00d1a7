"""Tasks, each one dispatch of an activity, and cancellations of tasks."""

from __future__ import annotations

from msgspec import Struct


class Task(Struct, array_like=True, frozen=True, omit_defaults=True, gc=False):
    """One attempt of an activity, ready to run.

    Attributes:
        workflow_id: the workflow that called the activity.
        run_id: its run.
        number: the activity's number in the run, from 1.
        attempt: from 1.
        token: random; a report with another token is ignored.
        name: the activity's name.
        queue: empty for a step.
        input: the arguments.
        timeout_us: the timeout of this attempt.
        idempotency_key: the same for all attempts.
        scheduled_at: microseconds.
        details: JSON of the previous attempt's last heartbeat; empty when there was none.
        workflow_type: empty when it is not known.
        trace: its trace, as in `perdure.tracing`; empty without tracing.
        is_at_most_once: a worker has to claim it before it starts the function: `StartActivity`,
            which `Cancellation.tokens` answers.
        is_unknown: a previous attempt may have taken effect: look the outcome up first.
        context: the run's, as in `perdure.context`; empty when it has none.
        reports_stop: the run waits for the end of an attempt that is asked to stop.
        heartbeat_timeout_us: the longest time between two heartbeats of the function; 0: it need
            not send any.
    """

    workflow_id: str
    run_id: str
    number: int
    attempt: int
    token: str
    name: str
    queue: str
    input: bytes
    timeout_us: int
    idempotency_key: str
    scheduled_at: int
    details: bytes = b""
    workflow_type: str = ""
    trace: str = ""
    is_at_most_once: bool = False
    is_unknown: bool = False
    context: bytes = b""
    reports_stop: bool = False
    heartbeat_timeout_us: int = 0


class Cancellation(Struct, array_like=True, frozen=True, gc=False):
    """Attempts that must stop, wherever they run.

    Attributes:
        tokens: the tokens of the attempts. A token followed by a space and a claimant
            (`claim_text`) assigns the attempt: that worker may start it, all others must not.
    """

    tokens: tuple[str, ...]


def claim_text(token: str, claimant: str) -> str:
    """The text, among tokens of attempts that must stop, that assigns this attempt to a
    claimant.
    """
    return f"{token} {claimant}"


def claim_of(token: str) -> tuple[str, str] | None:
    """Parse a text of `claim_text` into token and claimant; None: it is only a token."""
    found, space, claimant = token.partition(" ")
    return (found, claimant) if space else None


def blocked_worker(name: str, trouble: str) -> str:
    """The worker name in the ActivityStarted of an attempt that blocks the worker's loop.

    Args:
        name: the worker's name.
        trouble: what blocks it.
    """
    return f"{name} ({trouble})"


def trouble_of_worker(worker: str) -> str:
    """The trouble that blocks a worker's loop, from its name in an ActivityStarted; empty: none."""
    return worker.partition(" (")[2].removesuffix(")")
