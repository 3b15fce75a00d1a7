"""An API without authentication cannot be used by pages of other sites."""

from __future__ import annotations

import pytest

from perdure.api.auth.origin_check import check_is_local, is_loopback
from perdure.api.auth.refusals import Forbidden, WrongHost


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io", "shop"]
)
def test_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8080"},
        {"host": "[::1]:8080"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1", "sec-fetch-site": "none"},
    ],
)
def test_programs_and_our_own_pages_are_let_in(headers: dict[str, str]) -> None:
    check_is_local(headers)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "[::1].evil.example",
        "127.0.0.1@evil.example",
    ],
)
def test_a_request_with_a_rebound_dns_name_is_refused(host: str) -> None:
    with pytest.raises(WrongHost):
        check_is_local({"host": host})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://[evil"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_is_local({"host": "127.0.0.1:8080", **headers})
