"""Start rules: a workflow id has at most one open run, and the caller chooses what happens if there
is, or was, one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from perdure.core import flags
from perdure.core.requests import WITH_START, carried, differs, of_signal, of_start
from perdure.core.state import RunState
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, AnyReply, Refused
from perdure.model.states import Status
from perdure.model.traceparent import traceparent

PARENTS: Final = (f"{addresses.WORKFLOW}child/", f"{addresses.WORKFLOW}detached/")
"""Prefixes of parents' addresses: a start whose answer goes to one of them starts a child."""


class Outcome(Enum):
    """Outcome of a start; SIGNAL: the open run gets the signal or update that came with it."""

    START = auto()
    ANSWER = auto()
    TERMINATE_AND_START = auto()
    SIGNAL = auto()


class StartDecision(NamedTuple):
    """The decision about a start. It has a `reply` only with ANSWER: the start is refused,
    repeated, or attaches to the open run.
    """

    outcome: Outcome
    reply: AnyReply | None = None


def decide_start(current: RunState | None, command: cm.StartWorkflow) -> StartDecision:
    """Decide a start.

    Args:
        current: the open run of the workflow id, or its last closed one; None when there never was
            one. Only read.
        command: the start.
    """
    if current is None:
        return StartDecision(Outcome.START)
    if command.request_id and (is_same := _is_repeated(current, command)) is not None:
        accepted = Accepted(command.request_id, current.run_id, is_new=False)
        return StartDecision(Outcome.ANSWER, accepted if is_same else differs(command, current.run_id))
    if current.phase.is_closed:
        return _after_closed(current, command)
    if command.if_running == "attach":
        if current.type != command.type:
            return _refused(
                current, command, f"is running as another type, {current.type!r}: cannot attach to it"
            )
        if command.signal_name or command.update_name:
            return StartDecision(Outcome.SIGNAL)
        return StartDecision(Outcome.ANSWER, Accepted(command.request_id, current.run_id, is_new=False))
    if command.if_running == "terminate":
        return StartDecision(Outcome.TERMINATE_AND_START)
    return _refused(current, command, 'is already running; use if_running="attach" to attach to it')


def _is_of_parent(address: str) -> bool:
    """Whether the address is a parent's. It comes from outside: invalid text may not even be
    encodable.
    """
    return address.startswith(PARENTS) and addresses.parse(address) is not None


def started_event(
    command: cm.StartWorkflow, at: int, seed: int, python: int, *, version: int = 0
) -> ev.WorkflowStarted:
    """The first event of the run that a start leads to.

    Args:
        command: the start.
        at: now, microseconds.
        seed: seeds the run's random numbers.
        python: minor version of this process, 311, 312 …
        version: of the type; 0: the first one.
    """
    return ev.WorkflowStarted(
        type=command.type,
        input=command.input,
        python=python,
        seed=seed,
        request_id=command.request_id,
        timeout_us=command.timeout_us,
        attributes=command.attributes,
        delayed_until=_begins_at(command, at) if command.delay_us or command.start_at else 0,
        trace=traceparent(command.trace) if command.trace else "",
        flags=flags.CURRENT,
        parent=command.reply_to if _is_of_parent(command.reply_to) else "",
        version=version,
        context=command.context,
        memo=command.memo,
    )


def _begins_at(command: cm.StartWorkflow, at: int) -> int:
    """When the code begins, microseconds; 0: immediately."""
    begins_at = max(at + command.delay_us, command.start_at)
    return begins_at if begins_at > at else 0


def continued_event(
    run: RunState,
    input: bytes,
    seed: int,
    *,
    python: int,
    delayed_until: int,
    version: int = 0,
    tokens: tuple[ev.CarriedToken, ...] = (),
) -> ev.WorkflowStarted:
    """The first event of the run that continues another one.

    Args:
        run: the run that ends.
        input: the arguments of the new run.
        seed: seeds the new run's random numbers.
        python: minor version of this process, 311, 312 …
        delayed_until: when its code begins, microseconds; 0: now.
        version: of the type, which may be newer than that of the run before; 0: the first one.
        tokens: named tokens of the run before that its code has not taken the answers of.
    """
    before = run.started
    return ev.WorkflowStarted(
        type=before.type,
        input=input,
        python=python,
        seed=seed,
        request_id=before.request_id,
        timeout_us=before.timeout_us,
        attributes=run.attributes,
        delayed_until=delayed_until,
        trace=before.trace,
        flags=flags.CURRENT,
        parent=before.parent,
        continued_from=run.run_id,
        first_run_id=before.first_run_id or run.run_id,
        version=version,
        context=before.context,
        tokens=tokens,
        requests=carried(run.requests),
        memo=before.memo,
    )


def _is_repeated(current: RunState, command: cm.StartWorkflow) -> bool | None:
    """Whether the run has recorded this very start, or its signal; None: it has nothing with this
    id.
    """
    is_own = current.started.request_id == command.request_id
    kind = WITH_START if is_own else "signal"  # without a start of its own, it was attached
    signal = current.requests.get((kind, command.request_id)) if command.signal_name else None
    if not is_own and signal is None:
        return None
    is_same = (
        not is_own or bool(current.started.first_run_id) or of_start(current.started) == of_start(command)
    )
    return is_same and (signal is None or signal == of_signal(command.signal_name, command.signal_input))


def _after_closed(current: RunState, command: cm.StartWorkflow) -> StartDecision:
    if command.if_closed == "start" or (
        command.if_closed == "after_failure" and current.status is not Status.COMPLETED
    ):
        return StartDecision(Outcome.START)
    return _refused(
        current,
        command,
        f"is {current.status.value}, and if_closed={command.if_closed!r} forbids another run",
    )


def _refused(current: RunState, command: cm.StartWorkflow, why: str) -> StartDecision:
    message = f"workflow {command.workflow_id!r} {why}"
    return StartDecision(
        Outcome.ANSWER, Refused(command.request_id, "already_started", message, current.run_id)
    )
