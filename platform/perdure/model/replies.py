"""Replies: answers to requests."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from perdure.model.failure import FailureInfo
from perdure.model.states import Status


class Reply(Struct, array_like=True, frozen=True, tag=True, tag_field="kind", omit_defaults=True, gc=False):
    """The base of all replies."""

    request_id: str


class Accepted(Reply, frozen=True):
    """Done, and durable. `is_new` is false when the same request had been done before, or a start
    attached to an open run.
    """

    run_id: str
    is_new: bool = True


Refusal = Literal[
    "already_started",
    "not_found",
    "closed",
    "unknown_type",
    "unknown_name",
    "bad_input",
    "limit",
    "suspended",
    "rejected",
    "unknown_token",
    "token_closed",
    "open",
    "wrong_state",
]


class Refused(Reply, frozen=True):
    """Nothing was recorded; `message` says why and what to do."""

    code: Refusal
    message: str
    run_id: str = ""


class Answered(Reply, frozen=True):
    """A query's result."""

    result: bytes


class QueryRaised(Reply, frozen=True, gc=True):
    """A query's exception."""

    failure: FailureInfo


class Closed(Reply, frozen=True, gc=True):
    """The run has closed."""

    run_id: str
    status: Status
    result: bytes = b""
    failure: FailureInfo | None = None
    reason: str = ""


class History(Reply, frozen=True):
    """A page of a run's history.

    Attributes:
        records: encoded by `codec.records.encode_event_record`.
        next_event_id: the first event of the next page; 0: there is none.
    """

    records: tuple[bytes, ...]
    next_event_id: int = 0


class AskAgain(Reply, frozen=True):
    """The engine has released the run without acting: ask its next owner."""


AnyReply = Accepted | Refused | Answered | QueryRaised | Closed | History | AskAgain
