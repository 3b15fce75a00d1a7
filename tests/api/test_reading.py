"""Lists, counts and their pages; filters that are wrong, or meant to hurt."""

from __future__ import annotations

from typing import Any, cast

import pytest

from perdure.api.app import ROUTES
from tests.api.served import Caller, run


def ids(page: Any) -> list[str]:
    return [each["id"] for each in page["workflows"]]


def test_a_list_is_read_page_by_page_in_any_order() -> None:
    async def test(api: Caller) -> None:
        names = [f"p-{number}" for number in range(7)]
        for name in names:
            await api.start(
                name, attributes={"tenant": "a" if name < "p-4" else "b", "weight": int(name[-1])}
            )
        for sort in ("started_at", "workflow_id", "updated_at"):
            for order, wanted in (("desc", names[::-1]), ("asc", names)):
                found, cursor = list[str](), cast("Any", "")
                while cursor is not None:
                    page = await api.get(
                        "/workflows", params={"sort": sort, "order": order, "limit": 3, "cursor": cursor}
                    )
                    found, cursor = found + ids(page), page["next"]
                if sort != "updated_at":
                    assert found == wanted
                assert sorted(found) == names
        assert ids(await api.get('/workflows?attribute=tenant:"b"&attribute=weight:5')) == ["p-5"]
        assert sorted(ids(await api.get("/workflows?attribute=tenant:a"))) == names[:4], (
            "what is no JSON is text"
        )
        where = {"where": "tenant in ('b', 'z') and weight >= 5 and weight < 6"}
        assert ids(await api.get("/workflows", params=where)) == ["p-5"]
        assert (await api.get("/workflows/counts", params=where))["counts"][0]["count"] == 1
        assert ids(await api.get("/workflows?status=completed&status=failed")) == []
        assert len(ids(await api.get("/workflows?type=Parcel&started_after=2020-01-01T00:00:00Z"))) == 7
        assert ids(await api.get("/workflows?type=Parcel&started_before=2020-01-01T00:00:00%2B02:00")) == []
        counts = await api.get("/workflows/counts?id_prefix=p-")
        assert counts == {"counts": [{"type": "Parcel", "status": "running", "count": 7}]}

    run(test)


@pytest.mark.parametrize(
    "query",
    [
        "sort=started_at;DROP TABLE workflows",
        "sort=record",
        "order=up",
        "limit=0",
        "limit=1001",
        "limit=1e3",
        "limit=-1",
        "cursor=%27%3B",
        "cursor=AAAA",
        "started_after=yesterday",
        "started_after=2027-01-01T00:00:00",
        "started_after=99999999999999999999",
        "attribute=tenant",
        "attribute=:x",
        "attribute=tenant:[1]",
        "where=tenant",
        "where=tenant%20=%20'a'%20or",
        "statuss=running",
        "timeout=5s",
    ],
)
def test_an_invalid_filter_is_refused_and_never_ignored(query: str) -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        answer = await api.http.get(f"/workflows?{query}")
        assert answer.status_code == 422, answer.text
        assert ids(await api.get("/workflows")) == ["p-1"]

    run(test)


@pytest.mark.parametrize("evil", ["' OR '1'='1", "%' --", "\\", '"', "_", "%", "\u0000x"])
def test_what_would_be_syntax_elsewhere_is_text_in_every_filter(evil: str) -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1", attributes={"tenant": "a"})
        for name in ("type", "status", "id_prefix"):
            answer = await api.http.get("/workflows", params={name: evil})
            assert answer.status_code in {200, 422}
            assert answer.json().get("workflows", []) == [], (name, answer.text)
        answer = await api.http.get("/workflows", params={"attribute": f"tenant:{evil}"})
        assert answer.json().get("workflows", []) == []

    run(test)


def test_a_cursor_belongs_to_its_sort() -> None:
    async def test(api: Caller) -> None:
        for number in range(2):
            await api.start(f"p-{number}")
        cursor = (await api.get("/workflows?limit=1"))["next"]
        assert (
            "sorted by 'started_at'"
            in (await api.get(f"/workflows?sort=workflow_id&cursor={cursor}", 422))["detail"]
        )

    run(test)


def test_positions_are_waited_for_and_what_is_none_is_refused() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        position = (await api.get("/workflows/p-1/position"))["position"]
        assert await api.get(f"/positions/{position}") == {"is_reached": True}
        await api.get("/positions/x", 422)
        await api.get("/workflows/p-1?after=1", 422)
        await api.get("/workflows/p-1?after=0-0&timeout=long", 422)

    run(test)


def test_the_document_has_every_route_with_an_example_and_its_role() -> None:
    async def test(api: Caller) -> None:
        document = (await api.http.get("http://localhost/openapi.json")).json()
        operations = {
            (method.upper(), path.removeprefix("/api/v1")): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        assert operations.keys() == {(route.method, route.path) for route in ROUTES}
        for route in ROUTES:
            operation = operations[route.method, route.path]
            assert operation["x-perdure-role"] == route.role.value
            assert operation["summary"]
        assert document["components"]["schemas"]["Problem"]["required"] == [
            "type",
            "title",
            "status",
            "detail",
        ]
        start = operations["POST", "/workflows"]["requestBody"]["content"]["application/json"]
        assert start["example"]["id"] == "order-1"
        assert len({operation["operationId"] for operation in operations.values()}) == len(operations)

    run(test)


def test_health_is_public_and_fixed_paths_are_not_ids() -> None:
    async def test(api: Caller) -> None:
        for what in ("live", "ready"):
            answer = await api.http.get(f"http://localhost/health/{what}")
            assert answer.status_code == 200
        assert (await api.get("/workflows/counts")) == {"counts": []}
        assert await api.get("/queues") == {"queues": []}
        assert await api.get("/workers") == {"workers": []}
        await api.get("/dead-letters", 404)

    run(test)
