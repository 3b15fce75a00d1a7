"""Tokens, as workflow code uses them: values that come from outside the workflow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.errors import UsageError
from perdure.model.duration import microseconds
from perdure.model.limits import fault_of_id
from perdure.model.runtime import IssuedToken, current, misuse

if TYPE_CHECKING:
    from collections.abc import Generator

    from perdure.model.duration import Duration

T = TypeVar("T")


class Token(Generic[T]):
    """A value that comes from outside the workflow: `await` the token to get it.

    It may be awaited more than once, and by several tasks. Cancelling a wait does not affect the
    token.

    Attributes:
        number: counts the run's tokens, from 1.
        text: send it to those who can answer, in an activity. Anyone who has it can answer. It is
            safe in a URL.
        is_new: whether this call has created it. False: it was there under its name, in this run or
            in one before that has continued as new, so its text may have been sent already.
    """

    __slots__ = ("_answer", "_taken", "is_new", "number", "text")

    def __init__(self, issued: IssuedToken) -> None:
        self.number = issued.number
        self.text = issued.text
        self.is_new = issued.is_new
        self._answer = issued.answer
        self._taken = issued.taken

    @property
    def is_answered(self) -> bool:
        """Whether awaiting it returns or raises immediately."""
        return self._answer.done()

    def __await__(self) -> Generator[Any, Any, T]:
        answer = asyncio.shield(self._answer)
        if (taken := self._taken) is not None:
            if answer.done():
                taken()
            else:  # before the task that awaits it continues
                answer.add_done_callback(lambda done: None if done.cancelled() else taken())
        return answer.__await__()

    def __repr__(self) -> str:
        return f"<token {self.number}>"  # without its text, which is a secret


@overload
def token(
    type: type[T], /, *, timeout: Duration | None = None, public: bool = False, name: str = ""
) -> Token[T]: ...
@overload
def token(
    type: Any = ..., /, *, timeout: Duration | None = None, public: bool = False, name: str = ""
) -> Token[Any]: ...
def token(
    type: Any = Any, /, *, timeout: Duration | None = None, public: bool = False, name: str = ""
) -> Token[Any]:
    """Create a token. Anyone who has its text can answer it, by `client.resolve`, HTTP, `perdure
    token`, or a record.

        approval = workflow.token(Approval, timeout="3 days")
        await send_mail(order, approval.text)
        decision = await approval

    The `await` raises `TimeoutError` after the timeout, and `errors.TokenFailed` if the answer was

    Args:
        type: of the value; an answer that does not fit is refused. JSON values by default.
        timeout: how long the token can be answered; by default, as long as the run is open.
        public: anyone with the text can answer over HTTP, without an API key: for webhooks, and
            links in emails.
        name: keeps the token over `continue_as_new`; up to 255 bytes. Give the same `type` with it.

    Raises:
        UsageError: this is not workflow code, it only reads, the timeout or the name is invalid, or
            the run has 1,000 tokens with names whose answers it has not awaited.
    """
    runtime = current()
    if runtime is None:
        raise misuse("workflow.token is for workflow code; no run is being executed here.")
    if runtime.is_read_only:
        raise misuse("workflow.token is called in a query, a view or a condition. Those may only read.")
    try:
        timeout_us = None if timeout is None else microseconds(timeout)
    except UsageError as error:
        raise misuse(f"workflow.token: timeout: {error}") from None
    if timeout_us == 0:
        raise misuse("workflow.token: a timeout must be longer than 0.")
    if name and (fault := fault_of_id(name, "name")):
        raise misuse(f"workflow.token: {fault}.")
    return Token(runtime.tokens.issue(type, timeout_us, is_public=bool(public), name=name))
