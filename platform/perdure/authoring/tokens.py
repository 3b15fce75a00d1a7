"""Tokens, as workflow code uses them: values that come from outside the workflow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.errors import UsageError
from perdure.model.duration import microseconds
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
    """

    __slots__ = ("_answer", "number", "text")

    def __init__(self, issued: IssuedToken) -> None:
        self.number = issued.number
        self.text = issued.text
        self._answer = issued.answer

    @property
    def is_answered(self) -> bool:
        """Whether awaiting it returns or raises immediately."""
        return self._answer.done()

    def __await__(self) -> Generator[Any, Any, T]:
        return asyncio.shield(self._answer).__await__()

    def __repr__(self) -> str:
        return f"<token {self.number}>"  # without its text, which is a secret


@overload
def token(type: type[T], /, *, timeout: Duration | None = None, public: bool = False) -> Token[T]: ...
@overload
def token(type: Any = ..., /, *, timeout: Duration | None = None, public: bool = False) -> Token[Any]: ...
def token(type: Any = Any, /, *, timeout: Duration | None = None, public: bool = False) -> Token[Any]:
    """Create a token. Anyone who has its text can answer it, by `client.resolve`, HTTP, `perdure
    token`, or a record.

        approval = workflow.token(Approval, timeout="3 days")
        await send_mail(order, approval.text)
        decision = await approval

    The `await` raises `TimeoutError` after the timeout, and `errors.TokenFailed` if the answer was
    a failure. The token ends with the run: after `continue_as_new`, create another one.

    Args:
        type: of the value; an answer that does not fit is refused. JSON values by default.
        timeout: how long the token can be answered; by default, as long as the run is open.
        public: anyone with the text can answer over HTTP, without an API key: for webhooks, and
            links in emails.

    Raises:
        UsageError: this is not workflow code, it only reads, or the timeout is invalid.
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
    return Token(runtime.tokens.issue(type, timeout_us, is_public=bool(public)))
