"""Schedules over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.api.asking import KEY, accept, accepted_response, check_arguments, refused_response
from perdure.api.bodies import Backfill, Body, NewSchedule, Note, body_of, schema_of
from perdure.api.parameters import only, refused, segment
from perdure.api.problems import problem
from perdure.api.reading import RESULT_S
from perdure.api.roles import Role
from perdure.api.routing import Routes, json
from perdure.api.updating import answered
from perdure.builtin.schedule import PREFIX, SCHEDULE, Schedule, State
from perdure.builtin.schedule_times import Spec, check, moment_of, us_of
from perdure.client.listing import PAGE_LIMIT, ListQuery
from perdure.client.reading import state_of
from perdure.client.schedules import ScheduleDescription, changed, described, fault_of_schedule
from perdure.codec.payloads import JsonPayloads
from perdure.errors import PayloadError, UsageError
from perdure.model.commands import SignalWorkflow, StartWorkflow, UpdateWorkflow
from perdure.model.duration import moment_us
from perdure.model.replies import Accepted
from perdure.model.states import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from perdure.api.admitted import AdmittedRequest
    from perdure.client.ports import Reader
    from perdure.model.states import WorkflowState

routes = Routes()
_payloads: Final = JsonPayloads()
_EXAMPLE: Final = {
    "type": "Report", "args": ["sales"], "cron": "0 3 * * *", "timezone": "Europe/Rome", "overlap": "skip",
}  # fmt: skip


def _content(example: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"example": example}}}


def _body(kind: type[Body], example: Any) -> dict[str, Any]:
    return {"schema": schema_of(kind), "example": example}


@routes.add("GET", "/schedules", Role.READER, "All schedules, by id")
async def list_schedules(asked: AdmittedRequest) -> Response:
    """All schedules."""
    only(asked.request.query_params)
    query = ListQuery.of(
        type=SCHEDULE.name, status=(Status.RUNNING, Status.SUSPENDED), sort="workflow_id", order="oldest",
        limit=PAGE_LIMIT,
    )  # fmt: skip
    found: list[WorkflowState] = []
    while page := await asked.backend.transport.read(partial(_page, query)):
        found += page
        if len(page) < PAGE_LIMIT:
            break
        query = msgspec.structs.replace(query, after=query.key_of(page[-1]))
    return json({"schedules": [_shown(_described(asked, each)) for each in found]})


@routes.add(
    "POST", "/schedules/{id}", Role.OPERATOR, "Create a schedule", action="create schedule", parameters=[KEY],
    body=_body(NewSchedule, _EXAMPLE),
    responses={"201": {"description": "Created, durably", **_content({"id": "schedule/nightly"})}},
)  # fmt: skip
async def create_schedule(asked: AdmittedRequest) -> Response:
    """Create a schedule."""
    only(asked.request.query_params)
    schedule_id = _id(asked)
    body = await body_of(asked.request, NewSchedule)
    spec = _spec_of(asked, body)
    asked.about(PREFIX + schedule_id, spec.type)
    given = (spec, State(is_paused=body.paused, note=body.note))
    payload = _payloads.encode_plainly(SCHEDULE.run_fn, given, {}, what=f"schedule {schedule_id!r}")
    command = StartWorkflow(PREFIX + schedule_id, type=SCHEDULE.name, input=await asked.encoded(payload))
    reply = await accept(asked, command)
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    return json({"id": PREFIX + schedule_id, "run_id": reply.run_id, "is_new": reply.is_new}, 201)


@routes.add("GET", "/schedules/{id}", Role.READER, "A schedule: its next times and last runs")
async def show_schedule(asked: AdmittedRequest) -> Response:
    """One schedule."""
    only(asked.request.query_params)
    return json(_shown(await _found(asked)))


@routes.add(
    "PUT", "/schedules/{id}", Role.OPERATOR, "Replace what a schedule starts, and when",
    action="update schedule", parameters=[KEY], body=_body(NewSchedule, _EXAMPLE),
    responses={"200": {"description": "Replaced, durably", **_content({"result": None})}},
)  # fmt: skip
async def update_schedule(asked: AdmittedRequest) -> Response:
    """Replace a schedule, from its next time on."""
    only(asked.request.query_params)
    _id(asked)
    spec = _spec_of(asked, await body_of(asked.request, NewSchedule))
    return await _updated(asked, "change", Schedule.change.fn, (spec,))


@routes.add(
    "DELETE", "/schedules/{id}", Role.OPERATOR, "End a schedule; its runs continue",
    action="delete schedule", parameters=[KEY],
    responses={"202": {"description": "Recorded, durably", **_content({"id": "schedule/nightly"})}},
)  # fmt: skip
async def delete_schedule(asked: AdmittedRequest) -> Response:
    """End a schedule."""
    only(asked.request.query_params)
    return await _signalled(asked, "delete", b"[]")


def _pausing(name: str, summary: str) -> None:
    @routes.add(
        "POST", f"/schedules/{{id}}/{name}", Role.OPERATOR, summary, action=f"{name} schedule",
        parameters=[KEY], body=_body(Note, {"note": "until the data has moved"}),
        responses={"202": {"description": "Recorded, durably", **_content({"id": "schedule/nightly"})}},
    )  # fmt: skip
    async def signal(asked: AdmittedRequest) -> Response:
        only(asked.request.query_params)
        body = await body_of(asked.request, Note, is_needed=False)
        return await _signalled(asked, name, msgspec.json.encode([body.note]))

    signal.__name__ = f"{name}_schedule"


_pausing("pause", "Start no runs at the times that come")
_pausing("unpause", "Start runs again, from the next time on")


@routes.add(
    "POST", "/schedules/{id}/trigger", Role.OPERATOR, "Start a run now", action="trigger schedule",
    parameters=[KEY],
    responses={"200": {"description": "The id of the run",
            **_content({"result": "nightly-2026-12-01T02:00:00Z"})}},
)  # fmt: skip
async def trigger_schedule(asked: AdmittedRequest) -> Response:
    """Start a run."""
    only(asked.request.query_params)
    _id(asked)
    return await _updated(asked, "trigger", Schedule.trigger.fn, ())


@routes.add(
    "POST", "/schedules/{id}/backfill", Role.OPERATOR, "Start the runs of past times",
    action="backfill schedule", parameters=[KEY],
    body=_body(Backfill, {"first": "2026-12-01T00:00:00Z", "last": "2026-12-07T00:00:00Z"}),
    responses={"200": {"description": "The number of times", **_content({"result": 7})}},
)  # fmt: skip
async def backfill_schedule(asked: AdmittedRequest) -> Response:
    """Start the runs of past times."""
    only(asked.request.query_params)
    _id(asked)
    body = await body_of(asked.request, Backfill)
    moments = tuple(moment_of(moment_us(each, "a moment")) for each in (body.first, body.last))
    return await _updated(asked, "backfill", Schedule.backfill.fn, moments)


def _page(query: ListQuery, reader: Reader) -> list[WorkflowState]:
    return reader.list(query)


async def _signalled(asked: AdmittedRequest, name: str, payload: bytes) -> Response:
    target = PREFIX + _id(asked)
    asked.about(target, name)
    given = await asked.encoded(payload)
    command = SignalWorkflow(target, name=name, input=given)
    reply = await accept(asked, command)
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    return await accepted_response(asked, command, reply)


async def _updated(
    asked: AdmittedRequest, name: str, fn: Callable[..., Any], args: tuple[Any, ...]
) -> Response:
    """Send an update, and answer with its result."""
    target = PREFIX + _id(asked)
    asked.about(target, name)
    given = await asked.encoded(_payloads.encode_plainly(fn, args, {}, what=f"update {name!r}"))
    reply = await accept(asked, UpdateWorkflow(target, name=name, input=given))
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    return await answered(asked, target, reply.run_id, reply.request_id, RESULT_S)


def _spec_of(asked: AdmittedRequest, body: NewSchedule) -> Spec:
    options = {
        name: getattr(body, name)
        for name in ("cron", "every", "timezone", "exclude", "jitter", "overlap", "catch_up", "timeout")
    }
    registry = asked.backend.registry
    definition = None if registry is None else registry.workflows.get(body.type)
    if definition is not None:
        check_arguments(definition.run_fn, body.payload, f"workflow {body.type!r}")
    args: Any = msgspec.json.decode(body.payload)
    try:
        spec = changed(Spec(body.type, args), options)
        check(spec, us_of(datetime.now(UTC)))
    except UsageError as error:
        raise refused(str(error)) from None
    return spec


async def _found(asked: AdmittedRequest) -> ScheduleDescription:
    schedule_id = _id(asked)
    state = await state_of(asked.backend.transport, PREFIX + schedule_id)
    if state is None or state.type != SCHEDULE.name or state.status.is_closed:
        raise problem("workflow-not-found", f"there is no schedule {schedule_id!r}")
    return _described(asked, state)


def _described(asked: AdmittedRequest, state: WorkflowState) -> ScheduleDescription:
    try:
        return described(state, asked.backend.payloads)
    except PayloadError as error:
        raise problem("unavailable", str(error)) from None


def _shown(found: ScheduleDescription) -> dict[str, Any]:
    state = asdict(found.state)
    return {"id": found.id, **state, "coming": found.coming, "reason": found.reason or None}


def _id(asked: AdmittedRequest) -> str:
    found = segment(asked.request.path_params["id"])
    if fault := fault_of_schedule(found):
        raise refused(fault)
    return found
