"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

from tests.api.served import Caller, run

BODY: dict[str, Any] = {"type": "Parcel", "args": ["box"], "cron": "0 3 * * *", "timezone": "Europe/Rome"}


def test_a_schedule_from_its_creation_to_its_end() -> None:
    async def test(api: Caller) -> None:
        await api.post("/schedules/nightly", BODY, 201)
        await api.post("/schedules/nightly", BODY, 409)
        await api.post("/schedules/nightly/pause", {"note": "later"}, 202)
        found = await api.until("/schedules/nightly", lambda found: found["is_paused"])
        assert (found["note"], found["coming"], found["spec"]["cron"]) == ("later", [], "0 3 * * *")
        started = (await api.post("/schedules/nightly/trigger"))["result"]
        await api.until(f"/workflows/{started}", lambda state: state["type"] == "Parcel")
        days = {"first": "2026-01-01T00:00:00Z", "last": "2026-01-03T12:00:00Z"}
        assert (await api.post("/schedules/nightly/backfill", days))["result"] == 3
        await api.post("/schedules/nightly/unpause", None, 202)
        await api.until("/schedules/nightly", lambda found: len(found["coming"]) == 5)
        (listed,) = (await api.get("/schedules"))["schedules"]
        assert listed["id"] == "nightly"
        assert "perdure.schedule" not in {each["type"] for each in (await api.get("/workflows"))["workflows"]}

    run(test)


def test_a_schedule_that_cannot_be_is_refused() -> None:
    async def test(api: Caller) -> None:
        for change in (
            {"cron": "at noon"},
            {"timezone": "Mars/Olympus"},
            {"args": [7]},
            {"every": "1h"},
            {"overlap": "never"},
            {"jitter": "2 days"},
        ):
            await api.post("/schedules/s", {**BODY, **change}, 422)
        await api.post("/schedules/s/trigger", None, 404)
        await api.get("/schedules/s", 404)

    run(test)
