"""Routes that read workflows."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs
from starlette.responses import Response

from perdure.adapters.http.contract import EVENTS_LIMIT, NEXT, RECORD, cursor_of, encode_records
from perdure.api.admitted import AdmittedRequest
from perdure.api.asking import record_of, wants_record
from perdure.api.json_views import failure, history_page, payload, state
from perdure.api.parameters import (
    FILTERS,
    MOMENTS,
    PAGING,
    only,
    position,
    refused,
    segment,
    timeout_s,
    whole,
)
from perdure.api.problems import of_refusal, problem
from perdure.api.roles import Role
from perdure.api.routing import ENCODER, Routes, encoded, json
from perdure.api.sending import answer
from perdure.client.description import describe, run_of
from perdure.client.position import Position
from perdure.client.request_ids import fresh_request_id
from perdure.codec.records import encode_reply, encode_state
from perdure.errors import EngineUnavailable, RequestRefused
from perdure.model.commands import AwaitWorkflow
from perdure.model.replies import AskAgain, Closed, Refused

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.model.replies import AnyReply
    from perdure.model.states import WorkflowState

WAIT_S: Final = 10.0
RESULT_S: Final = 30.0
PAGE_BYTES: Final = 2 * 1024 * 1024
"""The size of a page of a list, bytes; the page ends with the state that exceeds it."""
routes = Routes()

_STATE: Final = {
    "id": "order-1", "run_id": "01jf", "type": "Order", "status": "running",
    "started_at": "2027-01-31T12:00:00.000000Z",
    "updated_at": "2027-01-31T12:00:01.000000Z", "closed_at": None, "history_length": 9,
    "view": {"state": "paid"}, "attributes": {}, "memo": {"ticket": 7}, "details": "waits for **Ada**",
    "waits": [{"kind": "timer", "name": None, "number": 1, "attempt": None, "scheduled_at": None,
            "due_at": "2027-01-31T12:01:00.000000Z", "summary": "until the driver must have accepted"}],
    "result": None, "failure": None, "reason": None,
}  # fmt: skip


def _ok(example: Any, description: str = "OK") -> dict[str, Any]:
    return {"200": {"description": description, "content": {"application/json": {"example": example}}}}


def query_parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """A parameter of the query string, for the OpenAPI document."""
    return {"name": name, "in": "query", "schema": {"type": "string", **schema}, "description": description}


_AFTER: Final = [
    query_parameter("after", "Wait until reads reflect this position, as returned by a write."),
    query_parameter("timeout", 'How long to wait for it: "10s" by default, at most a minute.'),
]
FILTER_PARAMETERS: Final = [
    query_parameter("type", "Workflow type; may be repeated."),
    query_parameter("status", "Status; may be repeated."),
    query_parameter("id_prefix", "Prefix of the workflow id."),
    query_parameter("attribute", "`name:value`, the value as JSON; may be repeated."),
    query_parameter("where", "A condition on attributes: `cents < 500 and city in ('Bari', 'Rome')`."),
    *(query_parameter(name, "RFC 3339, or microseconds since 1970.") for name in MOMENTS),
]
_PAGING: Final = [
    query_parameter("sort", "Sort key.", enum=["started_at", "updated_at", "closed_at", "workflow_id"]),
    query_parameter("order", "Sort order: greatest or least first.", enum=["desc", "asc"]),
    query_parameter("limit", "Page size, 1 to 1000."),
    query_parameter("cursor", "`next` of the previous page."),
]
assert {each["name"] for each in (*FILTER_PARAMETERS, *_PAGING)} == {*FILTERS, *MOMENTS, *PAGING}


@routes.add(
    "GET", "/workflows", Role.VIEWER, "List workflows", parameters=[*FILTER_PARAMETERS, *_PAGING],
    responses=_ok({"workflows": [_STATE], "next": "WyJzdGFy"}),
)  # fmt: skip
async def list_workflows(asked: AdmittedRequest) -> Response:
    """A page of workflows; `next` is the cursor of the next page, null at the end."""
    query = structs.replace(asked.query(), max_bytes=PAGE_BYTES)
    is_record = wants_record(asked)

    def read(reader: Reader) -> tuple[bytes, str | None]:
        with asked.backend.large.turn():
            page = reader.list(query)
            following = cursor_of(query.sort, query.key_of(page[-1])) if query.is_cut(page) else None
            found = [asked.shown(each) for each in page]
            if is_record:
                return encode_records([encode_state(each) for each in found]), following
            shown = [state(asked.backend.readable.struct(each)) for each in found]
            return ENCODER.encode({"workflows": shown, "next": following}), following

    body, following = await asked.backend.read_large(read)
    headers = {NEXT: following} if following is not None else None
    return answer(body, 200, headers, RECORD) if is_record else encoded(body, 200, headers)


@routes.add(
    "GET", "/workflows/counts", Role.VIEWER, "Count workflows by type and status",
    parameters=FILTER_PARAMETERS,
    responses=_ok({"counts": [{"type": "Order", "status": "running", "count": 12}]}),
)  # fmt: skip
async def count_workflows(asked: AdmittedRequest) -> Response:
    """Count workflows by type and status."""
    query = asked.query(is_paged=False)
    found = await asked.backend.read_large(lambda reader: reader.counts(query))
    return json(
        {
            "counts": [
                {"type": kind, "status": status, "count": count}
                for (kind, status), count in sorted(found.items())
            ]
        }
    )


@routes.add(
    "GET", "/workflows/{id}", Role.VIEWER, "The state of a workflow", parameters=_AFTER, responses=_ok(_STATE)
)
async def read_workflow(asked: AdmittedRequest) -> Response:
    """The public state of a workflow. It is stored, and can be read at any time, without an
    engine.
    """
    found = await _state(asked)
    if wants_record(asked):
        return answer(encode_state(found), 200, None, RECORD)
    return json(state(await asked.backend.opened(found)))


@routes.add(
    "GET",
    "/workflows/{id}/view",
    Role.READER,
    "The view of a workflow",
    parameters=_AFTER,
    responses=_ok({"state": "paid"}),
)
async def read_view(asked: AdmittedRequest) -> Response:
    """The last result of `@workflow.view`."""
    found = await _state(asked)
    if not found.view:
        why = found.reason or "its code has not run yet, or its class defines none"
        raise problem("workflow-not-found", f"workflow {found.workflow_id!r} has no view: {why}")
    return json(payload((await asked.backend.opened(found)).view))


@routes.add(
    "GET",
    "/workflows/{id}/describe",
    Role.VIEWER,
    "Describe a workflow: what it waits for",
    responses=_ok({"workflow": _STATE}),
)
async def describe_workflow(asked: AdmittedRequest) -> Response:
    """Describe a run from its history: activities with their attempts, timers, reasons of waits."""
    only(asked.request.query_params)
    found = await _state(asked)
    run = await asked.backend.read_large(lambda reader: run_of(found, reader, asked.backend.large.turn))
    found = await asked.backend.opened(found)
    told = describe(found, run, None, {}, asked.backend.readable.failure)
    if not asked.has_payloads:
        told = replace(
            told,
            reason="",
            activities=tuple(replace(each, reason="", summary="") for each in told.activities),
            timers=tuple(replace(each, summary="") for each in told.timers),
            children=tuple(replace(each, summary="") for each in told.children),
        )
    activities = [
        {
            **asdict(each),
            "retry_at": each.retry_at and each.retry_at.isoformat(),
            "expires_at": each.expires_at and each.expires_at.isoformat(),
        }
        for each in told.activities
    ]
    timers = [{**asdict(each), "fires_at": each.fires_at.isoformat()} for each in told.timers]
    others = {
        "paused": None
        if told.paused is None
        else {**asdict(told.paused), "since": told.paused.since.isoformat()},
        "children": [{**asdict(each), "since": each.since.isoformat()} for each in told.children],
        "messages": [{**asdict(each), "since": each.since.isoformat()} for each in told.messages],
        "updates": [{**asdict(each), "since": each.since.isoformat()} for each in told.updates],
        "others": [
            {
                **asdict(each),
                "since": each.since and each.since.isoformat(),
                "until": each.until and each.until.isoformat(),
            }
            for each in told.others
        ],
    }
    shown = {"workflow": state(found), "activities": activities, "timers": timers, **others}
    return json({**shown, "reason": told.reason or None})


@routes.add(
    "GET", "/workflows/{id}/history", Role.READER, "The history of a run",
    parameters=[query_parameter("run_id", "Run id; the current or last run by default."),
        query_parameter("from", "First event id of the page."),
        query_parameter("limit", "Page size, 1 to 1000 events.")],
    responses=_ok({"run_id": "01jf", "events": [{"event_id": 1, "at": "2027-01-31T12:00:00.000000Z",
                    "type": "WorkflowStarted"}], "next": 101}),
)  # fmt: skip
async def read_history(asked: AdmittedRequest) -> Response:
    """A page of events; `next` is where the next page begins, null at the end."""
    parameters = asked.request.query_params
    only(parameters, "run_id", "from", "limit")
    workflow_id, run_id = _id(asked), parameters.get("run_id", "")
    begin, limit = (
        whole(parameters, "from", 1, 1, 2**62),
        whole(parameters, "limit", EVENTS_LIMIT, 1, EVENTS_LIMIT),
    )
    wanted = run_id or (await _state(asked)).run_id
    is_record = wants_record(asked)

    def read(reader: Reader) -> bytes:
        page = reader.history(workflow_id, wanted, begin, limit)
        if not page.records:
            return b""
        if is_record:
            return encode_reply(page)
        with asked.backend.large.turn():
            return history_page(wanted, page, begin, limit, asked.backend.readable)

    body = await asked.backend.read_large(read)
    if not body:
        raise problem("workflow-not-found", f"workflow {workflow_id!r} has no run {wanted!r}")
    return answer(body, 200, None, RECORD) if is_record else encoded(body)


@routes.add(
    "GET", "/workflows/{id}/result", Role.READER, "Wait for the result of a run",
    parameters=[query_parameter("run_id", "Run id; the current or last run by default."),
        query_parameter("timeout", 'How long to wait: "30s" by default, at most a minute.')],
    responses={**_ok({"run_id": "01jf", "status": "completed", "result": "receipt", "failure": None,
                "reason": None}), "204": {"description": "The run is still open: retry"}},
)  # fmt: skip
async def await_result(asked: AdmittedRequest) -> Response:
    """Wait for the end of a run, of whatever kind."""
    parameters = asked.request.query_params
    only(parameters, "run_id", "timeout")
    workflow_id, run_id = _id(asked), parameters.get("run_id", "")
    command = AwaitWorkflow(workflow_id, run_id, fresh_request_id())
    try:
        reply = await unless_closing(asked, command, timeout_s(parameters, RESULT_S))
    except EngineUnavailable:
        found = await asked.backend.state(workflow_id)
        if found is None:
            raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}") from None
        if not found.status.is_closed or run_id not in {"", found.run_id}:
            reply = AskAgain(command.request_id)
        else:
            reply = Closed(
                command.request_id, found.run_id, found.status, found.result, found.failure, found.reason
            )
    if isinstance(reply, Refused):
        refusal = of_refusal(reply)
        return record_of(reply, refusal.status) if wants_record(asked) else refusal.response()
    if wants_record(asked):
        return record_of(reply, 200)
    if not isinstance(reply, Closed):
        return Response(status_code=204, headers={"Retry-After": "0"})
    return json(state_of_end(await asked.backend.opened(reply)))


@routes.add(
    "GET",
    "/workflows/{id}/position",
    Role.VIEWER,
    "The current position of the event log",
    responses=_ok({"position": "3-1042"}),
)
async def read_position(asked: AdmittedRequest) -> Response:
    """A position, for `after` of a read, here or in another process."""
    only(asked.request.query_params)
    return json({"position": str(await asked.backend.transport.position(_id(asked)))})


@routes.add(
    "GET", "/positions/{position}", Role.VIEWER, "Wait until reads reflect a position",
    parameters=[_AFTER[1]],
    responses=_ok({"is_reached": True}),
)  # fmt: skip
async def await_position(asked: AdmittedRequest) -> Response:
    """Wait until reads reflect a position."""
    only(asked.request.query_params, "timeout")
    try:
        wanted = Position.parse(asked.request.path_params["position"])
    except RequestRefused as error:
        raise refused(str(error)) from None
    seconds = timeout_s(asked.request.query_params, WAIT_S)
    return json({"is_reached": await asked.backend.reached(wanted, seconds)})


async def unless_closing(asked: AdmittedRequest, command: AwaitWorkflow, seconds: float) -> AnyReply:
    """Wait, but end with "retry elsewhere" when the server stops."""
    closing = asyncio.create_task(asked.request.app.state.hub.closing.wait())
    asking = asyncio.create_task(asked.backend.transport.request(command, seconds))
    try:
        await asyncio.wait((asking, closing), return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else AskAgain(command.request_id)
    finally:
        closing.cancel()
        asking.cancel()


def state_of_end(reply: Closed) -> dict[str, Any]:
    """The state of a closed run."""
    return {
        "run_id": reply.run_id,
        "status": str(reply.status),
        "result": payload(reply.result),
        "failure": failure(reply.failure),
        "reason": reply.reason or None,
    }


async def _state(asked: AdmittedRequest) -> WorkflowState:
    workflow_id = _id(asked)
    parameters = asked.request.query_params
    after = position(parameters)
    if after is not None:
        seconds = timeout_s(parameters, WAIT_S)
        if not await asked.backend.reached(after, seconds):
            raise problem(
                "read-lags",
                f"reads are still behind position {after} after {seconds:g} s; retry, or wait longer",
            )
    found = await asked.backend.state(workflow_id)
    if found is None:
        raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}")
    return asked.shown(found)


def _id(asked: AdmittedRequest) -> str:
    return segment(asked.request.path_params["id"])
