"""Every route with every kind of credential. A route that is not in `ROLES` fails the first test:
say there who may."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.api.audit import AuditLog
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key, revoke_key
from perdure.api.auth.security import Security, Unsecured
from perdure.api.roles import Role
from perdure.client.listing import ListQuery
from perdure.model.tokens import TokenAddress
from perdure.ports.audit import AuditEntry
from tests.api.identity import (
    NOW,
    STRANGER,
    Reports,
    claims,
    signed,
    signed_with_public_key,
    tokens,
    unsigned,
)
from tests.api.served import api

VIEWER, READER, OPERATOR, ADMIN = Role
V1 = "/api/v1"
ROLES: dict[tuple[str, str], Role | None] = {
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/docs"): None,
    ("GET", V1): None,
    ("GET", f"{V1}/"): None,
    ("GET", f"{V1}/workflows"): VIEWER,
    ("GET", f"{V1}/workflows/counts"): VIEWER,
    ("GET", f"{V1}/workflows/events"): VIEWER,
    ("GET", f"{V1}/workflows/{{id}}"): VIEWER,
    ("GET", f"{V1}/workflows/{{id}}/view"): READER,
    ("GET", f"{V1}/workflows/{{id}}/describe"): VIEWER,
    ("GET", f"{V1}/workflows/{{id}}/history"): READER,
    ("GET", f"{V1}/workflows/{{id}}/result"): READER,
    ("GET", f"{V1}/workflows/{{id}}/events"): VIEWER,
    ("GET", f"{V1}/workflows/{{id}}/position"): VIEWER,
    ("GET", f"{V1}/positions/{{position}}"): VIEWER,
    ("POST", f"{V1}/workflows/{{id}}/queries/{{name}}"): READER,
    ("GET", f"{V1}/workflows/{{id}}/updates/{{update}}"): READER,
    ("GET", f"{V1}/workflows/{{id}}/streams/{{name}}"): READER,
    ("GET", f"{V1}/queues"): VIEWER,
    ("GET", f"{V1}/workers"): VIEWER,
    ("GET", f"{V1}/dead-letters"): READER,
    ("GET", f"{V1}/dead-letters/{{number}}"): READER,
    ("POST", f"{V1}/workflows"): OPERATOR,
    ("POST", f"{V1}/jobs"): OPERATOR,
    ("GET", f"{V1}/schedules"): READER,
    ("GET", f"{V1}/schedules/{{id}}"): READER,
    ("POST", f"{V1}/schedules/{{id}}"): OPERATOR,
    ("PUT", f"{V1}/schedules/{{id}}"): OPERATOR,
    ("DELETE", f"{V1}/schedules/{{id}}"): OPERATOR,
    ("POST", f"{V1}/schedules/{{id}}/pause"): OPERATOR,
    ("POST", f"{V1}/schedules/{{id}}/unpause"): OPERATOR,
    ("POST", f"{V1}/schedules/{{id}}/trigger"): OPERATOR,
    ("POST", f"{V1}/schedules/{{id}}/backfill"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/signals/{{name}}"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/updates/{{name}}"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/cancel"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/terminate"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/pause"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/unpause"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/retry"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/complete"): OPERATOR,
    ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/fail"): OPERATOR,
    ("POST", f"{V1}/tokens/{{text}}"): OPERATOR,
    ("POST", f"{V1}/tokens/{{text}}/fail"): OPERATOR,
    ("DELETE", f"{V1}/workflows/{{id}}"): ADMIN,
    ("POST", f"{V1}/dead-letters/{{number}}/retry"): ADMIN,
    ("POST", f"{V1}/dead-letters/{{number}}/drop"): ADMIN,
    ("GET", f"{V1}/audit"): ADMIN,
}
"""Who may; None: everybody."""

TEXT: Final = TokenAddress("nobody", "run-1", 1, "0" * 32).text
Found = dict[tuple[tuple[str, str], str], tuple[int, dict[str, str], Any]]
"""By route and credential: status, headers and problem."""


class Walk:
    """What came of every route with every credential, on one platform.

    Attributes:
        unknown: credentials of nobody.
        elsewhere: of somebody who may nothing here.
        roles: of somebody who has a role here.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.toml"
        expired = self._key("expired", ADMIN, expires=timedelta(hours=1))
        revoked = self._key("revoked", ADMIN)
        revoke_key(self.path, revoked.split("_")[1])
        good = self._key("good", ADMIN)
        self.unknown: dict[str, str] = {
            "none": "",
            "garbage": "Bearer garbage",
            "no credential": "Bearer ",
            "another scheme": "Basic YWRtaW46YWRtaW4=",
            "expired key": f"Bearer {expired}",
            "revoked key": f"Bearer {revoked}",
            "key with another secret": f"Bearer {good[:-8]}AAAAAAAA",
            "key in lower case": f"Bearer {good.lower()}",
            "hash of a key": f"Bearer {self.path.read_text().partition('sha256:')[2][:64]}",
            "expired token": f"Bearer {signed(claims('admin', exp=NOW - 60))}",
            "token that begins later": f"Bearer {signed(claims('admin', nbf=NOW + 60))}",
            "token that never expires": f"Bearer {signed(claims('admin', exp=None))}",
            "token for another audience": f"Bearer {signed(claims('admin', aud='another'))}",
            "token of another issuer": f"Bearer {signed(claims('admin', iss='https://evil.example'))}",
            "token of a stranger": f"Bearer {signed(claims('admin'), STRANGER)}",
            "token with alg none": f"Bearer {unsigned(claims('admin'))}",
            "token under the public key": f"Bearer {signed_with_public_key(claims('admin'))}",
            "token with an unknown key id": f"Bearer {signed(claims('admin'), kid='unknown')}",
        }
        others, roles = ["another", "shop2", "sho"], ["admin", "operator", "perdure:root"]
        self.elsewhere: dict[str, str] = {
            "key of another namespace": f"Bearer {self._key('elsewhere', ADMIN, 'another')}",
            "token of another namespace": f"Bearer {signed(claims('admin', namespaces=others))}",
            "token of no namespace": f"Bearer {signed(claims('admin', namespaces=None))}",
            "token of no role": f"Bearer {signed(claims(None))}",
            "token of a role elsewhere": f"Bearer {signed(claims(roles=roles))}",
        }
        self.roles: dict[str, tuple[Role, str]] = {
            f"{kind} of {role.value}": (role, credential)
            for role in Role
            for kind, credential in (
                ("key", f"Bearer {self._key(role.value, role)}"),
                ("token", f"bearer {signed(claims(role.value))}"),
                ("key for all namespaces", f"Bearer {self._key(role.value, role, '*')}"),
            )
        }
        self.found: Found = {}
        self.routes: set[tuple[str, str]] = set()
        self.started: set[str] = set()
        self.kept: list[AuditEntry] = []
        asyncio.run(self._walk())

    def _key(self, name: str, role: Role, namespace: str = "shop", expires: timedelta | None = None) -> str:
        until = datetime.now(UTC) + expires if expires is not None else None
        return create_key(self.path, name, role, [namespace], until)[0]

    async def _walk(self) -> None:
        trail = MemoryAuditTrail()
        keys = ApiKeys(self.path, Reports(), now=lambda: datetime.now(UTC) + timedelta(hours=2))
        security = Security("shop", api_keys=keys, tokens=tokens())
        async with api(security, audit=AuditLog(trail)) as caller:
            self.routes = routes_of(caller.app)
            credentials = {
                **self.unknown,
                **self.elsewhere,
                **{name: each for name, (_, each) in self.roles.items()},
            }
            for name, credential in credentials.items():
                for method, path in ROLES:
                    self.found[(method, path), name] = await call(caller.app, method, path, credential, name)
            self.started = {
                state.workflow_id for state in caller.platform.reader().list(ListQuery(limit=1000))
            }
        self.kept = [kept.entry for kept in trail.entries(10_000)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return Walk(tmp_path_factory.mktemp("security"))


def routes_of(app: Any) -> set[tuple[str, str]]:
    """Every method and path that the application answers."""
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        methods = set(route.methods) - {"HEAD", "OPTIONS"}
        assert methods, f"{route!r} is of a kind that this test does not know"
        found |= {(method, route.path) for method in methods}
    return found


async def call(
    app: Any, method: str, path: str, credential: str, name: str
) -> tuple[int, dict[str, str], Any]:
    """Ask, up to the first part of the answer: some never end."""
    body = json.dumps(
        {"type": "Parcel", "id": f"by {name}", "args": ["box"]} if path == f"{V1}/workflows" else {}
    ).encode()
    filled = path.format(id="nobody", name="where", number="1", position="0-0", update="u-1", text=TEXT)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    if credential:
        headers.append((b"authorization", credential.encode()))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": filled,
        "raw_path": filled.encode(), "query_string": b"timeout=1ms" if path.endswith("/result") else b"",
        "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("localhost", 80), "state": {},
    }  # fmt: skip
    answer: asyncio.Queue[Any] = asyncio.Queue()
    asked: asyncio.Queue[Any] = asyncio.Queue()
    asked.put_nowait({"type": "http.request", "body": body if method == "POST" else b"", "more_body": False})
    task = asyncio.create_task(app(scope, asked.get, answer.put))
    async with asyncio.timeout(20):
        start, first = await answer.get(), await answer.get()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    found = {key.decode(): value.decode() for key, value in start["headers"]}
    is_problem = found.get("content-type") == "application/problem+json"
    return start["status"], found, json.loads(first["body"]) if is_problem else None


