"""The tokens of a run, as its code sees them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from perdure import errors
from perdure.model import events as ev
from perdure.model.actions import IssueToken
from perdure.model.described import described
from perdure.model.failure import as_json, from_json, text_of
from perdure.model.runtime import IssuedToken, misuse
from perdure.model.tokens import TokenAddress
from perdure.replay.deadlines import LATEST
from perdure.replay.futures import InertFuture, reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.info import Info
    from perdure.model.payloads import Payloads
    from perdure.replay.futures import RunFuture
    from perdure.replay.loop import RunLoop


NAMED: Final = 1_000
"""The most tokens with a name that a run can have at a time: they move to the next run, all in one
event."""

Answer = ev.TokenResolved | ev.TokenFailed | ev.TokenExpired


class Named:
    """A named token whose answer the code has not taken yet.

    Attributes:
        number: in this run.
        carried: as the next run gets it, but for the answer.
        answer: the event that has ended it; None while it is open.
        issued: as the code sees it; None if the code has not asked for it yet.
    """

    __slots__ = ("answer", "carried", "issued", "number")

    def __init__(self, number: int, carried: ev.CarriedToken) -> None:
        self.number = number
        self.carried = carried
        self.answer: Answer | None = _answer_of(number, carried)
        self.issued: IssuedToken | None = None


class Tokens:
    """Tokens of one run.

    The code gets the text of a token immediately, so its secret is drawn here, and not by the
    engine when it records the token. On replay the secret comes from the history.

    A token with a name is the same one for each call with that name, until the code has got its
    answer. If the run continues as new before that, the token moves to the next run.

    Args:
        loop: of the run.
        payloads: decodes answers.
        info: facts about the run.
        secret: makes a secret that cannot be guessed.
        carried: the tokens of the runs before; their numbers come first.
    """

    __slots__ = ("_count", "_info", "_issued", "_loop", "_named", "_payloads", "_secret", "_waiting")

    def __init__(
        self,
        loop: RunLoop,
        payloads: Payloads,
        info: Callable[[], Info],
        secret: Callable[[], str],
        *,
        carried: tuple[ev.CarriedToken, ...] = (),
    ) -> None:
        self._loop = loop
        self._payloads = payloads
        self._info = info
        self._secret = secret
        self._count = len(carried)
        self._named = {each.name: Named(number, each) for number, each in enumerate(carried, 1)}
        self._issued: dict[int, str] = {}
        self._waiting: dict[int, tuple[Any, RunFuture]] = {}

    def issued_before(self, event: ev.TokenIssued) -> None:
        """Remember a token of the history: the replayed code will issue it again."""
        self._issued[event.number] = event.secret

    def issue(
        self, annotation: Any, timeout_us: int | None, *, is_public: bool, name: str = ""
    ) -> IssuedToken:
        """Issue a token, or return the one that has this name.

        Args:
            annotation: the type of its value.
            timeout_us: how long the token can be answered, microseconds; None: no limit.
            is_public: its text is enough to answer over HTTP, without an API key.
            name: by which the next run finds it; empty: it ends with this run.

        Raises:
            UsageError: the loop is read only, or there are too many tokens with a name.
        """
        loop = self._loop
        loop.refuse_if_read_only("issue a token")
        if loop.is_evicted:
            return IssuedToken(0, "", InertFuture(loop, 0))
        if name and (named := self._named.get(name)) is not None:
            return self._found(named, annotation)
        if name and len(self._named) >= NAMED:
            raise misuse(
                f"workflow.token: {name!r} is one too many: {NAMED:,} tokens with names are not awaited yet, "
                "which is the limit. Await them, or create tokens without names."
            )
        self._count = number = self._count + 1
        secret = self._issued.pop(number, "") or self._secret()
        expires_at = 0 if timeout_us is None else min(loop.now + timeout_us, LATEST)
        loop.actions.items.append(IssueToken(number, secret, expires_at, is_public, name))
        future = loop.create_future()
        self._waiting[number] = annotation, future
        info = self._info()
        text = TokenAddress(info.workflow_id, info.run_id, number, secret, is_public).text
        if not name:
            return IssuedToken(number, text, future)
        named = Named(
            number, ev.CarriedToken(name, info.run_id, number, secret, expires_at, is_public=is_public)
        )
        self._named[name] = named
        named.issued = IssuedToken(number, text, future, partial(self._taken, named))
        return named.issued

    def _found(self, named: Named, annotation: Any) -> IssuedToken:
        """The token that has this name: of this run, or of one before."""
        if named.issued is None:
            future = self._loop.create_future()
            self._waiting[named.number] = annotation, future
            it = named.carried
            text = TokenAddress(self._info().workflow_id, it.run_id, it.number, it.secret, it.is_public).text
            named.issued = IssuedToken(named.number, text, future, partial(self._taken, named))
            if named.answer is not None:
                self._settle(named.answer)
        return named.issued._replace(is_new=False)

    def _taken(self, named: Named) -> None:
        """The code has the answer: the name is free for another token."""
        if self._named.get(named.carried.name) is named:
            del self._named[named.carried.name]

    def left(self) -> tuple[ev.CarriedToken, ...]:
        """The tokens that move to the next run: those with a name whose answers the code has not
        taken.
        """
        return tuple(_with_answer(each.carried, each.answer) for each in self._named.values())

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

    def apply(self, event: Answer) -> None:
        """Apply an event: resolve or reject the future of its token."""
        for named in self._named.values():
            if named.number == event.number:
                named.answer = event
                break
        self._settle(event)

    def _settle(self, event: Answer) -> None:
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


def _with_answer(carried: ev.CarriedToken, answer: Answer | None) -> ev.CarriedToken:
    match answer:
        case ev.TokenResolved():
            return replace(carried, value=answer.value)
        case ev.TokenFailed():
            return replace(carried, failure=as_json(answer.failure))
        case _:  # one whose time is up expires in the next run
            return carried


def _answer_of(number: int, carried: ev.CarriedToken) -> Answer | None:
    if carried.value is not None:
        return ev.TokenResolved(number, carried.value)
    return ev.TokenFailed(number, from_json(carried.failure)) if carried.failure else None


def no_secret() -> str:
    """The `secret` of a run that is only replayed: it issues only tokens of its history."""
    raise errors.UsageError("a run that is only replayed issues no token")


def _reject(future: RunFuture, error: BaseException) -> None:
    reject(future, error)
    future.exception()  # mark as retrieved: a token that is never awaited may fail without a log line
