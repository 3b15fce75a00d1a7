"""Tasks: one dispatch of an activity on a queue; and which of them are no longer wanted."""

from __future__ import annotations

from msgspec import Struct


class Task(Struct, array_like=True, frozen=True, omit_defaults=True, gc=False):
    """One attempt of an activity, ready to run.

    Attributes:
        workflow_id: whose activity it is.
        run_id: the same.
        number: of the activity in the run, from 1.
        attempt: from 1.
        token: random; a report with another token is ignored.
        name: of the activity.
        queue: empty for a step.
        input: the arguments.
        timeout_us: for this attempt.
        idempotency_key: the same over all attempts.
        scheduled_at: microseconds.
        details: JSON of the last heartbeat of the attempt before; empty when there was none.
        workflow_type: empty when it is not known.
        trace: what it belongs to, as in `perdure.tracing`; empty when nobody traces.
        is_at_most_once: a worker has to claim it before it starts the function: `StartActivity`,
            which `Cancellation.tokens` answers.
        is_unknown: an attempt before may have had its effect: the outcome is looked up first.
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


class Cancellation(Struct, array_like=True, frozen=True, gc=False):
    """Attempts that are to stop, wherever they run.

    Attributes:
        tokens: of the attempts. One with a space and a claimant after it (`claim_text`) says whose
            the attempt is: that worker may start it, every other one is to leave it alone.
    """

    tokens: tuple[str, ...]


def claim_text(token: str, claimant: str) -> str:
    """That a claimant has this attempt, among tokens of attempts that are to stop."""
    return f"{token} {claimant}"


def claim_of(token: str) -> tuple[str, str] | None:
    """The token and the claimant that a text of `claim_text` says; None: it is a token alone."""
    found, space, claimant = token.partition(" ")
    return (found, claimant) if space else None


def blocked_worker(name: str, trouble: str) -> str:
    """The worker name in an ActivityStarted whose attempt blocks the worker's loop.

    Args:
        name: the worker's.
        trouble: what holds it up.
    """
    return f"{name} ({trouble})"


def trouble_of_worker(worker: str) -> str:
    """The trouble that blocks a worker's loop, from its name in an ActivityStarted; empty: none."""
    return worker.partition(" (")[2].removesuffix(")")
