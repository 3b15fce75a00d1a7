"""The machine of one token: a value for the run, from anyone who has the token's text.

An equal answer that is repeated is accepted, and leaves no event; any other one is refused. The
refusal of an answer with a wrong secret says only that there is no such token, so that a guesser
learns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hmac import compare_digest
from itertools import islice
from typing import Any, Final

from perdure.core.answers import answer_of
from perdure.core.machine import (
    NOTHING,
    ActionRule,
    Decision,
    Machine,
    Outbox,
    Stamp,
)
from perdure.core.machines.activity import deferred, failed
from perdure.core.state import ActivityStatus, Phase, RunState, TokenState, TokenStatus
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo, bounded, from_json
from perdure.model.replies import Accepted, Refusal, Refused
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind
from perdure.model.tokens import TokenAddress, of_attempt, parse

_S = TokenStatus

TRANSITIONS: Final[dict[tuple[TokenStatus, type[ev.Event]], TokenStatus]] = {
    (_S.OPEN, ev.TokenResolved): _S.RESOLVED,
    (_S.OPEN, ev.TokenFailed): _S.FAILED,
    (_S.OPEN, ev.TokenExpired): _S.EXPIRED,
}

UNKNOWN: Final = (
    "there is no such token: the text is not complete, it is of another namespace or database, its attempt "
    "is over, or the history of its run is gone"
)
_HAS: Final = {
    _S.RESOLVED: "has been resolved with another value",
    _S.FAILED: "has been failed",
    _S.EXPIRED: "has expired",
}


# ---- decide


def address_of(run: RunState, issued: ev.TokenIssued) -> TokenAddress:
    """The address of a token of this run; its text is what people get."""
    token = run.tokens.get(issued.number)
    run_id, number = run.run_id, issued.number
    if token is not None and token.origin is not None:
        run_id, number = token.origin
    return TokenAddress(run.workflow_id, run_id, number, issued.secret, issued.is_public)


def has(run: RunState, given: TokenAddress) -> bool:
    """Whether a text is for this run to answer: it has issued the token, or got it from a run
    before. The secret may still be wrong.
    """
    return given.run_id == run.run_id or (not given.is_of_activity and _of_text(run, given) is not None)


def _of_text(run: RunState, given: TokenAddress) -> TokenState | None:
    if given.run_id == run.run_id:
        return run.tokens.get(given.number)
    origin = given.run_id, given.number
    return next((token for token in run.tokens.values() if token.origin == origin), None)


def _resolve(run: RunState, command: cm.ResolveToken, stamp: Stamp) -> Decision:
    if (later := _of_activity(command)) is not None:
        return _answered_later(run, command, stamp, later, command.value)
    token = _found(run, command)
    if token is None:
        return _refused(run, command, "unknown_token", UNKNOWN)
    resolved = ev.TokenResolved(token.issued.number, command.value)
    return _answered(run, command, stamp, token, resolved, answer_of(command.value))


def _fail(run: RunState, command: cm.FailToken, stamp: Stamp) -> Decision:
    if (later := _of_activity(command)) is not None:
        return _answered_later(run, command, stamp, later, command.failure)
    token = _found(run, command)
    if token is None:
        return _refused(run, command, "unknown_token", UNKNOWN)
    failed = ev.TokenFailed(token.issued.number, command.failure)
    return _answered(run, command, stamp, token, failed, answer_of(command.failure))


def _found(run: RunState, command: cm.AnswerToken) -> TokenState | None:
    """The run's token with this text."""
    given = parse(command.token)
    token = None if given is None else _of_text(run, given)
    if token is None or (command.is_anonymous and not token.issued.is_public):
        return None
    is_right = compare_digest(command.token.encode(), address_of(run, token.issued).text.encode())
    return token if is_right else None


