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


class Cancellation(Struct, array_like=True, frozen=True, gc=False):
    """Attempts that are to stop, wherever they run.

    Attributes:
        tokens: of the attempts.
    """

    tokens: tuple[str, ...]


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