def test_each_role_includes_the_previous_one() -> None:
    assert VIEWER < READER < OPERATOR < ADMIN
    assert [role.value for role in sorted(Role)] == ["viewer", "reader", "operator", "admin"]


def test_every_route_says_who_may(walk: Walk) -> None:
    assert walk.routes == set(ROLES)


@pytest.mark.parametrize(("method", "path"), [route for route, role in ROLES.items() if role is not None])
def test_unauthenticated_requests_are_refused(walk: Walk, method: str, path: str) -> None:
    for name, credential in walk.unknown.items():
        status, headers, problem = walk.found[(method, path), name]
        assert status == 401, name
        assert problem["type"].endswith("/unauthenticated"), name
        assert headers["www-authenticate"].startswith('Bearer realm="perdure"')
        assert ('error="invalid_token"' in headers["www-authenticate"]) is bool(credential), name


@pytest.mark.parametrize(("method", "path"), [route for route, role in ROLES.items() if role is not None])
def test_requests_with_another_role_or_namespace_are_refused(walk: Walk, method: str, path: str) -> None:
    wanted = ROLES[method, path]
    assert wanted is not None
    lesser = [name for name, (role, _) in walk.roles.items() if role < wanted]
    for name in [*walk.elsewhere, *lesser]:
        status, headers, problem = walk.found[(method, path), name]
        assert status == 403, name
        assert problem["type"].endswith("/forbidden"), name
        assert 'error="insufficient_scope"' in headers["www-authenticate"]
        if name in lesser:
            assert f"the role {wanted.value}" in problem["detail"]


