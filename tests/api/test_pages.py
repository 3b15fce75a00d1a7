"""What a person with a browser finds."""

from __future__ import annotations

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
