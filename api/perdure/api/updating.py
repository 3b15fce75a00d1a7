"""Updates: writes with an answer."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from starlette.responses import Response

from perdure.api.admitted import AdmittedRequest
from perdure.api.asking import BODY, KEY, accept, record_of, refused_response, trace_of, wants_record
from perdure.api.bodies import Arguments, body_of, checked_id
from perdure.api.json_views import failure, payload
from perdure.api.parameters import only, segment, timeout_s
from perdure.api.problems import Problem, problem
from perdure.api.reading import RESULT_S, query_parameter, unless_closing
from perdure.api.roles import Role
from perdure.api.routing import Routes, json
from perdure.client.request_ids import fresh_request_id
from perdure.errors import EngineUnavailable
from perdure.model.commands import AwaitWorkflow, UpdateWorkflow
from perdure.model.replies import Accepted, Answered, AnyReply, AskAgain, Closed, QueryRaised

routes = Routes()
_TIMEOUT: Final = query_parameter("timeout", 'How long to wait: "30s" by default, at most a minute.')
_ANSWER: Final = {"id": "order-1", "run_id": "01jf", "update_id": "4f1c", "result": "Rome"}
_RESPONSES: Final = {
    "200": {"description": "The answer", "content": {"application/json": {"example": _ANSWER}}},
    "202": {
        "description": "Accepted, durably; there is no answer yet: ask for it with its id",
        "content": {"application/json": {"example": {**_ANSWER, "result": None}}},
    },
}


@routes.add(
    "POST",
    "/workflows/{id}/updates/{name}",
    Role.OPERATOR,
    "Update a workflow",
    action="update",
    parameters=[KEY, _TIMEOUT],
    body=BODY,
    responses=_RESPONSES,
)
async def update_workflow(asked: AdmittedRequest) -> Response:
    """Send an update and wait for its answer."""
    parameters = asked.request.query_params
    only(parameters, "timeout")
    seconds = timeout_s(parameters, RESULT_S)
    workflow_id = segment(asked.request.path_params["id"])
    name = segment(asked.request.path_params["name"], "update's name")
    asked.about(workflow_id, name)
    body = await body_of(asked.request, Arguments, is_needed=False)
    run_id = checked_id(body.run_id, "run id")
    given = await asked.encoded(body.payload)
    make = UpdateWorkflow(workflow_id, run_id, name=name, input=given, trace=trace_of(asked))
    reply = await accept(asked, make)
    if not isinstance(reply, Accepted):
        return refused_response(asked, reply)
    if wants_record(asked):
        return record_of(reply, 202)
    return await answered(asked, workflow_id, reply.run_id, reply.request_id, seconds)


@routes.add(
    "GET",
    "/workflows/{id}/updates/{update}",
    Role.READER,
    "Wait for the answer to an update",
    parameters=[query_parameter("run_id", "Run id; the current or last run by default."), _TIMEOUT],
    responses=_RESPONSES,
)
async def await_update(asked: AdmittedRequest) -> Response:
    """Wait for the answer to an update; possible as long as the history of the run exists."""
    parameters = asked.request.query_params
    only(parameters, "run_id", "timeout")
    seconds = timeout_s(parameters, RESULT_S)
    workflow_id = segment(asked.request.path_params["id"])
    update_id = segment(asked.request.path_params["update"], "update's id")
    return await answered(asked, workflow_id, parameters.get("run_id", ""), update_id, seconds)


async def answered(
    asked: AdmittedRequest, workflow_id: str, run_id: str, update_id: str, seconds: float
) -> Response:
    """The response with the answer to an update, or 202 if there is none in time."""
    command = AwaitWorkflow(workflow_id, run_id, fresh_request_id(), update_id=update_id)
    try:
        reply = await unless_closing(asked, command, seconds) if seconds else AskAgain(command.request_id)
    except EngineUnavailable:
        if await asked.backend.state(workflow_id) is None:
            raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}") from None
        reply = AskAgain(command.request_id)
    if not wants_record(asked):
        reply = await asked.backend.opened(reply)
    told = {"id": workflow_id, "run_id": run_id, "update_id": update_id}
    if isinstance(reply, QueryRaised | Closed):
        raised = _failed(reply)
        return record_of(reply, raised.status) if wants_record(asked) else raised.response()
    if isinstance(reply, Answered):
        if wants_record(asked):
            return record_of(reply, 200)
        return json({**told, "result": payload(reply.result)})
    if isinstance(reply, AskAgain):
        return record_of(reply, 202) if wants_record(asked) else json({**told, "result": None}, 202)
    return refused_response(asked, replace(reply, request_id=""))


def _failed(reply: AnyReply) -> Problem:
    if isinstance(reply, QueryRaised):
        raised = reply.failure
        return problem("update-failed", f"{raised.type}: {raised.message}", failure=failure(raised))
    return problem("update-failed", "the run has ended before the update did")