@pytest.mark.parametrize(("method", "path"), list(ROLES))
def test_callers_with_the_role_are_admitted(walk: Walk, method: str, path: str) -> None:
    wanted = ROLES[method, path]
    let_in = [name for name, (role, _) in walk.roles.items() if wanted is None or role >= wanted]
    for name in [*let_in, *(walk.unknown if wanted is None else ())]:
        status = walk.found[(method, path), name][0]
        assert status not in {401, 403}, name
        assert status < 500, name


def test_only_authorised_callers_have_started_workflows(walk: Walk) -> None:
    assert walk.started == {f"by {name}" for name, (role, _) in walk.roles.items() if role >= OPERATOR}


def test_the_audit_log_has_every_authenticated_action_and_no_other(walk: Walk) -> None:
    actions = {
        ("POST", f"{V1}/workflows"): "start",
        ("POST", f"{V1}/jobs"): "start",
        ("POST", f"{V1}/schedules/{{id}}"): "create schedule",
        ("PUT", f"{V1}/schedules/{{id}}"): "update schedule",
        ("DELETE", f"{V1}/schedules/{{id}}"): "delete schedule",
        ("POST", f"{V1}/schedules/{{id}}/pause"): "pause schedule",
        ("POST", f"{V1}/schedules/{{id}}/unpause"): "unpause schedule",
        ("POST", f"{V1}/schedules/{{id}}/trigger"): "trigger schedule",
        ("POST", f"{V1}/schedules/{{id}}/backfill"): "backfill schedule",
        ("POST", f"{V1}/workflows/{{id}}/signals/{{name}}"): "signal",
        ("POST", f"{V1}/workflows/{{id}}/updates/{{name}}"): "update",
        ("POST", f"{V1}/workflows/{{id}}/cancel"): "cancel",
        ("POST", f"{V1}/workflows/{{id}}/terminate"): "terminate",
        ("DELETE", f"{V1}/workflows/{{id}}"): "delete",
        ("POST", f"{V1}/workflows/{{id}}/pause"): "pause",
        ("POST", f"{V1}/workflows/{{id}}/unpause"): "unpause",
        ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/retry"): "retry activity",
        ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/complete"): "complete activity",
        ("POST", f"{V1}/workflows/{{id}}/activities/{{number}}/fail"): "fail activity",
        ("POST", f"{V1}/tokens/{{text}}"): "resolve token",
        ("POST", f"{V1}/tokens/{{text}}/fail"): "fail token",
        ("POST", f"{V1}/dead-letters/{{number}}/retry"): "retry dead letter",
        ("POST", f"{V1}/dead-letters/{{number}}/drop"): "drop dead letter",
    }
    wanted = sorted(
        (actions[route], status)
        for (route, name), (status, _, _) in walk.found.items()
        if route in actions and name not in walk.unknown
    )
    assert sorted((entry.action, entry.status) for entry in walk.kept) == wanted
    assert {entry.outcome for entry in walk.kept if entry.status == 201} == {"done"}
    assert {entry.outcome for entry in walk.kept if entry.status >= 400} == {"refused"}
    assert all(entry.who and entry.at and entry.address for entry in walk.kept)
    assert not any(TEXT in repr(entry) for entry in walk.kept), "the text of a token is a secret"
    assert {entry.role for entry in walk.kept if " reader" in entry.who} == {"reader"}
    assert {entry.role for entry in walk.kept if " viewer" in entry.who} == {"viewer"}
    starts = [entry for entry in walk.kept if entry.status == 201]
    assert {entry.target for entry in starts} == walk.started
    assert all(
        entry.detail == "Parcel" and entry.request_id and entry.role in {"operator", "admin"}
        for entry in starts
    )


