"""Requests made from the OpenAPI document, wrong ones too, streams included: none is a fault of
ours, and each answer is as the document says.

Each operation is asked for at least once; after `SECONDS`, no more than that. The requests are the
same in every run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import requests  # type: ignore[import-untyped,unused-ignore]
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.security import Unsecured
from perdure.api.backend import Backend
from perdure.api.server import ApiServer
from perdure.embedded import Platform
from perdure.registry import Registry
from tests.api.served import Parcel, weigh

SECONDS: Final = 30.0
EXAMPLES: Final = 8
_checks: Any = checks
_openapi_checks: Any = openapi_checks
CHECKS: Final[list[Any]] = [
    _checks.not_a_server_error,
    _openapi_checks.status_code_conformance,
    _openapi_checks.content_type_conformance,
    _openapi_checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    registry = Registry.of([Parcel], [weigh])
    with Platform(registry, "memory://") as platform:
        feed = LocalStateFeed(platform._adapters.channel)
        backend = Backend("shop", platform.client()._transport, feed, reader=None, registry=registry)
        server = ApiServer(
            create_app(backend, Unsecured(), AuditLog(MemoryAuditTrail())), "127.0.0.1", 0, grace_s=1
        )
        server.start()
        for number in range(5):
            body = {"type": "Parcel", "id": f"p-{number}", "args": ["box"]}
            assert httpx.post(f"{server.url}/api/v1/workflows", json=body).status_code == 201
        yield server.url
        server.stop()
        server.join()


def begun(url: str, case: Any) -> tuple[int, str, bytes]:
    """Status, media type and the first bytes of an answer that need not end."""
    with requests.request(**case.as_transport_kwargs(base_url=url), stream=True, timeout=20) as answer:
        return (
            answer.status_code,
            answer.headers["content-type"].partition(";")[0],
            next(answer.iter_content(None), b""),
        )


def try_out(url: str, operation: Any, ends: float) -> int:
    """Ask for one operation in some ways, and in one only when the time is over; how many."""
    is_stream = operation.path.endswith("/events")
    count = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        nonlocal count
        if count and time.monotonic() > ends:
            return
        count += 1
        if not is_stream:
            case.validate_response(case.call(base_url=url, timeout=20), checks=CHECKS)
            return
        status, media_type, first = begun(url, case)
        assert status < 500
        if status == 200:
            assert (media_type, first[:7]) == ("text/event-stream", b"retry: ")
        else:
            assert media_type == "application/problem+json"
            assert json.loads(first)["status"] == status

    ask()
    return count


def test_no_generated_request_is_a_fault_of_ours_and_each_answer_is_as_documented(url: str) -> None:
    ends = time.monotonic() + SECONDS
    document: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [each.ok() for each in document.get_all_operations()]
    streams_first = sorted(operations, key=lambda each: not each.path.endswith("/events"))
    tried = {f"{each.method.upper()} {each.path}": try_out(url, each, ends) for each in streams_first}
    assert all(tried.values()), tried
    assert {each for each in tried if each.endswith("/events")} == {
        "GET /api/v1/workflows/events",
        "GET /api/v1/workflows/{id}/events",
    }
    assert httpx.get(f"{url}/health/ready").status_code == 200
