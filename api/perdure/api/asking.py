"""Requests to workflows: start, signal, query, cancel, terminate."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import structs
from starlette.responses import Response

from perdure.adapters.http.contract import RECORD
from perdure.api.admitted import AdmittedRequest
from perdure.api.bodies import (
    Arguments,
    Body,
    Reason,
    Start,
    body_of,
    checked_id,
    checked_reason,
    duration_us,
    schema_of,
)
from perdure.api.json_views import failure, payload
from perdure.api.parameters import only, refused, segment
from perdure.api.problems import of_refusal, problem
from perdure.api.roles import Role
from perdure.api.routing import Routes, json
from perdure.api.sending import answer
from perdure.client.request_ids import fresh_request_id
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import encode_reply
from perdure.errors import PayloadError
from perdure.model.commands import (
    CancelWorkflow,
    DeleteWorkflow,
    QueryWorkflow,
    Request,
    SignalWorkflow,
    StartWorkflow,
    TerminateWorkflow,
)
from perdure.model.duration import moment_us
from perdure.model.limits import fault_of_id, fault_of_memo
from perdure.model.replies import Accepted, Answered, AnyReply, QueryRaised, Refused
from perdure.model.traceparent import traceparent
from perdure.model.validation import fault_of

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_S: Final = 15.0
routes = Routes()
_payloads: Final = JsonPayloads()
ACCEPTED: Final = {"example": {"id": "order-1", "run_id": "01jf", "is_new": True, "position": "3-1042"}}


def _body(kind: type[Body], example: Any) -> dict[str, Any]:
    return {"schema": schema_of(kind), "example": example}


KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "A request repeated with the same key by the same caller, for the same operation and "
    "workflow, has "
    "no second effect and gets the same answer; with different content it is rejected (422).",
}
BODY: Final = _body(Arguments, {"args": ["Grace"]})


@routes.add(
    "POST", "/workflows", Role.OPERATOR, "Start a workflow", action="start", parameters=[KEY],
    body=_body(
        Start,
        {"type": "Order", "id": "order-1", "args": ["burrata"], "options": {"if_closed": "refuse"}},
    ),
    responses={
        "201": {"description": "Started, durably", "content": {"application/json": ACCEPTED}},
        "200": {"description": "Already running: attached, or the same request repeated",
            "content": {"application/json": ACCEPTED}},
    },
)  # fmt: skip
async def start_workflow(asked: AdmittedRequest) -> Response:
    """Start a workflow."""
    only(asked.request.query_params)
    body = await body_of(asked.request, Start)
    asked.about(body.id, body.type)
    if fault := fault_of_id(body.id) or fault_of_id(body.type, "type"):
        raise refused(fault)
    options, given = body.options, body.payload
    if options.timeout is not None and not duration_us("timeout", options.timeout):
        raise refused("timeout must be positive; omit it for no timeout")
    if options.delay is not None and options.start_at is not None:
        raise refused("give delay or start_at, not both")
    attributes = msgspec.json.encode(options.attributes) if options.attributes else b""
    if (
        asked.backend.registry is not None
        and (definition := asked.backend.registry.workflows.get(body.type)) is not None
    ):
        check_arguments(definition.run_fn, given, f"workflow {body.type!r}")
    if body.update is not None and (body.signal is not None or options.if_running != "attach"):
        raise refused(
            'a start with an update requires if_running="attach", and takes no signal: the update goes to '
            "the open run, or to the new one"
        )
    if body.update is not None and (fault := fault_of_id(body.update.name, "update's name")):
        raise refused(fault)
    if body.signal is not None:
        if options.if_running != "attach":
            raise refused(
                'a start with a signal requires "if_running": "attach": the signal goes to the open run, or '
                "to the new one"
            )
        if fault := fault_of_id(body.signal.name, "signal's name"):
            raise refused(fault)
    payloads = [body.payload, *(each.payload for each in (body.signal, body.update) if each is not None)]
    encoded = [await asked.encoded(each) for each in payloads]
    memo = await encoded_memo(asked, options.memo_payload)
    command = StartWorkflow(
        body.id,
        request_id=request_id_of(asked),
        type=body.type,
        input=encoded[0],
        if_running=options.if_running,
        if_closed=options.if_closed,
        delay_us=duration_us("delay", options.delay),
        start_at=moment_us(options.start_at, "start_at") if options.start_at else 0,
        timeout_us=duration_us("timeout", options.timeout),
        attributes=attributes,
        trace=trace_of(asked),
        context=msgspec.json.encode(options.context) if options.context else b"",
        memo=memo,
        signal_name=body.signal.name if body.signal is not None else "",
        signal_input=encoded[1] if body.signal is not None else b"[]",
        update_name=body.update.name if body.update is not None else "",
        update_input=encoded[-1] if body.update is not None else b"[]",
    )
    return await accepted(asked, command, new_status=201)


@routes.add(
    "POST", "/workflows/{id}/signals/{name}", Role.OPERATOR, "Send a signal", action="signal",
    parameters=[KEY],
    body=BODY,
    responses={"202": {"description": "Recorded durably; its handler may still be running",
            "content": {"application/json": ACCEPTED}}},
)  # fmt: skip
async def signal_workflow(asked: AdmittedRequest) -> Response:
    """Send a signal."""
    only(asked.request.query_params)
    workflow_id, name = _id(asked), segment(asked.request.path_params["name"], "signal's name")
    asked.about(workflow_id, name)
    body = await body_of(asked.request, Arguments, is_needed=False)
    run_id = checked_id(body.run_id, "run id")
    given = await asked.encoded(body.payload)
    command = SignalWorkflow(
        workflow_id, run_id, request_id_of(asked), name=name, input=given, trace=trace_of(asked)
    )
    return await accepted(asked, command)


@routes.add(
    "POST", "/workflows/{id}/queries/{name}", Role.READER, "Query the live run",
    body=_body(Arguments, {"args": []}),
    responses={"200": {"description": "The query's result",
            "content": {"application/json": {"example": {"result": "PT30S"}}}}},
)  # fmt: skip
async def query_workflow(asked: AdmittedRequest) -> Response:
    """Query a run. Leaves no event."""
    only(asked.request.query_params)
    workflow_id, name = _id(asked), segment(asked.request.path_params["name"], "query's name")
    body = await body_of(asked.request, Arguments, is_needed=False)
    run_id = checked_id(body.run_id, "run id")
    given = await asked.encoded(body.payload)
    reply = await _reply(
        asked, QueryWorkflow(workflow_id, run_id, fresh_request_id(), name=name, input=given)
    )
    if not wants_record(asked):
        reply = await asked.backend.opened(reply)
    if isinstance(reply, QueryRaised):
        raised = problem(
            "query-failed", f"{reply.failure.type}: {reply.failure.message}", failure=failure(reply.failure)
        )
        return record_of(reply, raised.status) if wants_record(asked) else raised.response()
    if not isinstance(reply, Answered):
        return refused_response(asked, reply)
    return record_of(reply, 200) if wants_record(asked) else json({"result": payload(reply.result)})


def _ending(path: str, summary: str, action: str, kind: Callable[..., Any]) -> None:
    @routes.add(
        "POST", f"/workflows/{{id}}/{path}", Role.OPERATOR, summary, action=action, parameters=[KEY],
        body=_body(Reason, {"reason": "changed my mind"}),
        responses={"202": {"description": "Recorded, durably", "content": {"application/json": ACCEPTED}}},
    )  # fmt: skip
    async def end(asked: AdmittedRequest) -> Response:
        only(asked.request.query_params)
        body = await body_of(asked.request, Reason, is_needed=False)
        run_id, reason = checked_id(body.run_id, "run id"), checked_reason(body.reason)
        asked.about(_id(asked), reason)
        return await accepted(asked, kind(asked.target, run_id, request_id_of(asked), reason=reason))

    end.__name__ = f"{path}_workflow"


_ending("cancel", "Request cancellation of a run", "cancel", CancelWorkflow)
_ending("terminate", "Terminate a run, without running any of its code", "terminate", TerminateWorkflow)


@routes.add(
    "DELETE", "/workflows/{id}", Role.ADMIN, "Delete a closed run, or all of a workflow", action="delete",
    parameters=[
        KEY,
        {"name": "run_id", "in": "query", "schema": {"type": "string"}, "description": "Only this run."},
        {"name": "reason", "in": "query", "schema": {"type": "string"}, "description": "For the audit log."},
    ],
    responses={"202": {"description": "Deleted, durably", "content": {"application/json": ACCEPTED}}},
)  # fmt: skip
async def delete_workflow(asked: AdmittedRequest) -> Response:
    """Remove all records of closed runs. An open run is refused."""
    given = asked.request.query_params
    only(given, "run_id", "reason")
    run_id, reason = checked_id(given.get("run_id", ""), "run id"), checked_reason(given.get("reason", ""))
    asked.about(_id(asked), reason)
    return await accepted(asked, DeleteWorkflow(asked.target, run_id, request_id_of(asked), reason=reason))


async def accepted(asked: AdmittedRequest, command: Request, new_status: int = 202) -> Response:
    """Send a change to the engine; return the response once the change is durable."""
    reply = await _reply(asked, command)
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    return await accepted_response(asked, command, reply, new_status)


async def accepted_response(
    asked: AdmittedRequest, command: Request, reply: Accepted, new_status: int = 202
) -> Response:
    """The response to a change that is durable."""
    status = new_status if reply.is_new or new_status != 201 else 200
    if wants_record(asked):
        return record_of(reply, status)
    position = await asked.backend.transport.position(command.workflow_id)
    told = {
        "id": command.workflow_id,
        "run_id": reply.run_id,
        "is_new": reply.is_new,
        "position": str(position),
    }
    if isinstance(command, StartWorkflow) and command.update_name:
        told["update_id"] = command.request_id
    return json(told, status, {"Perdure-Position": str(position)})


async def accept(asked: AdmittedRequest, command: Request) -> AnyReply:
    """Send a request under the caller's idempotency key, and return the engine's reply."""
    return await _reply(asked, structs.replace(command, request_id=request_id_of(asked)))


async def _reply(asked: AdmittedRequest, command: Request) -> AnyReply:
    if fault := fault_of(command):
        return Refused(command.request_id, *fault)
    async with asked.backend.turns.of(command.request_id):
        return await asked.backend.transport.request(command, REQUEST_S)


def refused_response(asked: AdmittedRequest, reply: AnyReply) -> Response:
    """The answer to a request that the engine has refused."""
    if not isinstance(reply, Refused):
        raise problem("internal", f"the engine sent {type(reply).__name__}: does it run another version?")
    refusal = of_refusal(reply)
    return record_of(reply, refusal.status) if wants_record(asked) else refusal.response()


def record_of(reply: AnyReply, status: int) -> Response:
    """A response with the engine's reply as an encoded record, for perdure's own client."""
    return answer(encode_reply(reply), status, None, RECORD)


def wants_record(asked: AdmittedRequest) -> bool:
    """Whether the caller is perdure's own client, which takes records instead of JSON."""
    return asked.request.headers.get("accept", "") == RECORD


