"""Jobs over HTTP."""

from __future__ import annotations

from typing import Any

from tests.api.served import Caller, run

WHEN = "2100-01-01T00:00:00Z"


def test_a_job_runs_once_per_id() -> None:
    async def test(api: Caller) -> None:
        body = {
            "activity": "weigh",
            "id": "j-1",
            "args": ["box"],
            "options": {"attributes": {"shop": 7}, "memo": {"by": "Ada"}},
        }
        first = await api.post("/jobs", body, 201)
        assert (first["id"], first["is_new"]) == ("j-1", True)
        assert (await api.get("/workflows/j-1/result?timeout=20s"))["result"] == 3
        again = await api.post("/jobs", body, 200)
        assert (again["run_id"], again["is_new"]) == (first["run_id"], False)
        state = await api.get("/workflows/j-1")
        assert (state["type"], state["attributes"]) == ("perdure.job", {"activity": "weigh", "shop": 7})
        assert state["memo"] == {"by": "Ada"}

    run(test)


def test_a_job_may_be_delayed_and_is_shown_as_such() -> None:
    async def test(api: Caller) -> None:
        at = "2100-01-01T00:00:00+01:00"
        started = await api.post(
            "/jobs", {"activity": "weigh", "args": ["a"], "options": {"start_at": at}}, 201
        )
        state = await api.get(f"/workflows/{started['id']}")
        assert state["begins_at"] == "2099-12-31T23:00:00.000000Z"

    run(test)


def test_a_job_that_cannot_be_is_refused() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        await api.post("/jobs", {"activity": "weigh", "id": "p-1", "args": ["a"]}, 409)
        bodies: tuple[dict[str, Any], ...] = (
            {"activity": "weigh", "args": [7]},
            {"activity": "", "args": []},
            {"activity": "weigh", "args": {"parcel": "a"}},
            {"activity": "weigh", "args": ["a"], "options": {"queue": "gpu"}},
            {
                "activity": "weigh",
                "args": ["a"],
                "options": {"delay": "1s", "start_at": "2100-01-01T00:00:00Z"},
            },
            {"activity": "weigh", "args": ["a"], "options": {"start_at": "2100-01-01T00:00:00"}},
        )
        for body in bodies:
            await api.post("/jobs", body, 422)

    run(test)
