"""Pause and decisions about activities over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.served import Caller, run


def test_a_run_is_paused_and_continues() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        reason = {"reason": "the road is closed", "by": "ann"}
        paused = await api.post("/workflows/p-1/pause", reason, 202)
        await api.post("/workflows/p-1/signals/move", {"args": ["road"]}, 202)
        state = await api.get(f"/workflows/p-1?after={paused['position']}")
        assert (state["status"], state["reason"]) == ("paused", "the road is closed")
        wait = state["waits"][0]
        assert (wait["kind"], wait["name"]) == ("unpause", "ann")
        assert (await api.get("/workflows?status=paused"))["workflows"][0]["id"] == "p-1"
        assert (await api.get("/workflows/p-1/describe"))["paused"]["by"] == "ann"
        problem = await api.post("/workflows/p-1/pause", reason, 409)
        assert problem["type"].endswith("wrong-state")
        assert "is paused already" in problem["detail"]
        assert (await api.post("/workflows/p-1/queries/where", {"args": ["!"]})) == {"result": "van!"}
        await api.post("/workflows/p-1/unpause", None, 202)
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "road")
        await api.post("/workflows/p-1/unpause", None, 409)

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("7/retry", {}, "it is not open; open are: none"),
        ("7/complete", {"value": 3}, "it is not open"),
        ("7/fail", {"message": "no"}, "it is not open"),
    ],
)
def test_an_activity_that_is_not_open_cannot_be_decided(path: str, body: Any, detail: str) -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        assert detail in (await api.post(f"/workflows/p-1/activities/{path}", body, 409))["detail"]

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("x/retry", {}, "whole number"),
        ("0/retry", {}, "whole number"),
        ("1/retry", {"timeout": "0s"}, "timeout must be positive"),
        ("1/retry", {"maximum_attempts": 0}, "at least 1"),
        ("1/complete", {"value": 3, "input": "Mw=="}, "not both"),
        ("1/complete", {"input": "?"}, "not base64"),
        ("1/fail", {"failure": "?"}, "not base64"),
    ],
)
def test_a_decision_that_cannot_be_read_is_refused(path: str, body: Any, detail: str) -> None:
    async def test(api: Caller) -> None:
        assert detail in (await api.post(f"/workflows/p-1/activities/{path}", body, 422))["detail"]

    run(test)
