"""Jobs: activities without a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from perdure.api.asking import (
    KEY,
    accept,
    accepted_response,
    check_arguments,
    encoded_memo,
    refused_response,
    trace_of,
)
from perdure.api.bodies import Job, body_of, duration_us, schema_of
from perdure.api.parameters import only, refused
from perdure.api.roles import Role
from perdure.api.routing import Routes
from perdure.builtin.job import JOB, JobCall, attributes_of
from perdure.client.reading import state_of
from perdure.client.request_ids import fresh_request_id
from perdure.codec.payloads import JsonPayloads
from perdure.model.commands import StartWorkflow
from perdure.model.duration import moment_us
from perdure.model.limits import fault_of_id
from perdure.model.options import ActivityOptions
from perdure.model.replies import Accepted, Refused

if TYPE_CHECKING:
    from starlette.responses import Response

    from perdure.api.admitted import AdmittedRequest

routes = Routes()
_payloads: Final = JsonPayloads()
_EXAMPLE: Final = {"id": "charge-1", "run_id": "01jf", "is_new": True, "position": "3-1042"}


@routes.add(
    "POST", "/jobs", Role.OPERATOR, "Start a job: an activity without a workflow", action="start",
    parameters=[KEY],
    body={
        "schema": schema_of(Job),
        "example": {"activity": "charge", "id": "charge-1", "args": ["order-1"], "options": {"delay": "5m"}},
    },
    responses={
        "201": {"description": "Started, durably", "content": {"application/json": {"example": _EXAMPLE}}},
        "200": {"description": "The job with this id: it is not run again",
            "content": {"application/json": {"example": _EXAMPLE}}},
    },
)  # fmt: skip
async def start_job(asked: AdmittedRequest) -> Response:
    """Start a job. `GET /workflows/{id}/result` has its result."""
    only(asked.request.query_params)
    body = await body_of(asked.request, Job)
    job_id = body.id or f"job-{fresh_request_id()}"
    asked.about(job_id, body.activity)
    if fault := fault_of_id(job_id) or fault_of_id(body.activity, "activity"):
        raise refused(fault)
    options = body.options
    if options.delay is not None and options.start_at is not None:
        raise refused("give delay or start_at, not both")
    if options.timeout is not None and not duration_us("timeout", options.timeout):
        raise refused("timeout must be positive; omit it for no timeout")
    call = _call_of(asked, body)
    command = StartWorkflow(
        job_id,
        type=JOB.name,
        input=await asked.encoded(_payloads.encode_plainly(JOB.run_fn, (call,), {}, what=f"job {job_id!r}")),
        if_running="attach",
        if_closed=options.if_closed,
        delay_us=duration_us("delay", options.delay),
        start_at=moment_us(options.start_at, "start_at") if options.start_at else 0,
        timeout_us=duration_us("timeout", options.timeout),
        attributes=msgspec.json.encode(attributes_of(body.activity, options.attributes or {})),
        trace=trace_of(asked),
        context=msgspec.json.encode(options.context) if options.context else b"",
        memo=await encoded_memo(asked, options.memo_payload),
    )
    reply = await accept(asked, command)
    if isinstance(reply, Refused) and reply.code == "already_started" and reply.run_id:
        state = await state_of(asked.backend.transport, job_id)
        if state is not None and state.type == JOB.name:
            reply = Accepted(reply.request_id, reply.run_id, is_new=False)
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    return await accepted_response(asked, command, reply, new_status=201)


def _call_of(asked: AdmittedRequest, body: Job) -> JobCall:
    """The call of the activity; checked, with the options of the activity, if the app is known
    here.
    """
    registry = asked.backend.registry
    activity = None if registry is None else registry.activities.get(body.activity)
    options = ActivityOptions() if activity is None else activity.defaults
    given = body.payload
    if activity is not None:
        check_arguments(activity.fn, given, f"activity {body.activity!r}")
    if body.options.queue:
        if options.is_step:
            raise refused(f"activity {body.activity!r} is a step, which has no queue")
        if fault := fault_of_id(body.options.queue, "queue"):
            raise refused(fault)
        options = replace(options, queue=body.options.queue)
    args: Any = msgspec.json.decode(given)
    return JobCall(body.activity, args, options)
