"""The route of each command."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from perdure.adapters.http.contract import BASE, EVENTS_LIMIT, RESULT_S, cursor_of, time_of
from perdure.errors import RequestRefused, UsageError
from perdure.model.commands import (
    AnyCommand,
    AwaitWorkflow,
    CancelWorkflow,
    DeleteWorkflow,
    FailToken,
    PauseWorkflow,
    QueryWorkflow,
    ReadHistory,
    RejectActivity,
    Request,
    ResolveActivity,
    ResolveToken,
    RetryActivityNow,
    SignalWorkflow,
    StartWorkflow,
    TerminateWorkflow,
    UnpauseWorkflow,
    UpdateWorkflow,
)

if TYPE_CHECKING:
    from perdure.client.listing import ListQuery

_TAKEN: Final = frozenset({".", "..", "counts", "events"})
"""Ids that have another meaning in a path."""


class Call(msgspec.Struct, frozen=True):
    """A request that is to be sent.

    Attributes:
        method: GET, POST or DELETE.
        path: with ids encoded, each as one segment.
        parameters: of the query string, in order.
        body: of a POST; None: none.
        headers: besides those of every request.
    """

    method: str
    path: str
    parameters: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: dict[str, str] = {}


def call_of(command: Request | AnyCommand) -> Call:
    """The HTTP call for a command.

    Raises:
        UsageError: there is no route for the command: it is a worker's, or the engine's own.
    """
    path = path_of(command.workflow_id)
    match command:
        case StartWorkflow():
            return _post(command, f"{BASE}/workflows", _started(command), command.trace)
        case SignalWorkflow():
            body = {"input": _base64(command.input), "run_id": command.run_id}
            return _post(command, f"{path}/signals/{_segment(command.name)}", body, command.trace)
        case UpdateWorkflow():
            body = {"input": _base64(command.input), "run_id": command.run_id}
            return _post(command, f"{path}/updates/{_segment(command.name)}", body, command.trace)
        case AwaitWorkflow(update_id=update_id) if update_id:
            asked = {"run_id": command.run_id, "timeout": f"{RESULT_S:g}s"}
            return get(f"{path}/updates/{_segment(update_id)}", **asked)
        case QueryWorkflow():
            body = {"input": _base64(command.input), "run_id": command.run_id}
            return _post(command, f"{path}/queries/{_segment(command.name)}", body)
        case CancelWorkflow():
            return _post(command, f"{path}/cancel", {"reason": command.reason, "run_id": command.run_id})
        case TerminateWorkflow():
            return _post(command, f"{path}/terminate", {"reason": command.reason, "run_id": command.run_id})
        case DeleteWorkflow():
            asked = {"reason": command.reason, "run_id": command.run_id}
            return Call("DELETE", path, tuple((name, value) for name, value in asked.items() if value))
        case PauseWorkflow():
            return _post(command, f"{path}/pause", _asked(command))
        case UnpauseWorkflow():
            return _post(command, f"{path}/unpause", _asked(command))
        case RetryActivityNow():
            options: dict[str, Any] = {
                "timeout": f"{command.timeout_us}us" if command.timeout_us else "",
                "maximum_attempts": command.maximum_attempts or "",
                "queue": command.queue,
            }
            body = {**_asked(command), **options}
            return _post(command, f"{path}/activities/{command.number}/retry", body)
        case ResolveActivity():
            body = {**_asked(command), "input": _base64(command.value)}
            return _post(command, f"{path}/activities/{command.number}/complete", body)
        case RejectActivity():
            body = {**_asked(command), "failure": _base64(msgspec.msgpack.encode(command.failure))}
            return _post(command, f"{path}/activities/{command.number}/fail", body)
        case ResolveToken():
            body = {"input": _base64(command.value)}
            return _post(command, f"{BASE}/tokens/{_segment(command.token)}", body)
        case FailToken():
            body = {"failure": _base64(msgspec.msgpack.encode(command.failure))}
            return _post(command, f"{BASE}/tokens/{_segment(command.token)}/fail", body)
        case AwaitWorkflow():
            return get(f"{path}/result", run_id=command.run_id, timeout=f"{RESULT_S:g}s")
        case ReadHistory():
            return history(command.workflow_id, command.run_id, command.from_event_id)
        case _:
            raise UsageError(f"{type(command).__name__} is not a client request: it cannot be sent over HTTP")


def history(workflow_id: str, run_id: str, from_event_id: int, limit: int = EVENTS_LIMIT) -> Call:
    """A page of a history."""
    parameters = {"run_id": run_id, "from": str(from_event_id), "limit": str(limit)}
    return get(f"{path_of(workflow_id)}/history", **parameters)


def page_of(query: ListQuery) -> Call:
    """A page of workflows."""
    found = [*_filters(query), ("sort", query.sort), ("order", query.order), ("limit", str(query.limit))]
    if query.after is not None:
        found.append(("cursor", cursor_of(query.sort, query.after)))
    return Call("GET", f"{BASE}/workflows", tuple(found))


def counts_of(query: ListQuery | None) -> Call:
    """Numbers of workflows."""
    return Call("GET", f"{BASE}/workflows/counts", tuple(_filters(query) if query is not None else ()))


def get(path: str, **parameters: str) -> Call:
    """A GET; parameters that are empty are left out."""
    return Call("GET", path, tuple((name, value) for name, value in parameters.items() if value))


def path_of(workflow_id: str) -> str:
    """The path of a workflow."""
    return f"{BASE}/workflows/{_segment(workflow_id)}"


def stream_of(workflow_id: str, name: str, after: int, limit: int) -> Call:
    """The request for a page of a stream."""
    return get(f"{path_of(workflow_id)}/streams/{_segment(name)}", after=str(after), limit=str(limit))


def _segment(text: str) -> str:
    """An id encoded as one segment. Ids that proxies would take for relative paths, or the API for
    routes, are encoded completely.
    """
    encoded = quote(text, safe="", errors="surrogatepass")
    return f"%{ord(text[0]):02X}{encoded[1:]}".replace(".", "%2E") if encoded in _TAKEN else encoded


def _filters(query: ListQuery) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = [("type", each) for each in query.types]
    found += [("status", each) for each in query.statuses]
    if query.id_prefix:
        found.append(("id_prefix", query.id_prefix))
    if query.where:
        found.append(("where", query.where))
    for name in (
        "started_after",
        "started_before",
        "closed_after",
        "closed_before",
        "updated_after",
        "updated_before",
    ):
        if (at := getattr(query, name)) is not None:
            found.append((name, time_of(at)))
    if odd := next((name for name, _ in query.attributes if ":" in name), ""):
        raise RequestRefused(
            f"over HTTP, filtering by an attribute whose name contains a colon ({odd!r}) is not supported"
        )
    return found + [("attribute", f"{name}:{_json(value)}") for name, value in query.attributes]


def _started(command: StartWorkflow) -> dict[str, Any]:
    options: dict[str, Any] = {"if_running": command.if_running, "if_closed": command.if_closed}
    if command.delay_us:
        options["delay"] = f"{command.delay_us}us"
    if command.start_at:
        options["start_at"] = time_of(command.start_at)
    if command.timeout_us:
        options["timeout"] = f"{command.timeout_us}us"
    if command.attributes:
        options["attributes"] = msgspec.Raw(command.attributes)
    if command.context:
        options["context"] = msgspec.Raw(command.context)
    if command.memo:
        options["encoded_memo"] = _base64(command.memo)
    body: dict[str, Any] = {
        "type": command.type,
        "id": command.workflow_id,
        "input": _base64(command.input),
        "options": options,
    }
    if command.update_name:
        body["update"] = {"name": command.update_name, "input": _base64(command.update_input)}
    if command.signal_name:
        body["signal"] = {"name": command.signal_name, "input": _base64(command.signal_input)}
    return body


def _post(command: Request, path: str, body: dict[str, Any], trace: str = "") -> Call:
    headers = {"content-type": "application/json"}
    if command.request_id:
        headers["idempotency-key"] = quote(command.request_id, safe=" !#$&'()*+,/:;=?@[]-._~")
    if trace:
        headers["traceparent"] = trace
    return Call(
        "POST",
        path,
        (),
        msgspec.json.encode({name: value for name, value in body.items() if value != ""}),
        headers,
    )


def _asked(command: Any) -> dict[str, Any]:
    """The fields that every request of an operator has."""
    return {"by": command.by, "reason": command.reason, "run_id": command.run_id}


def _base64(payload: bytes) -> str:
    return b64encode(payload).decode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