def _answered(
    run: RunState, command: cm.AnswerToken, stamp: Stamp, token: TokenState, event: ev.AnyEvent, answer: int
) -> Decision:
    number, expires_at = token.issued.number, token.issued.expires_at
    what = f"token {number} of workflow {run.workflow_id!r}"
    if token.status is not _S.OPEN:
        if token.answer == answer:
            return Decision(reply=Accepted(command.request_id, run.run_id, is_new=False))
        return _refused(run, command, "token_closed", f"{what} {_HAS[token.status]}; nothing was changed")
    if run.phase.is_closed:
        said = f"{what} is no longer waited for: {_ending_of(run)}"
        return _refused(run, command, "token_closed", said)
    if expires_at and stamp.at >= expires_at:
        return _refused(run, command, "token_closed", f"{what} has expired; nothing was changed")
    if run.phase is Phase.SUSPENDED:
        return _refused(run, command, "suspended", suspended(run))
    return Decision((event,), Accepted(command.request_id, run.run_id))


def _ending_of(run: RunState) -> str:
    if run.phase is Phase.CONTINUED:
        return "its run has continued as new, and only a token with a name moves to the next run"
    return f"the workflow is {run.status.value}"


_NOT_OPEN: Final = (ActivityStatus.BACKING_OFF, ActivityStatus.STOPPING, ActivityStatus.EXHAUSTED)


def _of_activity(command: cm.AnswerToken) -> TokenAddress | None:
    """The parsed text, if it is that of an attempt."""
    given = parse(command.token)
    return given if given is not None and given.is_of_activity else None


def _answered_later(
    run: RunState, command: cm.AnswerToken, stamp: Stamp, given: TokenAddress, answer: bytes | FailureInfo
) -> Decision:
    """Decide an answer that ends an attempt, like the report of a worker."""
    number = given.number
    later = run.later.get(number) if run.later is not None else None
    open_ = run.activities.get(number)
    is_open = open_ is not None and open_.status not in _NOT_OPEN
    attempt = open_.token if open_ is not None and is_open else later.token if later is not None else ""
    if (
        not attempt
        or (command.is_anonymous and not given.is_public)
        or not _is_text_of(run, attempt, given, command.token)
    ):
        return _refused(run, command, "unknown_token", UNKNOWN)
    what = f"activity {number} of workflow {run.workflow_id!r}"
    if open_ is None or not is_open:
        recorded = bounded(answer) if isinstance(answer, FailureInfo) else answer
        if later is not None and later.answer == answer_of(recorded):
            return Decision(reply=Accepted(command.request_id, run.run_id, is_new=False))
        return _refused(
            run, command, "token_closed", f"{what} waits for this answer no longer; nothing was changed"
        )
    if run.phase is Phase.SUSPENDED:
        return _refused(run, command, "suspended", suspended(run))
    if later is not None and open_.status is ActivityStatus.DEFERRED and stamp.at >= later.expires_at:
        return _refused(run, command, "token_closed", f"the time of {what} is up; nothing was changed")
    # The answer may come before the function has returned.
    first = () if open_.status is ActivityStatus.DEFERRED else (deferred(open_, stamp),)
    if isinstance(answer, FailureInfo):
        end: tuple[ev.AnyEvent, ...] = failed(run, open_, answer, stamp, timed_out=False)
    else:
        end = (ev.ActivityCompleted(number, answer),)
    return Decision((*first, *end), Accepted(command.request_id, run.run_id))


def _is_text_of(run: RunState, attempt: str, given: TokenAddress, text: str) -> bool:
    right = of_attempt(run.workflow_id, run.run_id, given.number, attempt, is_public=given.is_public)
    return compare_digest(text.encode(), right.text.encode())


def suspended(run: RunState) -> str:
    """The refusal of an answer for a suspended run."""
    return (
        f"workflow {run.workflow_id!r} is suspended, so its code cannot say whether the answer fits; nothing "
        "was changed. Answer again when the workflow has been resumed"
    )


def _refused(run: RunState, command: cm.AnswerToken, code: Refusal, message: str) -> Decision:
    # the run id only to those who have the token
    run_id = "" if code == "unknown_token" else run.run_id
    return Decision(reply=Refused(command.request_id, code, message, run_id))


def _expire(run: RunState, command: cm.ExpireToken, stamp: Stamp) -> Decision:
    token = run.tokens.get(command.number)
    if token is None or token.status is not _S.OPEN or not 0 < token.issued.expires_at <= stamp.at:
        return NOTHING
    return Decision((ev.TokenExpired(command.number),))


