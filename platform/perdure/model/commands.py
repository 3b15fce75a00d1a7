"""Commands: requests to a workflow, named in the imperative. A command may be refused.

Everything that happens to a run arrives as a command, including the engine's own news (a timer is
due, a step has ended): there is no other way into a run.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from perdure.model.failure import FailureInfo

IfRunning = Literal["refuse", "attach", "terminate"]
IfClosed = Literal["start", "refuse", "after_failure"]


class Command(Struct, array_like=True, frozen=True, tag=True, tag_field="kind", omit_defaults=True, gc=False):
    """The base of all commands.

    Attributes:
        workflow_id: the addressed workflow.
        run_id: address only this run; empty: the current run.
    """

    workflow_id: str
    run_id: str = ""


class Request(Command, frozen=True):
    """A command that is answered with a reply.

    Attributes:
        request_id: chosen by the caller; a repeated command with the same id acts once and gets the
            same answer.
        reply_to: address of the reply; empty: no client waits.
    """

    request_id: str = ""
    reply_to: str = ""


class Change(Request, frozen=True):
    """A request that changes something, unless it is refused. A refusal that no client can receive
    becomes a dead letter.
    """


class StartWorkflow(Change, frozen=True, kw_only=True):
    """`input` is recorded; `attributes` is JSON of an object, or empty; `trace` as in
    `perdure.tracing`. With a `signal_name` it is signal-with-start: the run that was started, or
    that was open and is attached to, gets the signal, in the same command. With an `update_name`
    it is update-with-start, and the answer is that to the update. `context` is JSON of an
    object, or empty, as in `perdure.context`. The code begins after `delay_us`, or at `start_at`
    (microseconds since 1970; 0: now), whichever is later. `memo` is a payload, an object; empty:
    none.
    """

    type: str
    input: bytes = b"[]"
    if_running: IfRunning = "refuse"
    if_closed: IfClosed = "start"
    delay_us: int = 0
    timeout_us: int = 0
    attributes: bytes = b""
    trace: str = ""
    signal_name: str = ""
    signal_input: bytes = b"[]"
    update_name: str = ""
    update_input: bytes = b"[]"
    context: bytes = b""
    start_at: int = 0
    memo: bytes = b""


class SignalWorkflow(Change, frozen=True, kw_only=True):
    name: str
    input: bytes = b"[]"
    trace: str = ""


class QueryWorkflow(Request, frozen=True, kw_only=True):
    """A read of the live run; leaves no event."""

    name: str
    input: bytes = b"[]"


class AwaitWorkflow(Request, frozen=True):
    """Answered when the run has closed, immediately if it has. Leaves no event; repeated after an
    engine restart.

    With an `update_id` it is answered when that update has ended.
    """

    update_id: str = ""


class ReadHistory(Request, frozen=True, kw_only=True):
    """A page of the history of the run, from the record that holds this event. Leaves no event."""

    from_event_id: int = 1


class UpdateWorkflow(Change, frozen=True, kw_only=True):
    """A write with an answer; accepted once the validator has agreed. `AwaitWorkflow` with its
    request id as `update_id` asks for the answer.
    """

    name: str
    input: bytes = b"[]"
    trace: str = ""


class CancelWorkflow(Change, frozen=True, kw_only=True):
    """`started_by`: only the run that the start with this request id has led to; empty: whichever
    run it is.
    """

    reason: str = ""
    started_by: str = ""


class TerminateWorkflow(Change, frozen=True, kw_only=True):
    """`started_by` as of `CancelWorkflow`."""

    reason: str = ""
    started_by: str = ""


class DeleteWorkflow(Change, frozen=True, kw_only=True):
    """Remove a closed run with all its records; without a run id, all runs of the workflow, which
    must be closed.
    """

    reason: str = ""


class CompleteActivity(Command, frozen=True, kw_only=True):
    """A worker's report; ignored unless `token` is the attempt's."""

    number: int
    token: str
    result: bytes = b"null"


class FailActivity(Command, frozen=True, kw_only=True, gc=True):
    number: int
    token: str
    failure: FailureInfo
    timed_out: bool = False


class StartActivity(Command, frozen=True, kw_only=True):
    """The attempt has run for over two seconds: it is leased from now on and must send
    heartbeats.
    """

    number: int
    token: str
    worker: str


class DeclineActivity(Command, frozen=True, kw_only=True):
    """The worker does not know the activity. The attempt is still out: another worker, or the same
    one with other code, may take it.
    """

    number: int
    token: str
    reason: str


class HeartbeatActivity(Command, frozen=True, kw_only=True):
    """Renews the lease. `details` is JSON for the next attempt. Leaves no event."""

    number: int
    token: str
    details: bytes = b""


class DeferActivity(Command, frozen=True, kw_only=True):
    """The function has returned without a result, which comes later from outside, under the
    attempt's token text (`model.tokens.of_attempt`). `ran_us` is how long the function ran.
    """

    number: int
    token: str
    ran_us: int = 0


class ExpireAnswer(Command, frozen=True, kw_only=True):
    """The time of an attempt that waits for its result from outside is up."""

    number: int


class WriteStream(Command, frozen=True, kw_only=True):
    """Values that an attempt writes to a stream. Leaves no event; dropped unless `token` is that of
    the current attempt.

    `first` is the number of the first one among the attempt's values of the stream, from 1.
    """

    number: int
    token: str
    name: str
    first: int
    values: tuple[bytes, ...]


class FireTimer(Command, frozen=True, kw_only=True):
    """A timer of the code is due."""

    number: int


class RetryActivity(Command, frozen=True, kw_only=True):
    """The interval after a failed attempt has passed."""

    number: int


class ExpireActivity(Command, frozen=True, kw_only=True):
    """`give_up_after` has passed since the activity was scheduled."""

    number: int


class ExpireLease(Command, frozen=True, kw_only=True):
    """No heartbeat of a leased attempt for a whole lease."""

    number: int
    token: str


class ExpireWorkflow(Command, frozen=True):
    """The run's own timeout has passed."""


