"""Workflows over HTTP: start, signal, query, cancel, terminate, and refusals."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from perdure.api.bodies import Arguments, Body, Reason, Start, schema_of
from tests.api.served import Caller, run


def test_a_workflow_from_start_to_result() -> None:
    async def test(api: Caller) -> None:
        started = await api.start("p-1", "box")
        assert (started["id"], started["is_new"], started["position"]) == ("p-1", True, "0-0")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        assert await api.post("/workflows/p-1/queries/where", {"args": ["!"]}) == {"result": "van!"}
        moved = await api.post("/workflows/p-1/signals/move", {"args": ["road"]}, 202)
        assert moved["run_id"] == started["run_id"]
        state = await api.get(f"/workflows/p-1?after={moved['position']}")
        assert state["view"] == {"place": "road", "is_delivered": False}
        assert [each["kind"] for each in state["waits"]] == ["timer"]
        await api.post("/workflows/p-1/signals/deliver", None, 202)
        closed = await api.get("/workflows/p-1/result?timeout=20s")
        assert closed == {
            "run_id": started["run_id"],
            "status": "completed",
            "result": 3,
            "failure": None,
            "reason": None,
        }
        state = await api.get("/workflows/p-1")
        assert (state["status"], state["waits"], state["result"]) == ("completed", [], 3)
        history = await api.get("/workflows/p-1/history?limit=2")
        assert ([each["type"] for each in history["events"]], history["next"]) == (
            ["WorkflowStarted", "ActivityScheduled"],
            3,
        )
        rest = await api.get("/workflows/p-1/history?from=3")
        assert (rest["events"][-1]["type"], rest["next"]) == ("WorkflowCompleted", None)
        assert (await api.get("/workflows/p-1/describe"))["workflow"]["status"] == "completed"

    run(test)


def test_the_same_key_acts_once_and_gets_the_same_answer() -> None:
    async def test(api: Caller) -> None:
        body = {"type": "Parcel", "id": "p-1", "args": ["box"]}
        first = await api.post("/workflows", body, 201, headers={"Idempotency-Key": "k%2F1"})
        again = await api.post("/workflows", body, 200, headers={"Idempotency-Key": "k%2F1"})
        assert (again["run_id"], again["is_new"]) == (first["run_id"], False)
        other = await api.post("/workflows", body, 409, headers={"Idempotency-Key": "k2"})
        assert (other["type"].rpartition("/")[2], other["run_id"]) == ("already-started", first["run_id"])
        for _ in range(2):
            await api.post(
                "/workflows/p-1/signals/move", {"args": ["x"]}, 202, headers={"Idempotency-Key": "s"}
            )
        history = await api.get("/workflows/p-1/history")
        assert [each["type"] for each in history["events"]].count("SignalReceived") == 1
        await api.post("/workflows", body, 422, headers={"Idempotency-Key": "%00"})

    run(test)


def test_a_start_with_a_signal_is_for_the_run_that_is_open_or_for_a_new_one() -> None:
    async def test(api: Caller) -> None:
        body = {"type": "Parcel", "id": "p-1", "args": ["box"], "options": {"if_running": "attach"}}
        first = await api.post("/workflows", {**body, "signal": {"name": "move", "args": ["road"]}}, 201)
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        history = await api.get("/workflows/p-1/history")
        assert [each["type"] for each in history["events"]][:3] == [
            "WorkflowStarted",
            "ActivityScheduled",
            "SignalReceived",
        ]
        given = base64.b64encode(b'["sea"]').decode()
        second = await api.post("/workflows", {**body, "signal": {"name": "move", "input": given}}, 200)
        assert second["run_id"] == first["run_id"]
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "sea")
        problem = await api.post("/workflows", {**body, "id": "p-2", "signal": {"name": "nothing"}}, 422)
        assert "nothing" in problem["detail"]
        await api.get("/workflows/p-2", 404)

    run(test)


def test_cancel_and_terminate_end_a_run_with_their_reason() -> None:
    async def test(api: Caller) -> None:
        for number, (what, status) in enumerate([("cancel", "cancelled"), ("terminate", "terminated")]):
            await api.start(f"p-{number}")
            await api.post(f"/workflows/p-{number}/{what}", {"reason": "rain"}, 202)
            closed = await api.get(f"/workflows/p-{number}/result")
            assert (closed["status"], closed["reason"]) == (status, "rain")
            await api.post(f"/workflows/p-{number}/signals/deliver", None, 409)

    run(test)


def test_a_closed_run_is_deleted_and_an_open_one_is_not() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        refused = await api.ask("DELETE", "/workflows/p-1", 409)
        assert refused["type"].rpartition("/")[2] == "workflow-open"
        await api.post("/workflows/p-1/terminate", {"reason": "rain"}, 202)
        await api.get("/workflows/p-1/result")
        await api.ask("DELETE", "/workflows/p-1?run_id=nothing&reason=they+asked", 404)
        await api.ask("DELETE", "/workflows/p-1?reason=they+asked", 202)
        await api.get("/workflows/p-1", 404)
        await api.ask("DELETE", "/workflows/p-1", 404)

    run(test)


def test_a_failed_run_and_a_query_that_raises_say_what_happened() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box", True)
        raised = await api.post("/workflows/p-1/queries/where", {"args": ["raise"]}, 422)
        assert (raised["type"].rpartition("/")[2], raised["failure"]["message"]) == (
            "query-failed",
            "nowhere",
        )
        await api.post("/workflows/p-1/signals/deliver", None, 202)
        closed = await api.get("/workflows/p-1/result")
        assert (closed["status"], closed["failure"]["message"]) == ("failed", "fell from the van")

    run(test)


def test_an_open_run_has_no_result_yet() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        answer = await api.http.get("/workflows/p-1/result?timeout=50ms")
        assert (answer.status_code, answer.headers["retry-after"]) == (204, "0")

    run(test)


@pytest.mark.parametrize(
    "id",
    ["a/b", "..", ".", "%2e%2e", "a%2Fb", "ü ☃ 🚚", "a?b#c&d=e", "'; DROP TABLE workflows; --", "x" * 255],
)
def test_any_id_is_one_segment_and_comes_back_as_it_was(id: str) -> None:
    async def test(api: Caller) -> None:
        assert (await api.start(id))["id"] == id
        path = f"/workflows/{quote(id, safe='')}"
        path = (
            path.replace("/..", "/%2E%2E")
            if id == ".."
            else path.replace("/.", "/%2E")
            if id == "."
            else path
        )
        assert (await api.get(path))["id"] == id
        await api.post(f"{path}/signals/move", {"args": ["x"]}, 202)
        assert [
            each["id"] for each in (await api.get("/workflows", params={"id_prefix": id}))["workflows"]
        ] == [id]

    run(test)


def test_what_cannot_be_an_id_is_refused_in_path_and_body() -> None:
    async def test(api: Caller) -> None:
        for bad in ("", "a\0b", "a\r\nb", "x" * 256, "a\u2028b"):
            await api.post("/workflows", {"type": "Parcel", "id": bad, "args": ["box"]}, 422)
            if bad:
                await api.get(f"/workflows/{quote(bad, safe='')}", 422)
        await api.get("/workflows/%ff", 422)

    run(test)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"type": "Parcel", "id": "p", "args": ' + b"[" * 100_000, "not JSON"),
        (b"[]", "expected object"),
        (b'{"type": "Parcel"}', "missing required field id"),
        (b'{"type": "Parcel", "id": 7}', "expected str"),
        (b'{"type": "Parcel", "id": "p", "arg": []}', "unknown field arg"),
        (b'{"type": "Parcel", "id": "p", "args": {}}', "args must be an array"),
        (b'{"type": "Parcel", "id": "p", "args": [7]}', "expected str"),
        (b'{"type": "Parcel", "id": "p", "args": []}', "parcel"),
        (b'{"type": "Parcel", "id": "p", "args": ["x"], "input": "W10="}', "not both"),
        (b'{"type": "Parcel", "id": "p", "input": "%"}', "not base64"),
        (b'{"type": "Nobody", "id": "p"}', "Parcel"),
        (b'{"type": "Parcel", "id": "p", "args": ["x"], "options": {"if_running": "maybe"}}', "maybe"),
        (b'{"type": "Parcel", "id": "p", "args": ["x"], "options": {"delay": "soon"}}', "delay"),
        (b'{"type": "Parcel", "id": "p", "args": ["x"], "options": {"timeout": "0s"}}', "must be positive"),
        (b'{"type": "Parcel", "id": "p", "args": ["x"], "signal": {"name": "move"}}', "if_running"),
        (
            (
                b'{"type": "Parcel", "id": "p", "args": ["x"], "options": {"if_running": "attach"}, '
                b'"signal": '
                b'{"name": ""}}'
            ),
            "signal's name",
        ),
    ],
)
def test_the_response_to_an_invalid_body_names_the_fault(body: bytes, said: str) -> None:
    async def test(api: Caller) -> None:
        problem = await api.ask(
            "POST", "/workflows", 422, content=body, headers={"content-type": "application/json"}
        )
        assert said in problem["detail"], problem
        assert (await api.get("/workflows"))["workflows"] == []

    run(test)


def test_bodies_paths_and_query_strings_have_limits() -> None:
    async def test(api: Caller) -> None:
        large = {"type": "Parcel", "id": "p", "args": ["x" * (1 << 20)]}
        assert "1048" in (await api.post("/workflows", large, 413))["detail"]
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            yield b'{"type": "'
            for _ in range(160):
                sent += 1
                yield b"x" * 65_536

        problem = await api.ask(
            "POST", "/workflows", 413, content=endless(), headers={"content-type": "application/json"}
        )
        assert "larger than 1500000 bytes" in problem["detail"]
        assert sent < 30, "it is not read to its end"
        await api.ask("POST", "/workflows", 413, content=b"", headers={"content-length": "10000000"})
        await api.get(f"/workflows/{'x' * 5000}", 413)
        await api.get(f"/workflows?id_prefix={'x' * 9000}", 413)

    run(test)


def test_other_forms_methods_and_routes_are_refused() -> None:
    async def test(api: Caller) -> None:
        await api.ask(
            "POST",
            "/workflows",
            415,
            content=b"a=b",
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        problem = await api.ask("DELETE", "/workflows", 405)
        assert problem["type"].endswith("method-not-allowed")
        assert problem["detail"] == "DELETE is not allowed on this route; use GET, POST"
        await api.get("/nothing", 404)
        await api.get("/workflows/nobody", 404)
        await api.post("/workflows/nobody/signals/move", {"args": ["x"]}, 404)
        await api.get("/workflows/nobody/result", 404)

    run(test)


def test_arguments_may_be_given_as_they_are_recorded() -> None:
    async def test(api: Caller) -> None:
        given = base64.b64encode(b'["box"]').decode()
        await api.post("/workflows", {"type": "Parcel", "id": "p-1", "input": given}, 201)
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")

    run(test)


def test_headers_of_ours_that_a_caller_makes_up_change_nothing() -> None:
    async def test(api: Caller) -> None:
        forged = {
            "perdure-schema": "commands/1/x",
            "x-perdure-principal": "admin",
            "reply-to": "kafka:0:x",
            "perdure-position": "9-9",
        }
        started = await api.post(
            "/workflows", {"type": "Parcel", "id": "p-1", "args": ["box"]}, 201, headers=forged
        )
        assert started["position"] == "0-0"

    run(test)


@pytest.mark.parametrize("kind", [Start, Arguments, Reason])
def test_the_document_of_a_body_names_all_that_its_decoder_takes(kind: type[Body]) -> None:
    schema = schema_of(kind)
    assert set(schema["properties"]) == {field.encode_name for field in msgspec.structs.fields(kind)}
    assert schema["additionalProperties"] is False
    assert "$ref" not in msgspec.json.encode(schema).decode(), "its parts are inside"
