"""The pages for people with a browser."""

from __future__ import annotations

import pytest

from perdure.api.app import ROUTES
from tests.api.served import Caller, run


def test_the_printed_address_says_where_everything_is_and_the_page_has_every_route() -> None:
    async def test(api: Caller) -> None:
        index = (await api.http.get("http://localhost/api/v1")).json()
        assert index["namespace"] == "shop"
        for place in (index["openapi"], index["docs"], index["workflows"], index["ready"]):
            assert (await api.http.get(f"http://localhost{place}")).status_code == 200, place
        page = await api.http.get("http://localhost/docs")
        assert page.headers["content-type"].startswith("text/html")
        for route in ROUTES:
            assert f"{route.method} /api/v1{route.path}" in page.text
        assert "://" not in page.text.partition("<body>")[0], "nothing from elsewhere"
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]

    run(test)


@pytest.mark.parametrize(
    "path", ["/api/v1", "/api/v1/", "/docs", "/openapi.json", "/health/live", "/health/ready"]
)
def test_what_anyone_may_read_answers_a_check_that_wants_no_body(path: str) -> None:
    async def test(api: Caller) -> None:
        assert (await api.http.head(f"http://localhost{path}")).status_code == 200

    run(test)


def test_the_response_at_an_unknown_path_points_to_the_routes() -> None:
    async def test(api: Caller) -> None:
        found = await api.http.get("http://localhost/nowhere")
        assert found.status_code == 404
        for place in ("/openapi.json", "/docs"):
            assert place in found.json()["detail"]

    run(test)