def test_the_description_names_the_role_of_every_route_that_wants_one(walk: Walk) -> None:
    async def main() -> Any:
        async with api(Unsecured(), audit=AuditLog(MemoryAuditTrail())) as caller:
            return caller.app._app.openapi()

    document = asyncio.run(main())
    said = {
        (method.upper(), path): operation["x-perdure-role"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert said == {route: role.value for route, role in ROLES.items() if role is not None}


@pytest.mark.parametrize("token", ["?token=", "?access_token=", "?authorization=Bearer%20"])
def test_a_credential_in_the_address_is_not_accepted(walk: Walk, token: str) -> None:
    key = walk.roles["key of admin"][1].removeprefix("Bearer ")

    async def main() -> int:
        async with api(Security("shop", api_keys=ApiKeys(walk.path, Reports()))) as caller:
            return (await caller.http.get(f"/workflows{token}{key}")).status_code

    assert asyncio.run(main()) == 401


def test_without_authentication_pages_of_other_sites_are_refused_on_every_route_that_wants_a_role() -> None:
    async def main() -> None:
        async with api(Unsecured()) as caller:
            for (method, path), role in ROLES.items():
                if role is None or path.endswith("/audit"):
                    continue
                filled = path.removeprefix(V1).format(
                    id="nobody", name="where", number="1", position="0-0", update="u-1", text=TEXT
                )
                rebound = await caller.http.request(method, filled, headers={"host": "evil.example"})
                assert rebound.status_code == 421, path
                crossed = await caller.http.request(
                    method, filled, headers={"origin": "https://evil.example"}
                )
                assert crossed.status_code == 403, path
                assert "access-control-allow-origin" not in crossed.headers

    asyncio.run(main())
