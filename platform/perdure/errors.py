"""All errors of perdure, by who must act.

Exception
├── UsageError                you: a mistake in the code, found at import, registration or call
│   └── PayloadError          a value that does not fit its annotation, or is too large
│       ├── NotAwaited        there is no value yet: `await` is missing
│       └── ValueUnavailable  a key or a stored object is missing: the run waits for it
├── ClientError               the caller: the request is refused
│   ├── WorkflowAlreadyStarted
│   ├── WorkflowNotFound
│   ├── WorkflowFailed        ended by .cause: a Failure, or Cancelled, Terminated, TimedOut
│   ├── QueryFailed
│   ├── UpdateRejected        a validator rejected it; nothing was recorded
│   ├── UpdateFailed          .cause is what the handler raised
│   ├── ReadLags              reads are still behind the given write
│   ├── RequestRefused        a limit or a rule of the platform, named in the message
│   ├── TokenNotFound         no open run has such a token
│   ├── TokenClosed           the token has another answer, has expired, or its run has closed
│   ├── NotAllowed            the caller is not authenticated, or lacks the role
│   ├── NotClosed             the run has not closed in time; also a TimeoutError
│   └── EngineUnavailable     no engine answered in time
├── Failure                   your own, final: crosses the wire as itself, caught in workflow code
│   ├── ActivityFailed        .cause, .attempts
│   │   └── ActivityTimedOut  also a TimeoutError
│   ├── OutcomeUnknown        a step that may not run twice was interrupted
│   ├── ChildFailed           .cause, .workflow_id
│   ├── TokenFailed           .cause
│   ├── Cancelled
│   ├── Terminated
│   └── TimedOut              also a TimeoutError
├── RetryAfter                raised in an activity: try again, but not before
├── NotDone                   raised by `reconcile`: the step did not happen, run it
├── RemoteException           stands for an exception whose class is not importable here
├── ReplayError               the operator: recorded history and code disagree; the run is suspended
└── InfrastructureError       the operator: the log or the store cannot be reached, read or written
    ├── CommitAborted         nothing of the batch was recorded; it is done again
    └── UndecodableRecord     a record of a topic cannot be read; it becomes a dead letter
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


class UsageError(Exception):
    """A mistake in the code, with the line to change."""


class PayloadError(UsageError):
    """A value does not fit its annotation, cannot be encoded, or is larger than the limit."""


class NotAwaited(PayloadError):
    """A call without `await` is used as if it were its value."""


class ValueUnavailable(PayloadError):
    """A value cannot be read or written now: the codec lacks its key, or the store of large
    payloads lacks the object or does not answer. A run that needs the value is suspended, and
    continues automatically when the value can be read.
    """


class ClientError(Exception):
    """The request was refused or failed."""


class WorkflowAlreadyStarted(ClientError):
    """A run with this workflow id is open, or has closed and `if_closed` forbids another."""


class WorkflowNotFound(ClientError):
    """No run has this workflow id, or the run that has it is closed and takes no more messages."""


class WorkflowFailed(ClientError):
    """The run closed without a result; `cause` is why.

    Attributes:
        cause: your own `Failure` where its class is imported here, an exception of Python or its
            standard library, or an exception group; `Cancelled`, `Terminated` or `TimedOut`; a
            `RemoteException` for any other exception. A note has the remote traceback.
    """

    cause: BaseException

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class QueryFailed(ClientError):
    """The query raised, is not defined, or was sent to a run whose code cannot be replayed."""


class UpdateRejected(ClientError):
    """The validator of the update rejected it; nothing was recorded."""


class UpdateFailed(ClientError):
    """The handler of the update raised, or the run ended before it did; `cause` is why.

    Attributes:
        cause: as of `WorkflowFailed`.
    """

    cause: BaseException

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class ReadLags(ClientError):
    """Reads do not yet reflect the given write: retry."""


class RequestRefused(ClientError):
    """A limit or a rule of the platform forbids the request; nothing was recorded."""


class TokenNotFound(ClientError):
    """The text is not that of a token, or the current run of its workflow has no such token."""


class TokenClosed(ClientError):
    """The token takes no answer any more: it has another one, has expired, or its run has
    closed.
    """


class NotAllowed(ClientError):
    """The HTTP API cannot authenticate the caller, or the caller lacks the role; the message says
    what is required.
    """


class EngineUnavailable(ClientError):
    """No engine answered in time. The request may or may not have been recorded: it is safe to
    retry.
    """


class NotClosed(ClientError, TimeoutError):
    """The run has not closed within the time that was given to `result`; the message says what it
    waits for.
    """


class Failure(Exception):
    """Final: never retried, crosses the wire AS ITSELF.

    Subclass it, dataclass fields and all: `except CardDeclined` works in the workflow and in a unit
    test that calls the function. A client that awaits the result gets `WorkflowFailed`, and finds
    it in `cause`. Any other exception is retried.
    """


class ActivityFailed(Failure):
    """An activity ended without a result.

    Attributes:
        cause: the last attempt's exception.
        attempts: how many attempts were made, from 1.
    """

    cause: BaseException
    attempts: int

    def __init__(self, message: str, cause: BaseException, attempts: int) -> None:
        super().__init__(message)
        self.cause = cause
        self.attempts = attempts
        self.__cause__ = cause


class ActivityTimedOut(ActivityFailed, TimeoutError):
    """The activity's time was up: the last attempt's, or that of all attempts
    (`Retry(give_up_after=…)`).
    """


class OutcomeUnknown(Failure):
    """A step or an activity with `at_most_once=True` was interrupted, by a crash or by its timeout:
    it may have had its effect, or not, and it is not run again.
    """


class ChildFailed(Failure):
    """A child workflow ended without a result.

    Attributes:
        cause: the reason: its own `Failure` where the class is importable, as of `WorkflowFailed`;
            `Cancelled`, `Terminated` or `TimedOut`.
        workflow_id: of the child.
    """

    cause: BaseException
    workflow_id: str

    def __init__(self, message: str, cause: BaseException, workflow_id: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.workflow_id = workflow_id
        self.__cause__ = cause


class TokenFailed(Failure):
    """The token that the code waits for was failed.

    Attributes:
        cause: the exception that was given: your own `Failure` where its class is imported here.
    """

    cause: BaseException

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class Cancelled(Failure):
    """The run was cancelled; as the `cause` of a `WorkflowFailed`."""


class Terminated(Failure):
    """The run was terminated from outside; none of its code ran. As the `cause` of a
    `WorkflowFailed`.
    """


class TimedOut(Failure, TimeoutError):
    """The run's own timeout passed; as the `cause` of a `WorkflowFailed`."""


