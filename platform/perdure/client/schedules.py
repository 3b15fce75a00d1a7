"""Schedules, as clients create and change them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import json

from perdure import errors
from perdure.authoring.targets import definition_for
from perdure.builtin.schedule import PREFIX, SCHEDULE, Schedule, ScheduleView, State
from perdure.builtin.schedule_times import Spec, check, jittered, moment_of, times_after, us_of
from perdure.client.handle import Handle
from perdure.client.listing import PAGE_LIMIT, ListQuery
from perdure.client.reading import state_of
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.model import commands as cm
from perdure.model.duration import microseconds, moment_us
from perdure.model.limits import fault_of_id
from perdure.model.states import Status
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perdure.client.intercepted import InterceptedTransport
    from perdure.client.ports import Reader
    from perdure.model.duration import Duration
    from perdure.model.payloads import Payloads
    from perdure.model.states import WorkflowState
    from perdure.workflow import RunRef

Overlap = Literal["skip", "queue", "all", "cancel", "terminate"]
REQUEST_TIMEOUT_S: Final = 15.0
COMING: Final = 5
"""The number of coming times that a description has."""
ID_BYTES: Final = 200
"""The longest id of a schedule, bytes: the ids of its runs add a time."""


@dataclass(frozen=True)
class ScheduleDescription:
    """A schedule.

    Attributes:
        id: its id.
        state: what it starts, and what has happened.
        coming: its next times, with jitter; none while it is paused.
        is_suspended: its code cannot run; `reason` says why.
    """

    id: str
    _: KW_ONLY
    state: ScheduleView
    coming: tuple[datetime, ...]
    is_suspended: bool = False
    reason: str = ""


class ScheduleHandle:
    """A handle on one schedule.

    Attributes:
        id: its id.
    """

    def __init__(self, transport: InterceptedTransport, payloads: Payloads, id: str) -> None:
        self.id = id
        self._transport = transport
        self._payloads = payloads
        self._handle: Handle[Schedule, str] = Handle(transport, payloads, PREFIX + id, "", SCHEDULE)

    async def pause(self, note: str = "") -> None:
        """Start no runs at the times that come.

        Args:
            note: for people.

        Raises:
            errors.WorkflowNotFound: there is no such schedule. This applies to all methods.
        """
        await self._handle.signal(Schedule.pause, note)

    async def unpause(self, note: str = "") -> None:
        """Start runs again, from the next time on."""
        await self._handle.signal(Schedule.unpause, note)

    async def trigger(self) -> str:
        """Start a run now, also while another one runs or the schedule is paused; returns its
        workflow id.
        """
        return await self._handle.update(Schedule.trigger)

    async def backfill(self, first: datetime, last: datetime) -> int:
        """Start the runs of past times, both moments included. They run one after the other, or all
        immediately with overlap="all".

        Returns:
            The number of times.

        Raises:
            errors.UsageError: a moment has no time zone.
            errors.UpdateRejected: there are none, or too many; the message says how many are
                possible.
        """
        moments = (moment_of(moment_us(first, "first")), moment_of(moment_us(last, "last")))
        return await self._handle.update(Schedule.backfill, *moments)

    async def update(self, **changes: Any) -> None:
        """Change the schedule, from the next time on; a run that is open continues.

        Args:
            changes: those of `Client.schedule` that change, and `args`: all arguments of the run.

        Raises:
            errors.UsageError: a value is invalid.
        """
        found = (await self.describe()).state.spec
        spec = changed(found, changes)
        await self.replace(spec)

    async def replace(self, spec: Spec) -> None:
        """Replace what the schedule starts, and when. Raises as `update`."""
        check(spec, us_of(datetime.now(UTC)))
        await self._handle.update(Schedule.change, spec)

    async def delete(self) -> None:
        """End the schedule; runs that it has started continue."""
        await self._handle.signal(Schedule.delete)

    async def describe(self) -> ScheduleDescription:
        """Describe it: what it starts, its next times and its recent runs."""
        state = await state_of(self._transport, PREFIX + self.id)
        if state is None or state.type != SCHEDULE.name or state.status.is_closed:
            raise errors.WorkflowNotFound(f"there is no schedule {self.id!r}")
        return described(state, self._payloads)


class Schedules:
    """The part of a client that creates and lists schedules."""

    _transport: InterceptedTransport
    _payloads: Payloads

    async def schedule(
        self,
        id: str,
        run: RunRef[Any, Any, Any] | str,
        /,
        *args: Any,
        cron: str = "",
        every: Duration | None = None,
        timezone: str = "UTC",
        exclude: Iterable[date | str] = (),
        jitter: Duration | None = None,
        overlap: Overlap = "skip",
        catch_up: Duration = "1 hour",
        timeout: Duration | None = None,  # noqa: ASYNC109 - of the runs
        paused: bool = False,
        note: str = "",
    ) -> ScheduleHandle:
        """Create a schedule, which starts a run at each of its times; returns when that is durable.
        The id of a run is that of the schedule, and the time: `nightly-2026-12-01T02:00:00Z`.

        Args:
            id: of the schedule.
            run: `Report.run`, a function workflow, or the name of a type.
            args: the arguments of each run; for a name, JSON values.
            cron: five fields, such as "0 3 * * *". A local time that daylight saving skips is
                replaced by the end of the gap; one that comes twice counts once.
            every: the interval, at least a second, from now on; in place of `cron`.
            timezone: of `cron` and `exclude`.
            exclude: days without runs.
            jitter: each run is started up to this much later; shorter than the interval.
            overlap: what happens at a time when the run before has not ended: `skip` the time;
                `queue` it; start them `all`; `cancel` or `terminate` the one before, and start
                this one when that has ended.
            catch_up: times that passed while no engine ran are caught up if they are not older.
            timeout: of each run.
            paused: create it paused.
            note: for people.

        Raises:
            errors.WorkflowAlreadyStarted: there is a schedule with this id.
            errors.UsageError: a value is invalid, or an argument does not fit.
            errors.RequestRefused: the id is refused.
            errors.EngineUnavailable: no engine answered in time.
        """
        if fault := fault_of_schedule(id):
            raise errors.RequestRefused(fault)
        given = {
            "cron": cron, "every": every, "timezone": timezone, "exclude": exclude, "jitter": jitter,
            "overlap": overlap, "catch_up": catch_up, "timeout": timeout,
        }  # fmt: skip
        spec = changed(self._spec_of(run, args), given)
        return await self.create_schedule(id, spec, paused=paused, note=note)

    async def create_schedule(
        self, id: str, spec: Spec, *, paused: bool = False, note: str = ""
    ) -> ScheduleHandle:
        """Create a schedule from its specification. Raises as `schedule`."""
        if fault := fault_of_schedule(id):
            raise errors.RequestRefused(fault)
        check(spec, us_of(datetime.now(UTC)))
        state = State(is_paused=paused, note=note)
        what = f"schedule {id!r}"
        payload = self._payloads.encode_arguments(SCHEDULE.run_fn, (spec, state), {}, what=what)
        command = cm.StartWorkflow(
            PREFIX + id, request_id=fresh_request_id(), type=SCHEDULE.name, input=payload
        )
        require_valid(command)
        try:
            accepted(await self._transport.request(command, REQUEST_TIMEOUT_S))
        except errors.WorkflowAlreadyStarted:
            raise errors.WorkflowAlreadyStarted(
                f"there is a schedule {id!r}: change it with update, or delete it first"
            ) from None
        return self.get_schedule(id)

    def get_schedule(self, id: str, /) -> ScheduleHandle:
        """A handle on a schedule. Sends no request."""
        if fault := fault_of_schedule(id):
            raise errors.RequestRefused(fault)
        return ScheduleHandle(self._transport, self._payloads, id)

    async def list_schedules(self) -> Sequence[ScheduleDescription]:
        """All schedules, by id."""
        found: list[ScheduleDescription] = []
        query = ListQuery.of(
            type=SCHEDULE.name, status=(Status.RUNNING, Status.SUSPENDED), sort="workflow_id", order="oldest",
            limit=PAGE_LIMIT,
        )  # fmt: skip
        while True:
            page = await self._transport.read(partial(_page, query))
            found += [described(each, self._payloads) for each in page]
            if len(page) < PAGE_LIMIT:
                return found
            query = _after(query, page[-1])

    def _spec_of(self, run: Any, args: tuple[Any, ...]) -> Spec:
        if isinstance(run, str):
            return Spec(run, list(args))
        definition = definition_for(run)
        plain: dict[str, Any] | list[Any] = json.decode(
            self._payloads.encode_plainly(definition.run_fn, args, {}, what=f"workflow {definition.name!r}")
        )
        if isinstance(plain, dict):
            return Spec(definition.name, plain["args"], plain["kwargs"])
        return Spec(definition.name, plain)


def fault_of_schedule(id: object) -> str:
    """The fault of the id of a schedule; empty: none."""
    if fault := fault_of_id(id, "id of a schedule"):
        return fault
    if (size := len(str(id).encode())) > ID_BYTES:
        return f"the id of a schedule is {size} bytes long, the limit is {ID_BYTES}"
    return ""


def changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """A specification with these changes, given as for `Client.schedule`.

    Raises:
        errors.UsageError: there is no such option, or its value is of another kind.
    """
    found = dict(changes)
    fields: dict[str, Any] = {}
    for name in ("jitter", "timeout", "catch_up", "every"):
        if name in found:
            value = found.pop(name)
            fields[f"{name}_us"] = _us(name, value)
    if found.get("cron"):
        fields.setdefault("every_us", 0)
    elif fields.get("every_us"):
        found.setdefault("cron", "")
    for name in ("cron", "timezone", "overlap"):
        if name in found:
            fields[name] = _text(name, found.pop(name))
    if "exclude" in found:
        fields["exclude"] = [
            each if isinstance(each, str) else each.isoformat() for each in found.pop("exclude")
        ]
    if "args" in found:
        args: Sequence[Any] = found.pop("args")
        fields["args"] = list(args)
    if found:
        raise errors.UsageError(f"a schedule has no option {min(found)!r}")
    return replace(spec, **fields)


def described(state: WorkflowState, payloads: Payloads) -> ScheduleDescription:
    """The description in the public state of a schedule."""
    schedule_id = state.workflow_id.removeprefix(PREFIX)
    what = f"the state of schedule {schedule_id!r}"
    if not state.view:  # its code has not run yet, or cannot
        view = ScheduleView(Spec(""), error=state.reason)
    else:
        view = payloads.decode(state.view, ScheduleView, what=what)
    coming: tuple[datetime, ...] = ()
    if view.next is not None:
        at = us_of(view.next)
        times = islice(times_after(view.spec, at - 1, at - view.spec.every_us), COMING)
        coming = tuple(moment_of(jittered(view.spec, schedule_id, each)) for each in times)
    return ScheduleDescription(
        schedule_id,
        state=view,
        coming=coming,
        is_suspended=state.status is Status.SUSPENDED,
        reason=state.reason,
    )


def _us(name: str, value: Any) -> int:
    if value is None:
        return 0
    try:
        found = microseconds(value)
    except errors.UsageError as error:
        raise errors.UsageError(f"{name}: {error}") from None
    if not found and name in ("every", "timeout"):
        raise errors.UsageError(f"{name} must be positive")
    return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise errors.UsageError(f"{name} must be text, not {value!r}")
    return value


def _page(query: ListQuery, reader: Reader) -> list[WorkflowState]:
    return reader.list(query)


def _after(query: ListQuery, last: WorkflowState) -> ListQuery:
    from msgspec.structs import replace as with_fields

    return with_fields(query, after=query.key_of(last))
