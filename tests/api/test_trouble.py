"""The responses when no engine answers, when it takes too long, and after a bug."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from perdure.api import app as applications
from perdure.api import bodies, routing
from perdure.api.problems import TITLES
from perdure.client.position import Position
from perdure.errors import InfrastructureError
from tests.api.served import Caller, run


class Reader:
    """Of tables that are behind, cannot be reached, or are read by a fault of ours."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def state(self, workflow_id: str) -> None:
        if self.error is not None:
            raise self.error

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        assert timeout_s == 0, "no thread waits"
        return False

    def close(self) -> None:
        pass


class Feed:
    """That tells nothing."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def start(self, listener: Any) -> None:
        pass

    async def begun(self) -> None:
        if self.fault:
            raise InfrastructureError(self.fault)

    async def positions(self) -> list[Position]:
        return [Position(0, 7)]

    async def close(self) -> None:
        pass


def kind_of(problem: Any) -> str:
    kind: str = problem["type"].rpartition("/")[2]
    return kind


def test_without_an_engine_the_response_has_retry_after() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        await asyncio.to_thread(api.platform.stop)
        for method, path, body in [
            ("POST", "/workflows", {"type": "Parcel", "id": "p-2", "args": ["box"]}),
            ("POST", "/workflows/p-1/signals/move", {"args": ["x"]}),
            ("POST", "/workflows/p-1/queries/where", None),
            ("POST", "/workflows/p-1/cancel", None),
        ]:
            answer = await api.http.request(method, path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
            assert kind_of(answer.json()) == "engine-unavailable"
        assert (await api.get("/workflows/p-1"))["id"] == "p-1", "what is known can be read all the same"
        assert (await api.http.get("/workflows/p-1/result?timeout=1s")).status_code == 204

    run(test)


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "ANSWER_S", 0.05)

    async def test(api: Caller) -> None:
        await api.start("p-1")
        assert kind_of(await api.get("/workflows/p-1/result?timeout=20s", 504)) == "timeout"

    run(test)


def test_a_request_whose_body_never_arrives_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.05)

    async def slow() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async def test(api: Caller) -> None:
        problem = await api.ask(
            "POST", "/workflows", 408, content=slow(), headers={"content-type": "application/json"}
        )
        assert kind_of(problem) == "request-timeout"

    run(test)


def test_a_reader_that_is_behind_says_so_and_no_stream_begins_on_it() -> None:
    async def test(api: Caller) -> None:
        problem = await api.get("/workflows/p-1?after=0-7&timeout=10ms", 503)
        assert kind_of(problem) == "read-lags"
        assert "0-7" in problem["detail"]
        assert await api.get("/positions/0-7?timeout=10ms") == {"is_reached": False}
        monkeypatch = pytest.MonkeyPatch()
        with monkeypatch.context() as patched:
            patched.setattr("perdure.api.streams.LAG_S", 0.01)
            assert kind_of(await api.get("/workflows/p-1/events", 503)) == "read-lags"
            last = {"Last-Event-ID": "1801396800000000"}
            assert kind_of(await api.get("/workflows/events", 503, headers=last)) == "read-lags"
        assert len(api.app.hub) == 0, "nobody watches"

    run(test, reader=Reader(), feed=Feed())


def test_what_cannot_be_read_or_followed_is_not_ready() -> None:
    async def test(api: Caller) -> None:
        assert kind_of(await api.get("/workflows/p-1", 503)) == "unavailable"
        answer = await api.http.get("http://localhost/health/ready")
        assert (answer.status_code, answer.json()) == (
            503,
            {"is_ready": False, "reason": "the database is down"},
        )
        assert (await api.http.get("http://localhost/health/live")).status_code == 200, (
            "restarting it would not help"
        )

    run(test, reader=Reader(InfrastructureError("the database is down")), feed=Feed())

    async def unfollowed(api: Caller) -> None:
        answer = await api.http.get("http://localhost/health/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "no broker")
        assert kind_of(await api.get("/workflows/events", 503)) == "unavailable"

    run(unfollowed, feed=Feed("no broker"))


def test_waiting_for_a_hanging_reader_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "READY_S", 0.05)

    class Hanging(Feed):
        async def begun(self) -> None:
            await asyncio.Event().wait()

    async def test(api: Caller) -> None:
        answer = await api.http.get("http://localhost/health/ready")
        assert answer.status_code == 503
        assert "0.05 s" in answer.json()["reason"]

    run(test, feed=Hanging())


def test_a_fault_of_ours_is_in_the_log_and_not_in_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def test(api: Caller) -> None:
        with caplog.at_level(logging.ERROR, "perdure.api"):
            problem = await api.get("/workflows/p-1", 500)
        assert kind_of(problem) == "internal"
        assert "secret" not in str(problem)
        assert "secret" in caplog.text

    run(test, reader=Reader(RuntimeError("secret")), feed=Feed())


def test_a_process_has_room_for_so_many_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.api.streams.WATCHERS", 0)

    async def test(api: Caller) -> None:
        assert "another process" in (await api.get("/workflows/events", 503))["detail"]

    run(test)


def test_every_kind_of_problem_has_one_status() -> None:
    assert all(400 <= status < 600 and title for status, title in TITLES.values())
