"""Handles one command: finds the run, decides, records, and lets the code go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from perdure import errors
from perdure.core.actions import to_event
from perdure.core.machine import Stamp
from perdure.core.registry import WAKES
from perdure.core.run import closed_reply, decide, fold, record, start
from perdure.core.start import Outcome, decide_start, started_event
from perdure.core.state import Phase, RunState
from perdure.engine.active import ActiveRun, ActiveRuns
from perdure.engine.faults import fault_of_signal, too_large
from perdure.engine.ports import Spoilt
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.described import described
from perdure.model.duration import LONGEST_US
from perdure.model.limits import ATTRIBUTES_BYTES, ID_BYTES, fault_of_id, fault_of_reason
from perdure.model.replies import Accepted, Answered, AnyReply, History, QueryRaised, Refusal, Refused
from perdure.replay.live import STRAYED, SUSPENDING

if TYPE_CHECKING:
    from perdure.engine.leases import Leases
    from perdure.engine.outbox import BatchOutbox
    from perdure.engine.ports import Clock, Ids
    from perdure.engine.quarantine import Quarantine
    from perdure.engine.report import Report
    from perdure.engine.waiters import Waiters
    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition

PYTHON: Final = sys.version_info.major * 100 + sys.version_info.minor

CHANGES: Final = (cm.StartWorkflow, cm.SignalWorkflow, cm.CancelWorkflow, cm.TerminateWorkflow)
"""The requests that change something when they are not refused."""


class Handler:
    """Handles single commands, for the engine's loop, which owns the parts.

    Args:
        runs: the cache.
        outbox: of the open batch.
        leases: of attempts.
        waiters: for runs to close.
        touched: written: the runs that the open batch concerns, by run id.
        quarantine: knows the command as it was taken.
        can_answer: whether a reply to an address reaches anybody.
        clock: for leases.
        ids: fresh ids.
        definitions: workflow types by name.
        payloads: to check arguments before they are recorded.
        report: told in words what an operator should know.
    """

    __slots__ = (
        "_at",
        "_can_answer",
        "_clock",
        "_definitions",
        "_ids",
        "_leases",
        "_outbox",
        "_payloads",
        "_quarantine",
        "_report",
        "_runs",
        "_stamp",
        "_touched",
        "_waiters",
    )

    def __init__(
        self,
        runs: ActiveRuns,
        outbox: BatchOutbox,
        leases: Leases,
        *,
        waiters: Waiters,
        touched: dict[str, ActiveRun],
        quarantine: Quarantine,
        can_answer: Callable[[str], bool],
        clock: Clock,
        ids: Ids,
        definitions: Mapping[str, Definition],
        payloads: Payloads,
        report: Report,
    ) -> None:
        self._runs = runs
        self._report = report
        self._outbox = outbox
        self._leases = leases
        self._waiters = waiters
        self._touched = touched
        self._quarantine = quarantine
        self._can_answer = can_answer
        self._clock = clock
        self._ids = ids
        self._definitions = definitions
        self._payloads = payloads
        self._at = 0
        self._stamp = Stamp(0, ids.token)

    def begin(self, at: int) -> None:
        """A batch begins, stamped `at`."""
        self._at = at
        self._stamp = Stamp(at, self._ids.token)

    def handle(self, command: cm.AnyCommand) -> None:
        """Handle one command in the open batch."""
        match command:
            case cm.StartWorkflow():
                self._start(command)
            case cm.QueryWorkflow():
                self._query(command)
            case cm.AwaitWorkflow():
                self._await(command)
            case cm.ReadHistory():
                self._read_history(command)
            case cm.ResumeWorkflow():
                self._resume(command)
            case _:
                self._message(command)

    def refresh_view(self, active: ActiveRun) -> None:
        """Take the view again, if the code has moved."""
        live = active.live
        if live is None or not active.is_stale:
            return
        active.is_stale = False
        try:
            view = live.view()
        except SUSPENDING as error:
            self._suspend(active, error)
        except BaseException as error:  # noqa: BLE001 - the author's; the run goes on with the last view
            message = self._payloads.encode_failure(error).message
            active.view_fault = f"the view could not be taken: {type(error).__name__}: {message}"
        else:
            active.view_fault = ""
            if view is not None:
                active.view = view
        _drop_if_spoilt(active)

    # ---- starts

    def _start(self, command: cm.StartWorkflow) -> None:
        if fault := fault_of_id(command.workflow_id) or (command.request_id and fault_of_id(command.request_id, "request id")):
            return self._refuse(command, "bad_input", fault)
        if (size := len(command.attributes)) > ATTRIBUTES_BYTES:
            return self._refuse(command, "limit", f"the attributes are {size} bytes long, the limit is {ATTRIBUTES_BYTES}")
        if fault := too_large(command.input, f"the arguments of workflow {command.type!r}"):
            return self._refuse(command, "limit", fault)
        if not (0 <= command.delay_us <= LONGEST_US and 0 <= command.timeout_us <= LONGEST_US):
            return self._refuse(command, "bad_input", f"delay and timeout must be between 0 and {LONGEST_US} microseconds")
        current = self._runs.find(command.workflow_id)
        decision = decide_start(current.state if current is not None else None, command)
        if decision.outcome is Outcome.ANSWER:
            return self._answer(command, decision.reply)
        if decision.outcome is Outcome.SIGNAL:
            return self._message(_signal_of(command, command.request_id, command.reply_to), is_attached=True)
        definition = self._definitions.get(command.type)
        if definition is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            return self._refuse(command, "unknown_type", f"no workflow type {command.type!r} is known here; known: {known}")
        try:
            self._payloads.decode_arguments(definition.run_fn, command.input, what=f"workflow {command.type!r}")
        except errors.PayloadError as error:
            return self._refuse(command, "bad_input", str(error))
        except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
            return self._refuse(command, "bad_input", f"the arguments of {command.type!r} cannot be read: {described(error)}")
        if command.signal_name and (
            refusal := fault_of_signal(definition, self._payloads, command.signal_name, command.signal_input)
        ):
            return self._refuse(command, *refusal)
        if current is not None and decision.outcome is Outcome.TERMINATE_AND_START:
            self._record(current, ev.WorkflowTerminated(f"another run was started with if_running={command.if_running!r}"))
        started = started_event(command, self._at, self._ids.seed(), PYTHON)
        state = start(command.workflow_id, self._ids.run_id(), started, self._at, self._outbox)
        active = ActiveRun(state, None)
        active.events.append(started)
        self._runs.add(active)
        self._touched[state.run_id] = active
        self._outbox.reply(command.reply_to, Accepted(command.request_id, state.run_id))
        if state.phase is Phase.RUNNING:  # code whose start is delayed is made when it begins
            active.live = self._runs.create_live(active)
            self._show(active, started)
        if command.signal_name and not state.phase.is_closed:
            self._message(_signal_of(command, "", ""))
        return None

    # ---- messages to a run that is there

    def _message(self, command: cm.AnyCommand, *, is_attached: bool = False) -> None:
        """With `is_attached` it came with a start, whose answer says that no run is new."""
        active = self._find(command)
        if active is None:
            return
        if isinstance(command, cm.SignalWorkflow) and (refusal := self._fault_of_signal(active, command)):
            self._refuse(command, *refusal)
            return
        if isinstance(command, cm.CancelWorkflow | cm.TerminateWorkflow) and (fault := fault_of_reason(command.reason)):
            self._refuse(command, "limit", fault)
            return
        state = active.state
        decision = decide(state, command, self._stamp)
        if isinstance(command, cm.Request):
            reply = decision.reply
            if is_attached and isinstance(reply, Accepted):
                reply = replace(reply, is_new=False)
            self._answer(command, reply)
        for event in decision.events:
            needs_code = _needs_code(state.phase, event) or (isinstance(event, ev.TERMINAL) and self._lacks_view(active))
            error = self._bring_live(active) if needs_code else None
            self._record(active, event)
            if error is not None and type(event) is ev.WorkflowBegun:
                self._suspend(active, error)
            elif type(event) in WAKES:
                self._show(active, event)
        self._keep_lease(active, command)

    def _lacks_view(self, active: ActiveRun) -> bool:
        """Whether the store was restored from events alone, and only the code has the view."""
        definition = self._definitions.get(active.state.type)
        has_one = definition is not None and definition.view is not None
        return has_one and not active.view and active.state.phase is Phase.RUNNING

    def _find(self, command: cm.AnyCommand) -> ActiveRun | None:
        active = self._runs.find(command.workflow_id)
        if active is not None and command.run_id in ("", active.state.run_id):
            return active
        if isinstance(command, cm.Request):
            whom = f"workflow {command.workflow_id!r}" + (f", run {command.run_id!r}" if command.run_id else "")
            code: Refusal = "closed" if active is not None else "not_found"
            self._refuse(
                command, code, f"{whom} is not running: no run with this id" + (" is open" if active is not None else "")
            )
        return None

    def _fault_of_signal(self, active: ActiveRun, command: cm.SignalWorkflow) -> tuple[Refusal, str] | None:
        if active.state.phase.is_closed:
            return None
        definition = self._definitions.get(active.state.type)
        return fault_of_signal(definition, self._payloads, command.name, command.input)

    def _keep_lease(self, active: ActiveRun, command: cm.AnyCommand) -> None:
        match command:
            case cm.StartActivity() | cm.HeartbeatActivity():
                activity = active.state.activities.get(command.number)
                if activity is None or activity.token != command.token:
                    # nobody wants its result: stop it, in case it did not hear
                    self._outbox.cancel(active.state.run_id, command.number, command.token, is_step=False)
                    return
                self._leases.renew(command, active.state.run_id, self._clock.elapsed())
                if isinstance(command, cm.HeartbeatActivity) and command.details:
                    self._outbox.keep_details(active.state.run_id, command.number, command.details)
            case cm.CompleteActivity() | cm.FailActivity():
                self._leases.end(command.token)
            case _:
                pass

    # ---- reads

    def _await(self, command: cm.AwaitWorkflow) -> None:
        if len(command.request_id) > ID_BYTES:  # it would be part of another command's batch, and might be too large for it
            return self._refuse(command, "limit", f"the request id is {len(command.request_id)} characters long")
        active = self._runs.find(command.workflow_id)
        if command.run_id and active is not None and active.state.run_id != command.run_id:
            earlier = self._runs.history(command.workflow_id, command.run_id)
            if earlier:  # others followed it, so it has closed
                return self._outbox.reply(command.reply_to, closed_reply(fold(earlier), command.request_id))
        active = self._find(command)
        if active is None:
            return None
        if active.state.phase.is_closed:
            self._outbox.reply(command.reply_to, closed_reply(active.state, command.request_id))
        else:
            self._waiters.add(active.state.run_id, command)
        return None

    def _read_history(self, command: cm.ReadHistory) -> None:
        run_id = command.run_id
        if not run_id and (active := self._runs.find(command.workflow_id)) is not None:
            run_id = active.state.run_id
        page = self._runs.page(command.workflow_id, run_id, command.from_event_id) if run_id else History("", ())
        self._outbox.reply(command.reply_to, replace(page, request_id=command.request_id))

    def _query(self, command: cm.QueryWorkflow) -> None:
        active = self._find(command)
        if active is None:
            return None
        if fault := too_large(command.input, f"the arguments of query {command.name!r}"):
            return self._refuse(command, "limit", fault)
        if active.state.phase is Phase.SUSPENDED or active.state.phase is Phase.DELAYED:
            return self._refuse(command, "suspended", _why_no_code(active.state))
        if active.live is None:
            try:
                self._runs.bring_live(active)
            except STRAYED as error:
                return self._refuse(
                    command, "suspended", f"the code of workflow {command.workflow_id!r} cannot be brought back: {error}"
                )
        live: Any = active.live
        try:
            reply: Any = Answered(command.request_id, live.query(command.name, command.input))
        except errors.UsageError as error:
            reply = Refused(command.request_id, "bad_input", str(error), active.state.run_id)
        except SUSPENDING as error:
            reply = Refused(command.request_id, "bad_input", f"query {command.name!r}: {error}", active.state.run_id)
        except BaseException as error:  # noqa: BLE001 - the author's
            reply = QueryRaised(command.request_id, self._payloads.encode_failure(error))
        _drop_if_spoilt(active)
        return self._outbox.reply(command.reply_to, reply)

    # ---- the code

    def _resume(self, command: cm.ResumeWorkflow) -> None:
        active = self._runs.find(command.workflow_id)
        if active is None or active.state.run_id != command.run_id:
            return
        if active.state.phase is Phase.RUNNING:
            self._bring_live(active)
            return
        if active.state.phase is not Phase.SUSPENDED:
            return
        try:
            wanted = self._runs.bring_live(active)
        except STRAYED as error:
            self._suspend(active, error)
            return
        self._record(active, ev.WorkflowResumed())
        self._act(active, wanted)

    def _bring_live(self, active: ActiveRun) -> BaseException | None:
        """See to it that the code is there; what is wrong with it, if it cannot be."""
        if active.live is None:
            try:
                self._runs.bring_live(active)
            except STRAYED as error:
                self._suspend(active, error)
                return error
        return None

    def _show(self, active: ActiveRun, event: Any) -> None:
        """Let the code go on with an event that was just recorded, and record what it wants then."""
        live = active.live
        if live is None or active.state.phase is not Phase.RUNNING:
            return
        try:
            wanted = live.apply(event, self._at, active.state.last_event_id)
        except STRAYED as error:
            self._suspend(active, error)
            return
        active.is_stale = True
        self._act(active, wanted)

    def _act(self, active: ActiveRun, wanted: list[Any]) -> None:
        for action in wanted:
            event = to_event(active.state, action, self._ids.token)
            if event is not None:
                self._record(active, event)

    def _suspend(self, active: ActiveRun, error: BaseException) -> None:
        if active.live is not None:
            active.live.evict()
            active.live = None
        reason = _reason_of(error)
        state = active.state
        if state.phase is Phase.RUNNING or (state.phase is Phase.SUSPENDED and state.reason != reason):
            self._record(active, ev.WorkflowSuspended(reason))
            message = f"workflow {state.workflow_id!r} is suspended, and nothing of it is lost: {reason}"
            self._report(message, workflow_id=state.workflow_id, run_id=state.run_id)

    def _record(self, active: ActiveRun, event: Any) -> None:
        state = active.state
        self._touched[state.run_id] = active
        record(state, event, self._at, self._outbox)
        active.events.append(event)

    def _refuse(self, command: cm.Request, code: Refusal, message: str) -> None:
        self._answer(command, Refused(command.request_id, code, message))

    def _answer(self, command: cm.Request, reply: AnyReply | None) -> None:
        """Answer a request. A refusal that nobody hears of would be silence: then the command is kept, as a dead letter.

        Not a read: nothing is lost with it.
        """
        self._outbox.reply(command.reply_to, reply)
        if type(reply) is Refused and isinstance(command, CHANGES) and not self._can_answer(command.reply_to):
            taken = self._quarantine.current or command
            self._outbox.batch.letters.append(Spoilt(taken, "refused", f"{reply.message} ({reply.code})"))


def _signal_of(start: cm.StartWorkflow, request_id: str, reply_to: str) -> cm.SignalWorkflow:
    """The signal that goes with a start."""
    return cm.SignalWorkflow(
        start.workflow_id, "", request_id, reply_to, name=start.signal_name, input=start.signal_input, trace=start.trace
    )


def _reason_of(error: BaseException) -> str:
    if isinstance(error, Exception):
        with suppress(BaseException):  # an author's __str__ may raise anything
            return str(error)
    return described(error)


def _needs_code(phase: Phase, event: Any) -> bool:
    """Whether the code must be where the history is before it is shown the event."""
    return type(event) in WAKES and (phase is Phase.RUNNING or type(event) is ev.WorkflowBegun)


def _why_no_code(state: RunState) -> str:
    if state.phase is Phase.DELAYED:
        return f"workflow {state.workflow_id!r} has not begun: its start is delayed"
    return f"workflow {state.workflow_id!r} is suspended: {state.reason}"


def _drop_if_spoilt(active: ActiveRun) -> None:
    """A query or a view that meddled with the run: the code is brought back by a replay when it is needed."""
    if active.live is not None and active.live.is_spoilt:
        active.live.evict()
        active.live = None