class BeginWorkflow(Command, frozen=True):
    """The start delay has passed."""


class ResumeWorkflow(Command, frozen=True):
    """The engine has started, perhaps with other code: try to resume a suspended run, or check that
    a running one can be replayed.
    """


class Answer(Command, frozen=True, kw_only=True, gc=True):
    """The answer to a request of the run.

    Attributes:
        number: the number of the request.
        outcome: `accepted`, `refused`, or the status in which the other run has closed.
        other_run_id: the run that answers.
        result: the result of that run.
        failure: the failure of that run.
        code: the code of a refusal.
        message: why it was refused, or why the other run ended.
    """

    number: int
    outcome: str
    other_run_id: str = ""
    result: bytes = b""
    failure: FailureInfo | None = None
    code: str = ""
    message: str = ""


class AnswerChild(Answer, frozen=True, kw_only=True, gc=True):
    """The answer about a child."""


class AnswerMessage(Answer, frozen=True, kw_only=True, gc=True):
    """The answer to a message to another workflow."""


class AnswerToken(Change, frozen=True, kw_only=True, gc=True):
    """The answer to a token. It needs no request id, since repeating an equal answer changes
    nothing.

    Attributes:
        token: its text (`model.tokens`).
        is_anonymous: the sender has no credential but the text, so only a public token accepts it.
    """

    token: str
    is_anonymous: bool = False


class ResolveToken(AnswerToken, frozen=True, kw_only=True):
    """`value` is the value that the code gets."""

    value: bytes = b"null"


class FailToken(AnswerToken, frozen=True, kw_only=True, gc=True):
    """The code gets an exception."""

    failure: FailureInfo


class ExpireToken(Command, frozen=True, kw_only=True):
    """The time for an answer is up."""

    number: int


class PauseWorkflow(Change, frozen=True, kw_only=True):
    """Stop running the code of a run; commands and results are still recorded. `by` is who asks."""

    by: str = ""
    reason: str = ""


class UnpauseWorkflow(Change, frozen=True, kw_only=True):
    """Let a paused run continue, and retry the activities that have paused it."""

    by: str = ""
    reason: str = ""


class RetryActivityNow(Change, frozen=True, kw_only=True):
    """An operator has an activity tried again now, and its retries begin again.

    Attributes:
        number: of the activity.
        by: who asks.
        reason: why.
        timeout_us: of each attempt from now on; 0: as before.
        maximum_attempts: from now on; 0: as before.
        queue: of the task from now on; empty: as before.
    """

    number: int
    by: str = ""
    reason: str = ""
    timeout_us: int = 0
    maximum_attempts: int = 0
    queue: str = ""


class ResolveActivity(Change, frozen=True, kw_only=True):
    """An operator gives an activity this result."""

    number: int
    value: bytes = b"null"
    by: str = ""
    reason: str = ""


class RejectActivity(Change, frozen=True, kw_only=True, gc=True):
    """An operator lets an activity fail."""

    number: int
    failure: FailureInfo
    by: str = ""
    reason: str = ""


AnyCommand = (
    StartWorkflow
    | SignalWorkflow
    | QueryWorkflow
    | AwaitWorkflow
    | CancelWorkflow
    | TerminateWorkflow
    | CompleteActivity
    | FailActivity
    | StartActivity
    | DeclineActivity
    | HeartbeatActivity
    | FireTimer
    | RetryActivity
    | ExpireActivity
    | ExpireLease
    | ExpireWorkflow
    | BeginWorkflow
    | ResumeWorkflow
    | ReadHistory
    | AnswerChild
    | AnswerMessage
    | UpdateWorkflow
    | ResolveToken
    | FailToken
    | ExpireToken
    | DeferActivity
    | ExpireAnswer
    | WriteStream
    | DeleteWorkflow
    | PauseWorkflow
    | UnpauseWorkflow
    | RetryActivityNow
    | ResolveActivity
    | RejectActivity
)

AttemptReport = CompleteActivity | FailActivity | DeferActivity
"""How an attempt has ended, as its runner reports it."""