def request_id_of(asked: AdmittedRequest) -> str:
    """A fresh request id, or one derived from the caller's idempotency key. The key is
    percent-decoded, so that it may be any text.

    The id also depends on the caller and the operation, since two callers may choose the same key.
    """
    key = asked.request.headers.get("idempotency-key")
    if key is None:
        asked.request_id = fresh_request_id()
        return asked.request_id
    text = unquote(key)
    if fault := fault_of_id(text, "Idempotency-Key"):
        raise refused(fault)
    scope = asked.principal.name, asked.request.method, asked.request.scope["route"].path, text
    asked.request_id = f"key-{sha256(msgspec.json.encode(scope)).hexdigest()[:40]}"
    return asked.request_id


def trace_of(asked: AdmittedRequest) -> str:
    """The traceparent of the request; empty: it has none."""
    return traceparent(asked.request.headers.get("traceparent", ""))


async def encoded_memo(asked: AdmittedRequest, given: bytes) -> bytes:
    """The payload of a memo.

    Args:
        asked: the request that has it.
        given: its JSON, or a payload that the caller has encoded; empty: none.

    Raises:
        Problem: it is no object, or too large.
    """
    if not given:
        return b""
    if fault := fault_of_memo(given):
        raise refused(fault)
    return await asked.encoded(given)


def check_arguments(fn: Callable[..., Any], given: bytes, what: str) -> None:
    """Validate arguments against the signature here, so that the caller gets the error
    immediately.
    """
    if given.startswith(b"\0"):
        return
    try:
        _payloads.decode_arguments(fn, given, what=what)
    except PayloadError as error:
        raise refused(str(error)) from None


def _id(asked: AdmittedRequest) -> str:
    return segment(asked.request.path_params["id"])
