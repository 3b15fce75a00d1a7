"""The HTTP requests of a client, and its use of the responses."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import json

from perdure.adapters.http.answers import Answer, fault_of
from perdure.adapters.http.connection import Connection
from perdure.adapters.http.contract import PROBLEM, PROBLEMS, RECORD, encode_records, time_of
from perdure.adapters.http.reader import HttpReader
from perdure.adapters.http.routes import Call, call_of, counts_of, page_of, path_of
from perdure.client.listing import ListQuery
from perdure.client.position import Position
from perdure.codec.records import encode_event_record, encode_reply, encode_state
from perdure.errors import (
    EngineUnavailable,
    InfrastructureError,
    NotAllowed,
    ReadLags,
    RequestRefused,
    UsageError,
    WorkflowNotFound,
)
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.replies import History
from tests.contract.samples import record, state

API = "/api/v1"


def body(call: Call) -> dict[str, Any]:
    assert call.body is not None
    found: dict[str, Any] = json.decode(call.body)
    return found


# ---- questions


def test_a_signal_goes_to_one_run_under_the_id_of_its_request() -> None:
    signal = cm.SignalWorkflow("a/b", "run-1", "r\u00fc-1", "me", name="pick up", input=b"[1]", trace="00-t")
    call = call_of(signal)
    assert (call.method, call.path) == ("POST", f"{API}/workflows/a%2Fb/signals/pick%20up")
    assert (b64decode(body(call)["input"]), body(call)["run_id"]) == (b"[1]", "run-1")
    assert call.headers["idempotency-key"] == "r%C3%BC-1"
    assert call.headers["traceparent"] == "00-t"


@pytest.mark.parametrize(
    ("command", "end"),
    [
        (cm.CancelWorkflow("w", "r", "q", reason="why"), "cancel"),
        (cm.TerminateWorkflow("w", "r", "q", reason="why"), "terminate"),
    ],
)
def test_who_ends_a_run_says_which_and_why(command: cm.AnyCommand, end: str) -> None:
    call = call_of(command)
    assert (call.method, call.path, body(call)) == (
        "POST",
        f"{API}/workflows/w/{end}",
        {"reason": "why", "run_id": "r"},
    )
    assert call.headers["idempotency-key"] == "q"


OPERATED: list[tuple[cm.AnyCommand, str, dict[str, Any]]] = [
    (cm.PauseWorkflow("w", "r", "q", reason="why", by="ann"), "pause", {}),
    (cm.UnpauseWorkflow("w", "r", "q", reason="why", by="ann"), "unpause", {}),
    (
        cm.RetryActivityNow("w", "r", "q", reason="why", by="ann", number=3, timeout_us=5, queue="b"),
        "activities/3/retry",
        {"timeout": "5us", "queue": "b"},
    ),
    (
        cm.ResolveActivity("w", "r", "q", reason="why", by="ann", number=3, value=b"7"),
        "activities/3/complete",
        {"input": "Nw=="},
    ),
]


@pytest.mark.parametrize(("command", "path", "more"), OPERATED)
def test_an_operator_says_who_asks_and_why(command: cm.AnyCommand, path: str, more: dict[str, Any]) -> None:
    call = call_of(command)
    assert (call.method, call.path) == ("POST", f"{API}/workflows/w/{path}")
    assert body(call) == {"reason": "why", "by": "ann", "run_id": "r", **more}
    assert call.headers["idempotency-key"] == "q"


def test_an_operator_who_lets_an_activity_fail_sends_the_failure() -> None:
    call = call_of(cm.RejectActivity("w", number=3, failure=FailureInfo("app:Sad", "lost")))
    assert call.path == f"{API}/workflows/w/activities/3/fail"
    assert msgspec.msgpack.decode(b64decode(body(call)["failure"]), type=FailureInfo).message == "lost"


def test_a_query_asks_the_run_that_was_named() -> None:
    call = call_of(cm.QueryWorkflow("w", "r", name="left", input=b"[2]"))
    assert call.path == f"{API}/workflows/w/queries/left"
    assert (b64decode(body(call)["input"]), body(call)["run_id"]) == (b"[2]", "r")
    assert "idempotency-key" not in call.headers


def test_a_start_brings_all_its_options() -> None:
    start = cm.StartWorkflow(
        "w",
        request_id="q",
        type="Order",
        input=b"[1]",
        if_running="attach",
        if_closed="refuse",
        delay_us=7,
        start_at=9_000_000,
        timeout_us=8,
        attributes=b'{"a":1}',
        memo=b"\0codec\0\xff",
        signal_name="go",
        signal_input=b"[2]",
    )
    found = body(call_of(start))
    options = {
        "if_running": "attach",
        "if_closed": "refuse",
        "delay": "7us",
        "start_at": "1970-01-01T00:00:09.000000Z",
        "timeout": "8us",
        "attributes": {"a": 1},
        "encoded_memo": b64encode(b"\0codec\0\xff").decode(),
    }
    assert found["options"] == options
    assert (found["id"], found["type"], b64decode(found["input"])) == ("w", "Order", b"[1]")
    assert (found["signal"]["name"], b64decode(found["signal"]["input"])) == ("go", b"[2]")
    assert "signal" not in body(call_of(cm.StartWorkflow("w", type="Order")))


def test_a_result_and_a_history_are_of_the_run_that_was_named() -> None:
    result = call_of(cm.AwaitWorkflow("w", "r", "q"))
    assert (result.method, result.path, dict(result.parameters)) == (
        "GET",
        f"{API}/workflows/w/result",
        {"run_id": "r", "timeout": "20s"},
    )
    history = call_of(cm.ReadHistory("w", "r", from_event_id=12))
    parameters = dict(history.parameters)
    assert (history.path, parameters["run_id"], parameters["from"]) == (
        f"{API}/workflows/w/history",
        "r",
        "12",
    )


def test_what_is_a_workers_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="CompleteActivity"):
        call_of(cm.CompleteActivity("w", "r", number=1, token="t"))


@pytest.mark.parametrize(
    ("workflow_id", "segment"),
    [
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("counts", "%63ounts"),
        ("events", "%65vents"),
        ("a b?", "a%20b%3F"),
        ("\u00fc", "%C3%BC"),
    ],
)
def test_every_id_is_one_segment_that_means_nothing_else(workflow_id: str, segment: str) -> None:
    assert path_of(workflow_id) == f"{API}/workflows/{segment}"


def test_a_page_of_the_list_has_every_filter_and_continues_the_previous_page() -> None:
    query = ListQuery(
        types=("A", "B"),
        statuses=("running", "failed"),
        id_prefix="w-",
        started_after=1,
        started_before=2,
        updated_after=3,
        updated_before=4,
        closed_after=5,
        closed_before=6,
        attributes=(("city", "Bari"), ("n", 3)),
        sort="updated_at",
        order="oldest",
        limit=7,
        after=(9, "w-1"),
    )
    call = page_of(query)
    parameters = list(call.parameters)
    cursor = parameters.pop()
    assert cursor[0] == "cursor"
    assert page_of(ListQuery(sort="updated_at", after=(9, "w-2"))).parameters[-1] != cursor
    filters = [
        ("type", "A"),
        ("type", "B"),
        ("status", "running"),
        ("status", "failed"),
        ("id_prefix", "w-"),
        *[
            (f"{name}_{side}", f"1970-01-01T00:00:00.00000{at}Z")
            for (name, side), at in {
                ("started", "after"): 1,
                ("started", "before"): 2,
                ("closed", "after"): 5,
                ("closed", "before"): 6,
                ("updated", "after"): 3,
                ("updated", "before"): 4,
            }.items()
        ],
        ("attribute", 'city:"Bari"'),
        ("attribute", "n:3"),
    ]
    assert parameters == [*filters, ("sort", "updated_at"), ("order", "oldest"), ("limit", "7")]
    assert list(counts_of(query).parameters) == filters
    with pytest.raises(RequestRefused, match="colon"):
        page_of(ListQuery(attributes=(("a:b", 1),)))


def test_times_are_exact_to_the_microsecond_and_stay_within_the_calendar() -> None:
    assert time_of(1_000_001) == "1970-01-01T00:00:01.000001Z"
    assert time_of(-1) == "1969-12-31T23:59:59.999999Z"
    assert time_of(2**62) == "9999-12-31T23:59:59.999999Z"
    assert time_of(-(2**62)) == "0001-01-01T00:00:00.000000Z"


# ---- answers


def problem(status: int, slug: str = "about", detail: str = "no", retry_after_s: float = -1) -> Answer:
    said = json.encode({"type": PROBLEMS + slug, "title": "t", "detail": detail})
    return Answer(status, PROBLEM, said, retry_after_s)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(503, "engine-unavailable"), EngineUnavailable),
        (problem(503), EngineUnavailable),
        (problem(504), EngineUnavailable),
        (problem(503, "unavailable"), InfrastructureError),
        (problem(503, "read-lags"), ReadLags),
        (problem(404, "workflow-not-found"), WorkflowNotFound),
        (problem(401), NotAllowed),
        (problem(403), NotAllowed),
        (problem(421), NotAllowed),
        (problem(400), RequestRefused),
        (problem(413), RequestRefused),
        (problem(422), RequestRefused),
        (problem(500), InfrastructureError),
        (problem(404, "no-such-route"), InfrastructureError),
    ],
)
def test_a_problem_is_the_error_that_other_transports_raise(answer: Answer, kind: type[Exception]) -> None:
    fault = fault_of(answer, "http://here")
    assert type(fault) is kind
    assert str(fault).startswith("no")
    assert ("PERDURE_TOKEN" in str(fault)) == (answer.status == 401)


@pytest.mark.parametrize("said", [b"<html>", b"[]", b"{}", b""])
def test_an_answer_of_something_else_says_so(said: bytes) -> None:
    fault = fault_of(Answer(502, "text/html", said), "http://here")
    assert type(fault) is InfrastructureError
    assert "http://here answered 502 in a format that is not perdure's" in str(fault)


# ---- what is read page by page


class Script:
    """A connection that gives answers in turn."""

    url = "http://here"

    def __init__(self, *answers: Answer) -> None:
        self.left = list(answers)
        self.asked: list[Call] = []

    def ask(self, call: Call) -> Answer:
        self.asked.append(call)
        return self.left.pop(0)

    def parameters(self, name: str) -> list[str]:
        return [value for call in self.asked for key, value in call.parameters if key == name]


def reader(*answers: Answer) -> tuple[HttpReader, Script]:
    script = Script(*answers)
    made: Any = script
    return HttpReader(made), script


def history(next_event_id: int, *firsts: int) -> Answer:
    page = History("", tuple(encode_event_record(record("r", first)) for first in firsts), next_event_id)
    return Answer(200, RECORD, encode_reply(page))


def test_a_history_is_read_page_by_page_to_its_end() -> None:
    found, script = reader(history(5, 1, 3), history(7, 5), history(0, 7))
    assert [each.first_event_id for each in found.events("w", "r")] == [1, 3, 5, 7]
    assert script.parameters("from") == ["1", "5", "7"]


def test_what_is_not_there_is_nothing_and_what_cannot_be_answered_is_an_error() -> None:
    found, _ = reader(
        problem(404, "workflow-not-found"), problem(404, "workflow-not-found"), problem(404, "no-such-route")
    )
    assert found.events("w", "r") == []
    assert found.state("w") is None
    with pytest.raises(InfrastructureError):
        found.state("w")
    found, _ = reader(problem(503))
    with pytest.raises(EngineUnavailable):
        found.state("w")


def test_states_and_lists_are_records() -> None:
    found, _ = reader(
        Answer(200, RECORD, encode_state(state("w"))),
        Answer(200, RECORD, encode_records([encode_state(state("a")), encode_state(state("b"))])),
        Answer(200, "application/json", b"{}"),
    )
    assert found.state("w") == state("w")
    assert [each.workflow_id for each in found.list(ListQuery())] == ["a", "b"]
    with pytest.raises(InfrastructureError, match="in a format that is not perdure's"):
        found.state("w")


@pytest.mark.parametrize(
    ("answers", "is_reached", "waits"),
    [
        ([True], True, ["20000000us"]),
        ([False, True], True, ["20000000us", "20000000us"]),
        ([False, False, False], False, ["20000000us", "20000000us", "5000000us"]),
    ],
)
def test_a_long_wait_for_a_position_is_asked_in_steps_until_its_time_has_passed(
    answers: list[bool], is_reached: bool, waits: list[str]
) -> None:
    found, script = reader(
        *(Answer(200, "application/json", json.encode({"is_reached": each})) for each in answers)
    )
    assert found.wait_for(Position(3, 17), 45.0) is is_reached
    assert script.parameters("timeout") == waits
    assert {call.path for call in script.asked} == {f"{API}/positions/{Position(3, 17)}"}


# ---- the connection

CALL = Call("GET", f"{API}/workflows/w")


def answered(
    connection: Connection, handle: Callable[[httpx.Request], httpx.Response], call: Call = CALL
) -> Answer:
    async def ask() -> Answer:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
            connection._http = http
            return await connection.answer(call)

    return asyncio.run(ask())


def test_a_request_carries_the_current_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        assert request.headers["accept"] == RECORD
        return httpx.Response(200)

    monkeypatch.setenv("PERDURE_TOKEN", "of-environment")
    tokens = iter(["first", "second"])
    rotating = Connection("http://here", lambda: next(tokens))
    for connection in (
        rotating,
        rotating,
        Connection("http://here"),
        Connection("http://here", "given"),
        Connection("http://x", ""),
    ):
        answered(connection, handle)
    assert seen == ["Bearer first", "Bearer second", "Bearer of-environment", "Bearer given", None]


def test_a_path_of_the_address_and_parameters_are_kept() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(404, headers={"content-type": "Application/Problem+JSON; charset=utf-8"})

    answer = answered(
        Connection("http://here/perdure/"),
        handle,
        Call("GET", f"{API}/workflows", (("type", "A"), ("type", "B"))),
    )
    assert seen == ["http://here/perdure/api/v1/workflows?type=A&type=B"]
    assert (answer.status, answer.content_type, answer.retry_after_s) == (404, PROBLEM, -1)


@pytest.mark.parametrize(
    ("first", "asked"),
    [
        (httpx.Response(503, headers={"retry-after": "0"}), 2),
        (httpx.Response(503), 1),
        (httpx.Response(503, headers={"retry-after": "soon"}), 1),
        (httpx.Response(503, headers={"retry-after": "3600"}), 1),
        (httpx.Response(429, headers={"retry-after": "0"}), 1),
        (httpx.ConnectError("refused"), 2),
    ],
)
def test_what_is_not_ready_is_asked_again_when_it_says_so_and_in_time(
    first: httpx.Response | Exception, asked: int
) -> None:
    answers: list[httpx.Response | Exception] = [first, httpx.Response(200)]
    count = 0

    def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal count
        answer = answers[count]
        count += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    answer = answered(Connection("http://here"), handle)
    assert count == asked
    assert answer.status == (200 if asked == 2 else getattr(first, "status_code", 0))


def test_no_listener_is_an_error_after_a_while_that_says_what_to_do() -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(InfrastructureError, match=r"the API at http://here cannot be reached \(refused\)"):
        answered(Connection("http://here", unreachable_s=0.1), handle)