# ---- record: the events


def carry(run: RunState, tokens: tuple[ev.CarriedToken, ...], outbox: Outbox | None) -> None:
    """Give a new run the tokens of the run that it continues; they have the first numbers."""
    for number, each in enumerate(tokens, 1):
        issued = ev.TokenIssued(number, each.secret, each.expires_at, each.is_public, each.name)
        token = run.tokens[number] = TokenState(issued, run.last_at, (each.run_id, each.number))
        if each.value is not None:
            token.status, token.answer = _S.RESOLVED, answer_of(each.value)
        elif each.failure:
            token.status, token.answer = _S.FAILED, answer_of(from_json(each.failure))
        elif outbox is not None and each.expires_at:
            outbox.arm(_timer(run, issued))


def _on_issued(run: RunState, event: ev.TokenIssued, outbox: Outbox | None) -> None:
    run.tokens[event.number] = TokenState(event, run.last_at)
    if outbox is not None and event.expires_at:
        outbox.arm(_timer(run, event))


def _on_resolved(run: RunState, event: ev.TokenResolved, outbox: Outbox | None) -> None:
    _closed(run, event, outbox).answer = answer_of(event.value)


def _on_failed(run: RunState, event: ev.TokenFailed, outbox: Outbox | None) -> None:
    _closed(run, event, outbox).answer = answer_of(event.failure)


def _on_expired(run: RunState, event: ev.TokenExpired, outbox: Outbox | None) -> None:
    _closed(run, event, outbox)


def _closed(run: RunState, event: Any, outbox: Outbox | None) -> TokenState:
    token = run.tokens[event.number]
    token.status = TRANSITIONS[token.status, type(event)]
    if outbox is not None and token.issued.expires_at:
        outbox.disarm(_timer(run, token.issued))
    return token


def _close(run: RunState, outbox: Outbox | None) -> None:
    if run.tokens and outbox is not None:
        for timer in _timers(run):
            outbox.disarm(timer)


def _timers(run: RunState) -> Iterator[Timer]:
    for token in run.tokens.values():
        if token.status is _S.OPEN and token.issued.expires_at:
            yield _timer(run, token.issued)


def _timer(run: RunState, issued: ev.TokenIssued) -> Timer:
    return Timer(issued.expires_at, run.run_id, TimerKind.TOKEN, issued.number, run.workflow_id)


# ---- actions, and what people read


def _issue(run: RunState, action: ac.IssueToken, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.TokenIssued(action.number, action.secret, action.expires_at, action.is_public, action.name)


def _is_same(event: ev.TokenIssued, action: ac.IssueToken) -> bool:
    return (event.number, event.name) == (action.number, action.name)


def _in_words(it: ev.TokenIssued | ac.IssueToken) -> str:
    return f"token {it.number} issued" + (f" as {it.name!r}" if it.name else "")


def _waits(run: RunState, limit: int) -> list[Wait]:
    if run.phase.is_closed:
        return []
    tokens = (token for token in run.tokens.values() if token.status is _S.OPEN)
    return [
        Wait("token", token.issued.name, token.issued.number, 0, token.issued_at, token.issued.expires_at)
        for token in islice(tokens, limit)
    ]


MACHINE: Final = Machine(
    name="token",
    states=TokenStatus,
    transitions=TRANSITIONS,
    decide={cm.ResolveToken: _resolve, cm.FailToken: _fail, cm.ExpireToken: _expire},
    record={
        ev.TokenIssued: _on_issued,
        ev.TokenResolved: _on_resolved,
        ev.TokenFailed: _on_failed,
        ev.TokenExpired: _on_expired,
    },
    actions={
        ac.IssueToken: ActionRule(
            event=ev.TokenIssued,
            to_event=_issue,
            fits=_is_same,
            in_words=_in_words,
        ),
    },
    wakes=frozenset({ev.TokenResolved, ev.TokenFailed, ev.TokenExpired}),
    due={TimerKind.TOKEN: lambda timer: cm.ExpireToken(timer.workflow_id, timer.run_id, number=timer.number)},
    holds="tokens",
    waits=_waits,
    timers=_timers,
    close=_close,
)