class RetryAfter(Exception):
    """Raised by an activity: this attempt failed, and the next must not start before `delay` has
    passed.

    Args:
        delay: a `timedelta`, or text such as "30s".
        message: what went wrong, for the history.
    """

    delay: timedelta | str

    def __init__(self, delay: timedelta | str, message: str = "") -> None:
        super().__init__(message)
        self.delay = delay


class NotDone(Exception):
    """Raised by the `reconcile` function of a step or an activity: it did not take effect, so it is
    run again.
    """


class RemoteException(Exception):
    """An exception of another process whose class is not importable here.

    Attributes:
        type_name: its class, as `module.QualName`.
        remote_traceback: the traceback as text, empty when none was recorded.
    """

    def __init__(self, type_name: str, message: str, remote_traceback: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.remote_traceback = remote_traceback


class ReplayError(Exception):
    """The recorded history and the code disagree; the run is suspended until the code is fixed.

    Attributes:
        run_id: the run.
        event_id: the first recorded event that does not fit, from 1.
        expected: what the history holds, as text.
        found: what the code did, as text.
        place: file and line where the code waits; empty if it does not wait.
    """

    def __init__(self, run_id: str, event_id: int, expected: str, found: str, place: str = "") -> None:
        at = f" (it waits at {place})" if place else ""
        super().__init__(
            f"run {run_id}, event {event_id}: the history holds {expected}, but the code {found}{at}. "
            "Change the code so that it matches the recorded history, or keep both ways with "
            "workflow.patched, then restart."
        )
        self.run_id = run_id
        self.event_id = event_id
        self.expected = expected
        self.found = found
        self.place = place


class InfrastructureError(Exception):
    """The log or the store cannot be reached, read or written; the message says what to do."""


class CommitAborted(InfrastructureError):
    """Nothing of the batch was recorded; its commands are handed out again."""


class UndecodableRecord(InfrastructureError):
    """A record of a topic cannot be read: it becomes a dead letter.

    Attributes:
        reason: one word, as in a dead letter: "undecodable", "unknown_schema".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
