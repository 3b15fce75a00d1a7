"""Updates over HTTP."""

from __future__ import annotations

from tests.api.served import Caller, run

KEY = {"Idempotency-Key": "k-1"}


def test_an_update_is_answered() -> None:
    async def test(api: Caller) -> None:
        started = await api.start("p-1", "box")
        told = await api.post("/workflows/p-1/updates/relabel", {"args": ["crate"]})
        assert (told["id"], told["run_id"]) == ("p-1", started["run_id"])
        assert told["result"].endswith(": crate")
        again = await api.get(f"/workflows/p-1/updates/{told['update_id']}")
        assert again["result"] == told["result"]

    run(test)


def test_one_that_takes_its_time_is_waited_for_later() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        told = await api.post("/workflows/p-1/updates/hand_over?timeout=0s", None, 202)
        assert told["result"] is None
        place = f"/workflows/p-1/updates/{told['update_id']}"
        assert (await api.get(f"{place}?timeout=10ms", 202))["result"] is None
        await api.post("/workflows/p-1/signals/deliver", None, 202)
        assert (await api.get(place))["result"] == "handed over"

    run(test)


def test_an_error_is_reported_and_changes_nothing() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        before = await api.get("/workflows/p-1")
        for name, body, status, slug in (
            ("relabel", {"args": [""]}, 422, "update-rejected"),
            ("relabel", {"args": [1]}, 422, "invalid-request"),
            ("nothing", None, 422, "unknown-name"),
        ):
            problem = await api.post(f"/workflows/p-1/updates/{name}", body, status)
            assert problem["type"].rpartition("/")[2] == slug
        assert (await api.get("/workflows/p-1"))["history_length"] == before["history_length"]
        await api.post("/workflows/nobody/updates/relabel", {"args": ["x"]}, 404)
        await api.get("/workflows/p-1/updates/nothing", 404)

    run(test)


def test_one_that_fails_is_a_problem_with_its_failure() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        problem = await api.post("/workflows/p-1/updates/relabel", {"args": ["torn"]}, 422)
        assert problem["type"].rpartition("/")[2] == "update-failed"
        assert problem["failure"]["message"] == "the label is torn"

    run(test)


def test_the_same_key_acts_once() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", "box")
        first = await api.post("/workflows/p-1/updates/relabel", {"args": ["a"]}, headers=KEY)
        assert await api.post("/workflows/p-1/updates/relabel", {"args": ["a"]}, headers=KEY) == first
        await api.post("/workflows/p-1/updates/relabel", {"args": ["b"]}, 422, headers=KEY)

    run(test)


def test_an_update_starts_a_workflow() -> None:
    async def test(api: Caller) -> None:
        body = {"type": "Parcel", "id": "p-1", "args": ["box"], "options": {"if_running": "attach"}}
        told = await api.post("/workflows", {**body, "update": {"name": "relabel", "args": ["x"]}}, 201)
        answer = await api.get(f"/workflows/p-1/updates/{told['update_id']}")
        assert answer["result"].endswith(": x")
        await api.post("/workflows", {**body, "options": {}, "update": {"name": "relabel"}}, 422)

    run(test)
