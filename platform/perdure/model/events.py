"""Events: the recorded facts of a run, past tense, `event_id` gapless from 1, never edited.

New fields go to the end and have a default; a field is never removed or given another meaning. A
record holds all the events of one run in one batch, with the hash of the previous record.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from perdure.model.dead_letters import RecordHeader
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions


class Event(Struct, array_like=True, frozen=True, tag=True, tag_field="kind", omit_defaults=True, gc=False):
    """The base of all events."""


class CarriedToken(Struct, array_like=True, frozen=True, omit_defaults=True, gc=False):
    """A named token of an earlier run, with the answer that its code has not taken yet.

    Its text stays what it was: `run_id` and `number` are those of the run that has issued it. At
    most one of `value` and `failure` (`model.failure.as_json`) is there; with neither the token is
    open.
    """

    name: str
    run_id: str
    number: int
    secret: str
    expires_at: int = 0
    is_public: bool = False
    value: bytes | None = None
    failure: bytes = b""


class CarriedRequest(Struct, array_like=True, frozen=True, gc=False):
    """A request that an earlier run has taken: `core.requests` has the kinds, and the identity of
    its content.
    """

    kind: str
    id: str
    content: int


class WorkflowStarted(Event, frozen=True):
    """`python` is the minor version (311, 312 …) the first activation ran on; `seed` feeds the
    run's random numbers; `trace` is that of the start, as in `perdure.tracing`; `flags` are the
    engine's rules that the run began under (`perdure.core.flags`); `parent` is the address of the
    workflow that it is a child of (`model.addresses.Workflow`), empty when it has none. A run that
    continues another has that one's id in `continued_from`, and the id of the first in
    `first_run_id`. `version` is that of the type; 0: the first one. `context` is that of the start,
    as in `perdure.context`; `memo` too, a payload, an object or empty. `tokens` and `requests` are
    those of the runs before that this one knows.
    """

    type: str
    input: bytes
    python: int
    seed: int
    request_id: str = ""
    timeout_us: int = 0
    attributes: bytes = b""
    delayed_until: int = 0
    trace: str = ""
    flags: int = 0
    parent: str = ""
    continued_from: str = ""
    first_run_id: str = ""
    version: int = 0
    context: bytes = b""
    tokens: tuple[CarriedToken, ...] = ()
    requests: tuple[CarriedRequest, ...] = ()
    memo: bytes = b""


class WorkflowBegun(Event, frozen=True):
    """The start delay has passed: the code runs from here."""


class WorkflowCompleted(Event, frozen=True):
    result: bytes


class WorkflowFailed(Event, frozen=True, gc=True):
    failure: FailureInfo


class WorkflowCancelled(Event, frozen=True):
    """The run ended because it was cancelled and let the cancellation through."""

    reason: str = ""


class WorkflowTerminated(Event, frozen=True):
    reason: str = ""
    request_id: str = ""


class WorkflowTimedOut(Event, frozen=True):
    """The run's own timeout passed."""


class WorkflowCancelRequested(Event, frozen=True):
    reason: str = ""
    request_id: str = ""


class WorkflowSuspended(Event, frozen=True):
    """The code could not be replayed to the end of the history, or would not stop; no data is lost.
    Ignored by replay.
    """

    reason: str


class WorkflowResumed(Event, frozen=True):
    """The code fits the history again. Ignored by replay."""


class SignalReceived(Event, frozen=True):
    name: str
    input: bytes
    request_id: str = ""


class ActivityScheduled(Event, frozen=True, gc=True):
    """`number` counts the run's activities from 1; `token` is the first attempt's."""

    number: int
    name: str
    input: bytes
    options: ActivityOptions
    token: str


class ActivityStarted(Event, frozen=True):
    """An attempt has run for longer than two seconds and is leased to `worker` from here."""

    number: int
    attempt: int
    worker: str


class ActivityDeclined(Event, frozen=True):
    """The worker that got the task does not know the activity; the task is dispatched again at
    `retry_at`, to find a worker that does.
    """

    number: int
    attempt: int
    reason: str
    retry_at: int


class ActivityAttemptFailed(Event, frozen=True, gc=True):
    """Another attempt follows at `retry_at`, under `token`. `same_as`: the attempt that failed in
    the same way; `failure` has only the type then. 0: none did.
    """

    number: int
    attempt: int
    failure: FailureInfo
    retry_at: int
    token: str
    same_as: int = 0


class ActivityRetried(Event, frozen=True):
    """The interval has passed: attempt `attempt` was dispatched, under the token of the failure
    before; or the same attempt again, which a worker had declined.
    """

    number: int
    attempt: int


class ActivityCompleted(Event, frozen=True):
    number: int
    result: bytes


class ActivityFailed(Event, frozen=True, gc=True):
    """No attempt follows. `timed_out`: the last attempt's time, or that of all attempts, was up."""

    number: int
    failure: FailureInfo
    attempts: int
    timed_out: bool = False


class ActivityCancelRequested(Event, frozen=True):
    """The code does not wait for the activity any more: an attempt that runs is asked to stop, no
    other follows.
    """

    number: int


