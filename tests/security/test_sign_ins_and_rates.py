"""Who fails to sign in is counted and logged without what they tried, and who asks too often is
told when to ask again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from perdure.api import app as applications
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.principal import EVERY_NAMESPACE, Principal
from perdure.api.auth.rates import KNOWN, RateLimit
from perdure.api.auth.refusals import Unauthenticated
from perdure.api.auth.security import Security
from perdure.api.auth.sign_ins import FailedSignIns
from perdure.api.measures import Measures
from perdure.api.roles import Role
from perdure.observability.logs import report_to
from tests.api.served import Caller, run


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a test can read as Prometheus would."""
    found = Measures()
    monkeypatch.setattr(applications, "Measures", lambda: found)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(found)

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(name, labels) or 0.0

    return value


def _security(tmp_path: Path) -> tuple[Security, str]:
    key, _ = create_key(tmp_path / "keys.toml", "one", Role.OPERATOR, ["shop"])
    return Security("shop", api_keys=ApiKeys(tmp_path / "keys.toml", report_to("perdure.api"))), key


def test_a_failed_sign_in_is_logged_without_what_was_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, measures: Any
) -> None:
    security, key = _security(tmp_path)
    tried = [key + "x", key[:-1], "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0", "perdure_zz"]

    async def test(api: Caller) -> None:
        for each in tried * 10:
            answer = await api.http.get("/workflows", headers={"Authorization": f"Bearer {each}"})
            assert answer.status_code == 401
        assert (await api.http.get("/workflows")).status_code == 401
        assert (
            await api.http.get("/workflows", headers={"Authorization": f"Bearer {key}"})
        ).status_code == 200

    with caplog.at_level(logging.DEBUG):
        run(test, security=security)
    lines = [record for record in caplog.records if "failed sign-in" in record.message]
    assert 1 <= len(lines) <= 20, "a line a second at most"
    told = "\n".join(str(vars(record)) for record in caplog.records)
    assert not [each for each in tried if each in told]
    assert key not in told
    assert measures("perdure_api_failed_sign_ins_total", reason="invalid") == 40
    assert measures("perdure_api_failed_sign_ins_total", reason="missing") == 1


def test_each_line_counts_the_failed_sign_ins_since_the_line_before(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    found = FailedSignIns(Measures(), now=lambda: clock[0])
    request = Request({"type": "http", "client": ("192.0.2.7", 40_000)})
    for clock[0] in (100.0, 100.5, 100.9, 101.0, 103.0, 103.5, 104.5):
        found.add(request, Unauthenticated("no such key", is_given=True))
    counts = [vars(each)["failed_sign_ins_since_last_line"] for each in caplog.records]
    assert counts == [1, 3, 1, 2]
    assert {vars(each)["address"] for each in caplog.records} == {"192.0.2.7"}


def test_requests_are_measured_by_route_never_by_arbitrary_paths(measures: Any) -> None:
    async def test(api: Caller) -> None:
        for number in range(3):
            await api.start(f"p-{number}")
            await api.get(f"/workflows/p-{number}")
            await api.get(f"/made-up/{number}", 404)
        await api.get("/workflows?x=1", 422)
        await api.ask("DELETE", "/workflows", 405)

    run(test)
    route = "/api/v1/workflows/{id}"
    assert measures("perdure_api_requests_total", route="/api/v1/workflows", method="POST", status="2xx") == 3
    assert measures("perdure_api_requests_total", route=route, method="GET", status="2xx") == 3
    assert measures("perdure_api_request_seconds_count", route=route, method="GET") == 3
    assert measures("perdure_api_requests_total", route="none", method="GET", status="4xx") == 3
    assert measures("perdure_api_refusals_total", status="404") == 3
    assert measures("perdure_api_refusals_total", status="422") == 1
    assert measures("perdure_api_refusals_total", status="405") == 1


class Named:
    """Admits who is named in a header."""

    async def admit(self, headers: Mapping[str, str], role: Role) -> Principal:
        return Principal(headers.get("x-who", "one"), Role.ADMIN, (EVERY_NAMESPACE,))


def test_only_a_caller_over_the_rate_limit_gets_retry_after(
    monkeypatch: pytest.MonkeyPatch, measures: Any
) -> None:
    def two_a_second(_: float) -> RateLimit:
        return RateLimit(2, now=lambda: 0.0)

    monkeypatch.setattr(applications, "RateLimit", two_a_second)

    async def test(api: Caller) -> None:
        for _ in range(4):
            await api.get("/workflows")
        answer = await api.http.get("/workflows")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["type"].endswith("/rate-limited")
        await api.get("/workflows", headers={"x-who": "two"})
        assert (await api.http.get("http://localhost/health/live")).status_code == 200

    run(test, security=Named())
    assert measures("perdure_api_refusals_total", status="429") == 1


def test_a_rate_is_an_average_and_idle_callers_are_forgotten() -> None:
    now = 0.0
    limit = RateLimit(10, now=lambda: now)
    assert [limit.take("a") for _ in range(21)] == [0] * 20 + [1]
    now = 0.1
    assert [limit.take("a") for _ in range(2)] == [0, 1]
    now = 60.0
    assert [limit.take("a") for _ in range(21)] == [0] * 20 + [1]
    for number in range(3 * KNOWN):
        limit.take(f"subject-{number}")
    assert len(limit._left) <= KNOWN + 1
    assert not RateLimit(0).take("a")
    slow = RateLimit(0.1, now=lambda: now)
    assert (slow.take("a"), slow.take("a")) == (0, 10)
