"""Activation: work on one run within an open batch. Finds the run, replays its code, records
events, and shows them to the code.

The use cases (`starting`, `messages`, `reads`) use this module and do not depend on one another.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from perdure.core.actions import to_event
from perdure.core.machine import Stamp
from perdure.core.registry import WAKES
from perdure.core.run import closed_run, record, start
from perdure.core.start import continued_event
from perdure.core.state import Phase
from perdure.engine.active import ActiveRun
from perdure.engine.inline import InlineSteps
from perdure.engine.ports import RefusedCommand
from perdure.errors import NotAwaited, ValueUnavailable
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.described import described, name_of
from perdure.model.replies import AnyReply, Refusal, Refused
from perdure.replay.signals import Unhandled, ignored_of
from perdure.replay.suspensions import SUSPENDING, SUSPENDING_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.active import ActiveRuns
    from perdure.engine.operator_log import Report
    from perdure.engine.outbox import BatchOutbox
    from perdure.engine.ports import Ids
    from perdure.engine.quarantine import Quarantine
    from perdure.engine.waiters import Waiters

PYTHON: Final = sys.version_info.major * 100 + sys.version_info.minor
PAUSE_US: Final = 1_000_000
"""Delay of the next run if a run continues as new without having waited for anything, microseconds.
It keeps such a workflow from using up the engine."""


class Activation:
    """Runs in the open batch.

    Args:
        runs: the cache.
        outbox: the effects of the open batch.
        ids: makes run ids, tokens and seeds.
        quarantine: has the command in the form in which the log handed it out.
        can_answer: whether a reply to an address can be delivered; see `engine.ports.Log`.
        report: takes what an operator should know.
        wait: tries a run again later, given its workflow id and run id.

    Attributes:
        inline: the inline steps that were not started yet.
        touched: the runs that the open batch concerns, by run id.
        stamp: the stamp of the open batch.
    """

    __slots__ = (
        "_can_answer",
        "_quarantine",
        "_report",
        "_wait",
        "ids",
        "inline",
        "outbox",
        "runs",
        "stamp",
        "touched",
    )

    def __init__(
        self,
        runs: ActiveRuns,
        outbox: BatchOutbox,
        ids: Ids,
        *,
        quarantine: Quarantine,
        can_answer: Callable[[str, cm.AnyCommand], bool],
        report: Report,
        wait: Callable[[str, str], None],
    ) -> None:
        self.runs = runs
        self.outbox = outbox
        self.ids = ids
        self.touched: dict[str, ActiveRun] = {}
        self.stamp = Stamp(0, ids.token)
        self.inline = outbox.inline = InlineSteps(
            runs, outbox.steps, touched=self.touched, bring_live=self.bring_live
        )
        self._quarantine = quarantine
        self._can_answer = can_answer
        self._report = report
        self._wait = wait

    def begin(self, at: int) -> None:
        """Begin a batch, stamped `at`."""
        self.stamp = Stamp(at, self.ids.token)

    def settle(self, waiters: Waiters) -> None:
        """The batch is committed: forget its closed runs, and their waiting clients."""
        for active in self.touched.values():
            active.events = []
            state = active.state
            if state.phase is Phase.CONTINUED:
                waiters.move(state.run_id, state.next_run_id)
            elif state.phase >= Phase.COMPLETED:
                waiters.forget(state.run_id)
                self.runs.drop_run(state.workflow_id, state.run_id)
                self.inline.forget(state.run_id)
        self.inline.settle(self.outbox.batch)
        self.touched.clear()

    def abort(self) -> None:
        """The batch was aborted: drop its runs, since they hold events that were not recorded."""
        for active in self.touched.values():
            self.runs.drop_run(active.state.workflow_id, active.state.run_id)
        self.inline.abort()
        self.touched.clear()

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the runs of these workflow ids."""
        self.runs.drop_where(is_gone)
        self.inline.drop_where(is_gone)

    # ---- find and answer

    def find(self, command: cm.AnyCommand) -> ActiveRun | None:
        """The run that a command addresses. If there is none, refuse the request and return
        None.
        """
        active = self.runs.find(command.workflow_id)
        if active is not None and (
            command.run_id == active.state.run_id or active.state.answers_to(command.run_id)
        ):
            return active
        if isinstance(command, cm.Request):
            run = f", run {command.run_id!r}" if command.run_id else ""
            code: Refusal = "closed" if active is not None else "not_found"
            ending = " is open" if active is not None else ""
            whom = f"workflow {command.workflow_id!r}{run}"
            self.refuse(command, code, f"{whom} is not running: no run with this id{ending}")
        return None

    def refuse(self, command: cm.Request, code: Refusal, message: str) -> None:
        """Answer a request with a refusal."""
        self.answer(command, Refused(command.request_id, code, message))

    def answer(self, command: cm.Request, reply: AnyReply | None) -> None:
        """Answer a request.

        A refused change becomes a dead letter if no client can receive the answer, lest it be lost
        in silence. Others are logged, since the client may die before it gets the answer.
        """
        self.outbox.reply(command, reply)
        if type(reply) is not Refused or not isinstance(command, cm.Change) or reply.code == "rejected":
            return  # a rejection by a validator is an intended answer
        taken: Any = self._quarantine.current or command
        if self._can_answer(command.reply_to, taken):
            self.outbox.refused.append((command, reply))
        else:
            self.outbox.batch.letters.append(
                RefusedCommand(taken, "refused", f"{reply.message} ({reply.code})")
            )

    # ---- the history

    def record(self, active: ActiveRun, event: Any) -> None:
        """Record an event of the run."""
        state = active.state
        self.touched[state.run_id] = active
        record(state, event, self.stamp.at, self.outbox)
        active.events.append(event)

    # ---- the code

    def bring_live(self, active: ActiveRun) -> BaseException | None:
        """Replay the run's code to the end of its history.

        Returns:
            Why the code cannot be replayed; the run is then suspended. None: the code is ready.
        """
        if active.live is None:
            try:
                self.runs.bring_live(active)
            except SUSPENDING_ERRORS as error:
                self.suspend(active, error)
                return error
        return None

    def show(self, active: ActiveRun, event: Any) -> None:
        """Show the code an event that was just recorded, and record the actions that follow."""
        live = active.live
        if live is None or active.state.phase is not Phase.RUNNING:
            return
        try:
            wanted = live.apply(event, self.stamp.at, active.state.last_event_id)
        except SUSPENDING_ERRORS as error:
            self.suspend(active, error)
            return
        active.is_stale = True
        self.act(active, wanted)

    def ignore_signals(self, active: ActiveRun, unhandled: list[Unhandled]) -> None:
        """Record signals that the code cannot take, and keep them as dead letters."""
        state = active.state
        for each in unhandled:
            self.record(active, ignored_of(each))
            name, given = each.event.name, each.event.input
            signal = cm.SignalWorkflow(state.workflow_id, state.run_id, name=name, input=given)
            self.outbox.batch.letters.append(RefusedCommand(signal, "refused", each.why))
        unhandled.clear()

    def act(self, active: ActiveRun, wanted: list[Any]) -> None:
        """Record the actions of the code, and the signals that it cannot take."""
        if (live := active.live) is not None:
            if unhandled := live.signals.unhandled:
                self.ignore_signals(active, unhandled)
            if (streams := live.runtime.used_streams) is not None:
                self.outbox.stream(active.state, streams.take())
        state, token = active.state, self.stamp.token
        for action in wanted:
            event = to_event(state, action, token)
            if type(event) is ev.WorkflowContinued:
                self._continue(active, event)
            elif event is not None:
                self.record(active, event)

    def _continue(self, active: ActiveRun, continued: ev.WorkflowContinued) -> None:
        """Close the run, and start the one that continues it, in the same batch."""
        before = active.state
        promises = [each for requests in before.promises.values() for each in requests]
        started = _continued(self, active, continued.input)
        self.record(active, replace(continued, next_run_id=(next_run_id := self.ids.run_id())))
        self.outbox.batch.followed.append(closed_run(before))
        after = self.begin_run(before.workflow_id, next_run_id, started)
        for reply_to, request_id in promises:
            self.record(after, ev.AnswerPromised(request_id, reply_to))
        self.show_start(after, started)

    def begin_run(self, workflow_id: str, run_id: str, started: ev.WorkflowStarted) -> ActiveRun:
        """Record the first event of a run; its code has not seen it yet (`show_start`)."""
        active = ActiveRun(start(workflow_id, run_id, started, self.stamp.at, self.outbox), None)
        active.events.append(started)
        self.runs.add(active)
        self.touched[run_id] = active
        return active

    def show_start(self, active: ActiveRun, started: ev.WorkflowStarted) -> None:
        """Show the code its first event. If the start is delayed, the code is created when the
        delay ends.
        """
        if active.state.phase is Phase.RUNNING:
            active.live = self.runs.create_live(active)
            self.show(active, started)

    def suspend(self, active: ActiveRun, error: BaseException) -> None:
        """Suspend the run: drop its code, which cannot be trusted, and record why."""
        active.drop_code()
        reason, state = _reason_of(error), active.state
        if state.phase is Phase.RUNNING or (state.phase is Phase.SUSPENDED and state.reason != reason):
            self.record(active, ev.WorkflowSuspended(reason))
            message = f"workflow {state.workflow_id!r} suspended (no data lost): {reason}"
            self._report(message, workflow_id=state.workflow_id, run_id=state.run_id)
        if isinstance(error, ValueUnavailable):
            self._wait(state.workflow_id, state.run_id)

    def refresh_view(self, active: ActiveRun) -> None:
        """Evaluate the view again if the code has run since."""
        live = active.live
        if live is None or not active.is_stale:
            return
        active.is_stale = False
        try:
            view = live.view()
        except (*SUSPENDING, NotAwaited) as error:
            self.suspend(active, error)
        except BaseException as error:  # noqa: BLE001 - the author's; the run continues with the last view
            message = self.runs.failure_of(error).message
            active.view_fault = f"the view could not be taken: {name_of(error)}: {message}"
        else:
            active.view_fault = ""
            if view is not None:
                active.view = view
        active.drop_code_if_spoilt()


def _continued(activation: Activation, active: ActiveRun, input: bytes) -> ev.WorkflowStarted:
    """The first event of the run that continues another one, in the newest version of its type."""
    before = active.state
    return continued_event(
        before,
        input,
        activation.ids.seed(),
        python=PYTHON,
        delayed_until=activation.stamp.at + PAUSE_US if _has_seen_nothing(active) else 0,
        version=activation.runs.newest_version(before.type),
        tokens=() if active.live is None else active.live.runtime.left_tokens(),
    )


def _has_seen_nothing(active: ActiveRun) -> bool:
    """Whether the history of the run holds only its start. If such a run continued as new without a
    delay, it could do so for ever and keep the engine from all other work.
    """
    is_new = len(active.events) == active.state.last_event_id or bool(active.state.started.delayed_until)
    return is_new and not any(
        type(event) in WAKES and type(event) not in (ev.WorkflowStarted, ev.WorkflowBegun)
        for event in active.events
    )


def _reason_of(error: BaseException) -> str:
    if isinstance(error, Exception):
        with suppress(BaseException):  # your __str__ may raise anything
            return str(error)
    return described(error)