class ActivityStopRequested(Event, frozen=True):
    """The code was cancelled and waits for the end of the activity: an attempt that runs is asked
    to stop, no other follows.
    """

    number: int


class ActivityCancelled(Event, frozen=True):
    """The activity that the code waits for has ended because it was asked to. `reason`: why it had
    no attempt that could say so; empty when one did.
    """

    number: int
    reason: str = ""


class ActivityAbandoned(Event, frozen=True):
    """The code no longer waits for the activity, which continues."""

    number: int


class TimerStarted(Event, frozen=True):
    """`number` counts the run's timers from 1; `summary` is one line for people."""

    number: int
    fires_at: int
    summary: str = ""


class TimerFired(Event, frozen=True):
    number: int


class TimerCancelled(Event, frozen=True):
    number: int


class CommandIgnored(Event, frozen=True):
    """A command came too late or a second time, and was not applied: ignored by replay. Or a signal
    that the code has no handler for, `replay.signals`: `command` names its event.
    """

    command: str
    reason: str


class RecordProduced(Event, frozen=True, gc=True):
    """The code has sent a record to one of your topics; it is written there together with this
    event. `number` counts the run's records from 1.
    """

    number: int
    topic: str
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[RecordHeader, ...] = ()


class AnswerPromised(Event, frozen=True):
    """A workflow waits for an answer, which is sent with the events that cause it. Ignored by
    replay.

    `subject` says what the answer is about; empty: how the run ends.
    """

    request_id: str
    reply_to: str
    subject: str = ""


class ChildRequested(Event, frozen=True):
    """The code has started a child; the start goes to its partition with this event, or a little
    later when many are started. `number` counts the run's children from 1.

    `on_close` says what happens to the child when this run closes: `cancel`, `terminate` or
    `abandon`; an abandoned child does not answer when it ends. Its code begins at `start_at`,
    microseconds since 1970; 0: immediately. `summary` is one line for people,
    `memo` that of the child's start.
    """

    number: int
    workflow_id: str
    type: str
    input: bytes
    on_close: str = "cancel"
    if_closed: str = "start"
    timeout_us: int = 0
    start_at: int = 0
    summary: str = ""
    memo: bytes = b""


class ChildStarted(Event, frozen=True):
    """`run_id` is the child's."""

    number: int
    run_id: str


class ChildRefused(Event, frozen=True):
    """The child was not started; `code` is a `replies.Refusal`."""

    number: int
    code: str
    message: str


class ChildCompleted(Event, frozen=True):
    number: int
    result: bytes


class ChildFailed(Event, frozen=True, gc=True):
    """The child ended without a result; `status` is its own: `failed`, `terminated`,
    `timed_out`.
    """

    number: int
    failure: FailureInfo | None = None
    status: str = "failed"
    reason: str = ""


class ChildCancelled(Event, frozen=True):
    """The child ended because it was cancelled."""

    number: int
    reason: str = ""


class ChildCancelRequested(Event, frozen=True):
    """The code has stopped waiting for the child, which is asked to stop; its end is still to
    come.
    """

    number: int


class MessageSent(Event, frozen=True):
    """The code has sent a message to another workflow, with this event. `number` counts the run's
    messages from 1; `what` is `signal`, `cancel`, `update`, `update_result`, or `result`, which
    asks how its run ends.
    """

    number: int
    what: str
    workflow_id: str
    name: str = ""
    input: bytes = b""


class MessageAnswered(Event, frozen=True, gc=True):
    """`outcome` is `accepted`, `refused` (then `code` and `message` say why), or the status in
    which the other run has closed.
    """

    number: int
    outcome: str
    result: bytes = b""
    failure: FailureInfo | None = None
    code: str = ""
    message: str = ""


class PatchApplied(Event, frozen=True):
    """The code has asked for this patch for the first time, when it was not replaying: the run
    takes its new branch, here and later.
    """

    id: str


class AttributesSet(Event, frozen=True):
    """The code has set attributes of its run. `values` is JSON of an object: those that change;
    null removes one. `number` counts the run's sets from 1.
    """

    number: int
    values: bytes


class WorkflowContinued(Event, frozen=True):
    """The run has ended, and another one of the same workflow id continues its work, with these
    arguments; it starts in the same batch.
    """

    input: bytes
    next_run_id: str


class UpdateAccepted(Event, frozen=True):
    """The validator has agreed; the handler begins. `number` counts the run's updates from 1; `id`
    is that of the request, or the number as text.
    """

    number: int
    id: str
    name: str
    input: bytes


class UpdateCompleted(Event, frozen=True):
    number: int
    result: bytes


class UpdateFailed(Event, frozen=True, gc=True):
    """The handler raised; the run continues."""

    number: int
    failure: FailureInfo


class TokenIssued(Event, frozen=True):
    """The code has issued a token, whose text (`model.tokens`) may be sent to others. `number`
    counts the run's tokens from 1, after those of earlier runs; `expires_at` is 0 for a token that
    has no timeout; `name` is empty for one that ends with its run.
    """

    number: int
    secret: str
    expires_at: int = 0
    is_public: bool = False
    name: str = ""


