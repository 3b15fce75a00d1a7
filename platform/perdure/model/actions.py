"""Actions: requests of workflow code. On replay they are matched with the recorded events by kind
and number.
"""

from __future__ import annotations

from msgspec import Struct

from perdure.model.dead_letters import RecordHeader
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions


class Action(Struct, frozen=True, gc=False):
    """The base of all actions."""


class ScheduleActivity(Action, frozen=True, gc=True):
    """`number` counts the run's activities from 1."""

    number: int
    name: str
    input: bytes
    options: ActivityOptions


class CancelActivity(Action, frozen=True):
    number: int


class StopActivity(Action, frozen=True):
    """As `CancelActivity`, and the code waits for its end."""

    number: int


class AbandonActivity(Action, frozen=True):
    """The code no longer waits for it."""

    number: int


class StartTimer(Action, frozen=True):
    """`number` counts the run's timers from 1; `summary` is one line for people."""

    number: int
    fires_at: int
    summary: str = ""


class CancelTimer(Action, frozen=True):
    number: int


class ProduceRecord(Action, frozen=True, gc=True):
    """`number` counts the run's records from 1."""

    number: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[RecordHeader, ...]


class StartChild(Action, frozen=True):
    """`number` counts the run's children from 1; the rest as of `ChildRequested`."""

    number: int
    workflow_id: str
    type: str
    input: bytes
    on_close: str
    if_closed: str
    timeout_us: int
    start_at: int = 0
    summary: str = ""
    memo: bytes = b""


class CancelChild(Action, frozen=True):
    number: int


class SendMessage(Action, frozen=True):
    """`number` counts the run's messages from 1; the rest as of `MessageSent`."""

    number: int
    what: str
    workflow_id: str
    name: str
    input: bytes


class ApplyPatch(Action, frozen=True):
    id: str


class SetAttributes(Action, frozen=True):
    """As of `AttributesSet`."""

    number: int
    values: bytes


class SetDetails(Action, frozen=True):
    """As of `DetailsSet`."""

    text: str


class ContinueAsNew(Action, frozen=True):
    """The engine assigns `next_run_id`."""

    input: bytes
    next_run_id: str = ""


class CompleteUpdate(Action, frozen=True):
    number: int
    result: bytes


class FailUpdate(Action, frozen=True, gc=True):
    number: int
    failure: FailureInfo


class IssueToken(Action, frozen=True):
    """As `TokenIssued`."""

    number: int
    secret: str
    expires_at: int
    is_public: bool
    name: str = ""


class RetryCompensation(Action, frozen=True, gc=True):
    """As of `CompensationAttemptFailed`; `number` counts the run's compensations from 1."""

    number: int
    name: str
    attempt: int
    failure: FailureInfo
    retry_at: int


class CompleteCompensation(Action, frozen=True):
    number: int


class FailCompensation(Action, frozen=True, gc=True):
    """As of `CompensationFailed`."""

    number: int
    name: str
    failure: FailureInfo
    attempts: int


class CompleteWorkflow(Action, frozen=True):
    result: bytes


class FailWorkflow(Action, frozen=True, gc=True):
    failure: FailureInfo


class EndCancelled(Action, frozen=True):
    """The code ended because of its cancellation."""


AnyAction = (
    ScheduleActivity
    | CancelActivity
    | StartTimer
    | CancelTimer
    | CompleteWorkflow
    | FailWorkflow
    | EndCancelled
    | ProduceRecord
    | StartChild
    | CancelChild
    | SendMessage
    | ApplyPatch
    | ContinueAsNew
    | CompleteUpdate
    | FailUpdate
    | IssueToken
    | SetAttributes
    | StopActivity
    | AbandonActivity
    | RetryCompensation
    | CompleteCompensation
    | FailCompensation
    | SetDetails
)
