"""Reads: queries, requests that wait for the end of a run or an update, pages of a history. Only
the wait of another workflow leaves an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from perdure import errors
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record
from perdure.core.machines.promise import closed_reply, subject_of
from perdure.core.machines.update import answer_of, unanswered
from perdure.core.run import decide, fold
from perdure.core.state import Phase, RunState
from perdure.engine.outbox import can_reply
from perdure.model import addresses
from perdure.model import events as ev
from perdure.model.replies import Answered, History, QueryRaised, Refused
from perdure.model.validation import fault_of
from perdure.replay.suspensions import SUSPENDING, SUSPENDING_ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.engine.earlier_runs import EarlierRuns
    from perdure.engine.waiters import Waiters
    from perdure.model import commands as cm
    from perdure.model.replies import AnyReply

UPDATE_ENDS: Final = (ev.UpdateCompleted, ev.UpdateFailed)
EARLIER: Final = 100
"""How many runs of a chain are read, backwards, for the one that has accepted an update."""


class Reads:
    """Handles reads.

    Args:
        activation: the runs of the open batch.
        waiters: clients that wait for answers.
        earlier_runs: finds closed runs.
    """

    __slots__ = ("_activation", "_earlier_runs", "_ends", "_waiters")

    def __init__(self, activation: Activation, waiters: Waiters, earlier_runs: EarlierRuns) -> None:
        self._activation = activation
        self._earlier_runs = earlier_runs
        self._waiters = waiters
        self._ends: tuple[str, int, int, dict[int, Any]] = "", 0, -1, {}

    def wait(self, command: cm.AwaitWorkflow) -> None:
        """Answer a request that waits for the end of a run or an update, now or when that has
        ended.
        """
        activation = self._activation
        reply = activation.outbox.reply
        if fault := fault_of(command):
            activation.refuse(command, *fault)
            return
        active = activation.runs.find(command.workflow_id)
        if command.run_id and active is not None and not active.state.answers_to(command.run_id):
            # Another run followed it, so it has closed, or is continued by another one.
            earlier = self._earlier(command.run_id, active.state)
            if earlier is not None and earlier.phase is Phase.CONTINUED:
                command = replace(command, run_id=active.state.run_id)
            elif earlier is not None:
                reply(command, closed_reply(earlier, command.request_id))
                return
        active = activation.find(command)
        if active is None:
            return
        if command.update_id and (told := self._of_update(active, command.update_id)) is not None:
            reply(command, replace(told, request_id=command.request_id))
        elif active.state.phase.is_closed:
            reply(command, closed_reply(active.state, command.request_id))
        elif not command.reply_to.startswith(addresses.WORKFLOW):
            self._waiters.add(active.state.run_id, subject_of(command), command)
        else:
            self._promise(active, command)

    def _earlier(self, run_id: str, current: RunState) -> RunState | None:
        """The end of an earlier run. If other runs continue it, the end of the last one, or the
        fact that the current run continues it. None: there is no such run.
        """
        activation = self._activation
        while True:
            # closed in the batch that is open, or in an earlier one
            if (active := activation.touched.get(run_id)) is not None:
                found = active.state
            elif records := activation.runs.history(current.workflow_id, run_id):
                found = fold(records)
            else:
                return None
            if found.phase is not Phase.CONTINUED:
                return found
            # a chain may be long: its runs know the first one, so they are not read one by one
            first = found.started.first_run_id or found.run_id
            if current.started.first_run_id == first:
                return found
            run_id = found.next_run_id

    def _of_update(self, active: ActiveRun, update_id: str) -> AnyReply | None:
        """The answer to an update; None while there is none yet."""
        state, events = self._run_of_update(active, update_id)
        number = state.updates.get(update_id)
        if number is None:
            message = f"run {state.run_id} of workflow {state.workflow_id!r} has no update {update_id!r}"
            return Refused("", "not_found", message, state.run_id)
        if number in state.open_updates:
            return None
        event_id = state.ended_updates.get(number)
        if event_id is None:
            return unanswered(state)
        in_batch = event_id - state.last_event_id + len(events) - 1
        event: Any = events[in_batch] if in_batch >= 0 else self._ends_at(state, event_id).get(number)
        return unanswered(state) if event is None else answer_of(event)

    def _run_of_update(self, active: ActiveRun, update_id: str) -> tuple[RunState, Sequence[ev.AnyEvent]]:
        """The run that has accepted an update, this one or one that it continues, and its events in
        the open batch.
        """
        state = active.state
        if update_id in state.updates or ("update", update_id) not in state.requests:
            return state, active.events
        run_id = state.started.continued_from
        for _ in range(EARLIER):
            before = self._earlier_runs.find(state.workflow_id, run_id)
            if before is None:
                break
            if update_id in before.updates:
                return before, self._earlier_runs.open_events(run_id)
            run_id = before.started.continued_from
        return state, active.events

    def _ends_at(self, state: RunState, event_id: int) -> dict[int, Any]:
        """The ends of updates in the record that holds an event, by the number of the update. The
        last record is cached: clients that have sent many updates ask for the answers in the same
        order.
        """
        run_id, first, last, ends = self._ends
        if run_id != state.run_id or not first <= event_id <= last:
            page = self._activation.runs.page(state.workflow_id, state.run_id, event_id, limit=1)
            record = decode_event_record(page.records[0])
            ends = {event.number: event for event in record.events if isinstance(event, UPDATE_ENDS)}
            self._ends = state.run_id, record.first_event_id, record.last_event_id, ends
        return ends

    def _promise(self, active: ActiveRun, command: cm.AwaitWorkflow) -> None:
        """Record that a workflow waits, since it does not repeat its request."""
        activation = self._activation
        if not can_reply(command.reply_to):
            activation.refuse(
                command, "bad_input", f"no answer can be sent to {command.reply_to[: addresses.LONGEST]!r}"
            )
            return
        decision = decide(active.state, command, activation.stamp)
        for event in decision.events:
            activation.record(active, event)
        activation.answer(command, decision.reply)

    def read_history(self, command: cm.ReadHistory) -> None:
        """Answer with a page of the history."""
        runs = self._activation.runs
        run_id, begin = command.run_id, min(command.from_event_id, PAGE_EVENTS)  # stores have 63 bits
        if not run_id and (active := runs.find(command.workflow_id)) is not None:
            run_id = active.state.run_id
        page = runs.page(command.workflow_id, run_id, begin) if run_id else History("", ())
        self._activation.outbox.reply(command, replace(page, request_id=command.request_id))

    def query(self, command: cm.QueryWorkflow) -> None:
        """Answer a query."""
        activation = self._activation
        active = activation.find(command)
        if active is None:
            return
        state = active.state
        if fault := fault_of(command):
            activation.refuse(command, *fault)
            return
        if state.phase in (Phase.SUSPENDED, Phase.DELAYED, Phase.HELD):
            activation.refuse(command, "suspended", why_no_code(state))
            return
        if active.live is None:
            try:
                activation.runs.bring_live(active)
            except SUSPENDING_ERRORS as error:
                message = f"workflow {command.workflow_id!r} cannot be replayed: {error}"
                activation.refuse(command, "suspended", message)
                return
        activation.outbox.reply(command, self._answer(active.live, command, state.run_id))
        active.drop_code_if_spoilt()

    def _answer(self, live: Any, command: cm.QueryWorkflow, run_id: str) -> Answered | Refused | QueryRaised:
        try:
            return Answered(command.request_id, live.query(command.name, command.input))
        except errors.UsageError as error:
            return Refused(command.request_id, "bad_input", str(error), run_id)
        except SUSPENDING as error:
            return Refused(command.request_id, "bad_input", f"query {command.name!r}: {error}", run_id)
        except BaseException as error:  # noqa: BLE001 - the author's
            return QueryRaised(command.request_id, self._activation.runs.failure_of(error))


def why_no_code(state: RunState) -> str:
    """Why the code of an open run cannot answer a query."""
    if state.phase in (Phase.DELAYED, Phase.HELD):
        return f"workflow {state.workflow_id!r} has not started: its start is delayed"
    return f"workflow {state.workflow_id!r} is suspended: {state.reason}"