class TokenResolved(Event, frozen=True):
    """The token was answered with this value."""

    number: int
    value: bytes


class TokenFailed(Event, frozen=True, gc=True):
    """The token was answered with a failure."""

    number: int
    failure: FailureInfo


class TokenExpired(Event, frozen=True):
    """The token was not answered in time."""

    number: int


class ActivityDeferred(Event, frozen=True):
    """The function of an attempt has returned without a result; the result comes from outside,
    under the attempt's token, until `expires_at`.
    """

    number: int
    attempt: int
    expires_at: int


class CompensationAttemptFailed(Event, frozen=True, gc=True):
    """A saga could not undo a step; the compensation is called again at `retry_at`. `number` counts
    the run's compensations from 1. One that succeeds the first time leaves no event.
    """

    number: int
    name: str
    attempt: int
    failure: FailureInfo
    retry_at: int


class CompensationCompleted(Event, frozen=True):
    """One that had failed before has succeeded."""

    number: int


class CompensationFailed(Event, frozen=True, gc=True):
    """The step is not undone, and the saga has continued without that."""

    number: int
    name: str
    failure: FailureInfo
    attempts: int


class DetailsSet(Event, frozen=True):
    """The code has said something else about its run, for operators: Markdown; empty: nothing.
    Ignored by replay.
    """

    text: str


class WorkflowPaused(Event, frozen=True):
    """The code does not run from here, until the run is unpaused. `by` is who has paused it, empty:
    the activity `number`, whose attempts are exhausted. `has_begun`: the code had begun.
    """

    by: str = ""
    reason: str = ""
    request_id: str = ""
    number: int = 0
    has_begun: bool = True


class WorkflowUnpaused(Event, frozen=True):
    """The run may continue. `WorkflowResumed` follows when its code has seen what it missed.
    Ignored by replay.
    """

    by: str = ""
    reason: str = ""
    request_id: str = ""


class ActivityExhausted(Event, frozen=True, gc=True):
    """No attempt follows without an operator, who decides. `token` is that of the attempt that the
    operator may order; `timed_out` as of `ActivityFailed`.
    """

    number: int
    failure: FailureInfo
    attempt: int
    token: str
    timed_out: bool = False


class ActivityOverridden(Event, frozen=True):
    """An operator has decided about an activity. What follows from it is the next event.

    `decision` is `retry`, `complete` or `fail`; `by` is who decided. The other fields are of a
    retry: the token of the next attempt, and options that change (0 or empty: as before).
    """

    number: int
    decision: str
    by: str = ""
    reason: str = ""
    request_id: str = ""
    token: str = ""
    timeout_us: int = 0
    maximum_attempts: int = 0
    queue: str = ""


AnyEvent = (
    WorkflowStarted
    | WorkflowBegun
    | WorkflowCompleted
    | WorkflowFailed
    | WorkflowCancelled
    | WorkflowTerminated
    | WorkflowTimedOut
    | WorkflowCancelRequested
    | WorkflowSuspended
    | WorkflowResumed
    | SignalReceived
    | ActivityScheduled
    | ActivityStarted
    | ActivityDeclined
    | ActivityAttemptFailed
    | ActivityRetried
    | ActivityCompleted
    | ActivityFailed
    | ActivityCancelRequested
    | TimerStarted
    | TimerFired
    | TimerCancelled
    | CommandIgnored
    | RecordProduced
    | AnswerPromised
    | ChildRequested
    | ChildStarted
    | ChildRefused
    | ChildCompleted
    | ChildFailed
    | ChildCancelled
    | ChildCancelRequested
    | MessageSent
    | MessageAnswered
    | PatchApplied
    | WorkflowContinued
    | UpdateAccepted
    | UpdateCompleted
    | UpdateFailed
    | TokenIssued
    | TokenResolved
    | TokenFailed
    | TokenExpired
    | ActivityDeferred
    | AttributesSet
    | ActivityStopRequested
    | ActivityCancelled
    | ActivityAbandoned
    | CompensationAttemptFailed
    | CompensationCompleted
    | CompensationFailed
    | DetailsSet
    | WorkflowPaused
    | WorkflowUnpaused
    | ActivityExhausted
    | ActivityOverridden
)

TERMINAL: Final = (
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
    WorkflowTerminated,
    WorkflowTimedOut,
    WorkflowContinued,
)
"""A history has at most one of these, and it is the last event."""


class EventRecord(Struct, array_like=True, frozen=True):
    """The events of one batch in one run.

    Attributes:
        workflow_id: the address of the run.
        run_id: the run.
        first_event_id: the id of `events[0]`; the others follow without a gap.
        at: when the batch was stamped, microseconds.
        input_partition: the partition of the last command; -1 when that did not come through the
            log.
        input_offset: the offset of that command.
        previous_hash: the hash of the previous record, 16 bytes; empty for the first.
        events: at least one.
    """

    workflow_id: str
    run_id: str
    first_event_id: int
    at: int
    input_partition: int
    input_offset: int
    previous_hash: bytes
    events: list[AnyEvent]

    @property
    def last_event_id(self) -> int:
        """The id of the last event in the record."""
        return self.first_event_id + len(self.events) - 1
