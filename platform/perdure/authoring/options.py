"""The recorded options of activities and steps."""

from __future__ import annotations

from typing import Any, Literal, get_args

from msgspec.structs import replace

from perdure.authoring.retry import Retry, policy_of
from perdure.errors import UsageError
from perdure.model.duration import microseconds
from perdure.model.limits import fault_of_id, fault_of_summary, is_unicode
from perdure.model.options import ActivityOptions, RetryPolicy

OnCancel = Literal["ask", "wait", "abandon"]
"""What a cancelled wait for an activity does: ask it to stop and continue; ask it and wait for its
end; leave it alone."""


def compiled(given: dict[str, Any], base: ActivityOptions) -> ActivityOptions:
    """Convert options to their recorded form.

    Args:
        given: the options of the decorator or the call.
        base: the values of those that are not given.

    Raises:
        UsageError: an option has an invalid value.
    """
    retry, queue = given.get("retry"), given.get("queue")
    if retry is not None and not isinstance(retry, Retry):
        raise UsageError(f"retry must be an activity.Retry, not {retry!r}.")
    if "timeout" in given and not microseconds(given["timeout"]):
        raise UsageError("timeout must be positive.")
    if queue is not None:
        if base.is_step:
            raise UsageError("a step runs in the engine's process: it has no queue.")
        queue = valid(queue, "queue")
    on_cancel = given.get("on_cancel", base.on_cancel)
    if on_cancel not in get_args(OnCancel):
        raise UsageError(f'on_cancel must be "ask", "wait" or "abandon", not {on_cancel!r}.')
    if "heartbeat_timeout" in given and not microseconds(given["heartbeat_timeout"]):
        raise UsageError("heartbeat_timeout must be positive.")
    if "idempotency_key" in given:
        key = given["idempotency_key"]
        if not isinstance(key, str):
            raise UsageError(f"idempotency_key must be text, not {key!r}.")
        if not is_unicode(key):
            raise UsageError(f"idempotency_key {key!r} is not valid Unicode.")
    if "summary" in given and (fault := fault_of_summary(given["summary"])):
        raise UsageError(f"{fault}.")
    return replace(
        base,
        queue=base.queue if queue is None else queue,
        timeout_us=microseconds(given["timeout"]) if "timeout" in given else base.timeout_us,
        retry=base.retry if retry is None else policy_of(retry),
        when_exhausted=base.when_exhausted if retry is None else retry.when_exhausted,
        idempotency_key=given.get("idempotency_key", base.idempotency_key),
        summary=given.get("summary", base.summary),
        on_cancel=on_cancel,
        heartbeat_timeout_us=microseconds(given["heartbeat_timeout"])
        if "heartbeat_timeout" in given
        else base.heartbeat_timeout_us,
    )


def guarded(base: ActivityOptions, reconcile: object, *, at_most_once: object) -> ActivityOptions:
    """Options that say whether a function may be run again after an interrupted attempt.

    Args:
        base: the other options.
        reconcile: looks up the outcome of an interrupted attempt; None: there is no way to look it
            up.
        at_most_once: do not run it again while its outcome is unknown. The default is then one
            attempt, unless `retry` is given.

    Raises:
        UsageError: the combination is invalid.
    """
    if not isinstance(at_most_once, bool):
        raise UsageError(f"at_most_once must be True or False, not {at_most_once!r}.")
    if reconcile is not None and not callable(reconcile):
        raise UsageError(f"reconcile must be a function, not {reconcile!r}.")
    if not at_most_once:
        if reconcile is not None:
            raise UsageError("reconcile needs at_most_once=True.")
        return base
    return replace(base, retry=RetryPolicy(maximum_attempts=1), at_most_once=True)


def valid(given: object, what: str) -> str:
    """The id, if it is valid.

    Raises:
        UsageError: it is empty, too long, or cannot be encoded.
    """
    if fault := fault_of_id(given, what):
        raise UsageError(fault)
    return str(given)
