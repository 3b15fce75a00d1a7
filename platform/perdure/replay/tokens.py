"""The tokens of a run, as its code sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model import events as ev
from perdure.model.actions import IssueToken
from perdure.model.described import described
from perdure.model.failure import text_of
from perdure.model.runtime import IssuedToken
from perdure.model.tokens import TokenAddress
from perdure.replay.deadlines import LATEST
from perdure.replay.futures import InertFuture, reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.info import Info
    from perdure.model.payloads import Payloads
    from perdure.replay.futures import RunFuture
    from perdure.replay.loop import RunLoop


class Tokens:
    """Tokens of one run.

    The code gets the text of a token immediately, so its secret is drawn here, and not by the
    engine when it records the token. On replay the secret comes from the history.

    Args:
        loop: of the run.
        payloads: decodes answers.
        info: facts about the run.
        secret: makes a secret that cannot be guessed.
    """

    __slots__ = ("_count", "_info", "_issued", "_loop", "_payloads", "_secret", "_waiting")

    def __init__(
        self, loop: RunLoop, payloads: Payloads, info: Callable[[], Info], secret: Callable[[], str]
    ) -> None:
        self._loop = loop
        self._payloads = payloads
        self._info = info
        self._secret = secret
        self._count = 0
        self._issued: dict[int, str] = {}
        self._waiting: dict[int, tuple[Any, RunFuture]] = {}

    def issued_before(self, event: ev.TokenIssued) -> None:
        """Remember a token of the history: the replayed code will issue it again."""
        self._issued[event.number] = event.secret

    def issue(self, annotation: Any, timeout_us: int | None, *, is_public: bool) -> IssuedToken:
        """Issue a token.

        Args:
            annotation: the type of its value.
            timeout_us: how long the token can be answered, microseconds; None: no limit.
            is_public: its text is enough to answer over HTTP, without an API key.

        Raises:
            UsageError: the loop is read only.
        """
        loop = self._loop
        loop.refuse_if_read_only("issue a token")
        if loop.is_evicted:
            return IssuedToken(0, "", InertFuture(loop, 0))
        self._count = number = self._count + 1
        secret = self._issued.pop(number, "") or self._secret()
        expires_at = 0 if timeout_us is None else min(loop.now + timeout_us, LATEST)
        loop.actions.items.append(IssueToken(number, secret, expires_at, is_public))
        future = loop.create_future()
        self._waiting[number] = annotation, future
        info = self._info()
        text = TokenAddress(info.workflow_id, info.run_id, number, secret, is_public).text
        return IssuedToken(number, text, future)

    def fault_of(self, number: int, payload: bytes) -> str:
        """Why a value does not fit a token; empty: it fits.

        Args:
            number: of the token.
            payload: the value.
        """
        waiting = self._waiting.get(number)
        if waiting is None:
            return ""
        try:
            self._decode(number, payload, waiting[0])
        except errors.ValueUnavailable:
            return ""  # the run waits until it can be read
        except errors.PayloadError as error:
            return str(error)
        except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
            return f"the value for token {number} cannot be read: {described(error)}"
        return ""

    def apply(self, event: Any) -> None:
        """Apply an event: resolve or reject the future of its token."""
        waiting = self._waiting.pop(event.number, None)
        if waiting is None:
            return
        annotation, future = waiting
        match event:
            case ev.TokenResolved():
                try:
                    value = self._decode(event.number, event.value, annotation)
                except errors.UsageError:
                    raise
                except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec
                    _reject(future, error)
                else:
                    future.set_result(value)
            case ev.TokenFailed():
                failure = self._payloads.open_failure(event.failure)
                said = f"token {event.number} was failed: {text_of(failure)}"
                _reject(future, errors.TokenFailed(said, self._payloads.decode_failure(failure)))
            case _:
                _reject(future, TimeoutError(f"token {event.number} was not answered in time"))

    def release(self) -> list[Any]:
        """Be evicted: the futures that are awaited, which only `eviction` needs."""
        futures: list[Any] = [future for _, future in self._waiting.values()]
        self._waiting.clear()
        return futures

    def _decode(self, number: int, payload: bytes, annotation: Any) -> Any:
        return self._payloads.decode(payload, annotation, what=f"the value for token {number}")


def no_secret() -> str:
    """The `secret` of a run that is only replayed: it issues only tokens of its history."""
    raise errors.UsageError("a run that is only replayed issues no token")


def _reject(future: RunFuture, error: BaseException) -> None:
    reject(future, error)
    future.exception()  # mark as retrieved: a token that is never awaited may fail without a log line
