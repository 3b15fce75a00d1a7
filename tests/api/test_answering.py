"""Tokens over HTTP: answered with the role of an operator, or, if they are public, by their text
alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect

from perdure import activity, workflow
from perdure.adapters.http import connection
from perdure.adapters.http.contract import RECORD
from perdure.adapters.http.routes import call_of
from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.api import answering
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.security import Security
from perdure.api.backend import Backend
from perdure.api.roles import Role
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import decode_reply
from perdure.embedded import Platform
from perdure.model.commands import FailToken, ResolveToken
from perdure.model.replies import Accepted
from perdure.model.tokens import TokenAddress, parse
from perdure.registry import Registry
from tests.api.identity import Reports
from tests.api.served import Caller

TEXTS: dict[str, str] = {}


@activity.step
async def give_away(name: str, text: str) -> None:
    TEXTS[name] = text


@workflow.defn
async def payment(name: str, public: bool = True) -> Any:
    token = workflow.token(dict[str, int], public=public)
    await give_away(name, token.text)
    return await token


@activity.defn(timeout="1 hour")
async def asked(name: str, public: bool) -> dict[str, int]:
    later = activity.complete_later(public=public)
    TEXTS[name] = later.text
    return later.result


@workflow.defn
async def approval(name: str, public: bool = True) -> dict[str, int]:
    return await asked(name, public)


@asynccontextmanager
async def secured(folder: Path) -> AsyncGenerator[tuple[Caller, MemoryAuditTrail, dict[Role, str]]]:
    """An API that wants keys; what it audits, and a key of each role."""
    path = folder / "keys.toml"
    keys = {role: create_key(path, role.value, role, ["shop"])[0] for role in Role}
    registry = Registry.of([payment, approval], [give_away, asked])
    trail = MemoryAuditTrail()
    with Platform(registry, "memory://") as platform:
        backend = Backend(
            "shop",
            platform.client()._transport,
            registry=registry,
            feed=LocalStateFeed(platform._adapters.channel),
        )
        security = Security("shop", api_keys=ApiKeys(path, Reports()))
        app: Any = create_app(backend, security, AuditLog(trail))
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://shop.example/api/v1",
        )
        async with app._app.router.lifespan_context(app._app), http:
            yield Caller(http, app, platform), trail, keys


async def started(
    api: Caller, key: str, id: str, *, public: bool = True, workflow_type: str = "payment"
) -> str:
    """The text of the token of a new payment, or of what an approval's activity asks for."""
    body = {"type": workflow_type, "id": id, "args": [id, public]}
    await api.post("/workflows", body, 201, headers=bearer(key))
    async with asyncio.timeout(20):
        while id not in TEXTS:
            await asyncio.sleep(0.01)
    return TEXTS.pop(id)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def slug(problem: Any) -> str:
    return str(problem["type"]).rpartition("/")[2]


def test_a_webhook_needs_no_key_and_may_be_delivered_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, trail, keys):
            text = await started(api, keys[Role.OPERATOR], "w-1")
            told = await api.post(f"/tokens/{text}", {"paid": 5}, 202)
            assert (told["id"], told["is_new"]) == ("w-1", True)
            result = await api.get("/workflows/w-1/result?timeout=20s", headers=bearer(keys[Role.READER]))
            assert result["result"] == {"paid": 5}
            again = await api.post(f"/tokens/{text}", {"paid": 5}, 202)
            assert (again["run_id"], again["is_new"]) == (told["run_id"], False)
            other = await api.post(f"/tokens/{text}", {"paid": 6}, 409)
            assert slug(other) == "token-closed"
            assert text not in str(other)
            kept = [each.entry for each in trail.entries(100) if "token" in each.entry.action]
            assert [(each.action, each.target, each.status) for each in kept] == [
                ("resolve token", "w-1", 202)
            ] * 2
            assert all("bearer" in each.who and "token 1" in each.detail for each in kept)
            assert not any(text in repr(each) for each in trail.entries(100))

    asyncio.run(main())


def test_the_result_of_an_activity_is_given_in_the_same_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, trail, keys):
            operator = bearer(keys[Role.OPERATOR])
            text = await started(api, keys[Role.OPERATOR], "a-1", workflow_type="approval")
            await api.post(f"/tokens/{text}", {"paid": "five"}, 422)
            told = await api.post(f"/tokens/{text}", {"paid": 5}, 202)
            assert (told["id"], told["is_new"]) == ("a-1", True)
            result = await api.get("/workflows/a-1/result?timeout=20s", headers=operator)
            assert result["result"] == {"paid": 5}
            await api.post(f"/tokens/{text}", {"paid": 5}, 202)
            assert "activity 1" in next(each.entry for each in trail.entries(100)).detail
            kept = await started(api, keys[Role.OPERATOR], "a-2", public=False, workflow_type="approval")
            await api.post(f"/tokens/{kept}", {"paid": 5}, 401)
            waits = (await api.get("/workflows/a-2/describe", headers=operator))["activities"]
            while waits[0]["doing"] != "waiting for an answer":
                waits = (await api.get("/workflows/a-2/describe", headers=operator))["activities"]
            assert waits[0]["expires_at"] is not None
            await api.post(f"/tokens/{kept}/fail", {"message": "no"}, 202, headers=operator)

    asyncio.run(main())


def test_a_token_that_is_not_public_requires_the_operator_role(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, keys):
            text = await started(api, keys[Role.OPERATOR], "w-2", public=False)
            for path in (f"/tokens/{text}", f"/tokens/{text}/fail"):
                await api.post(path, {}, 401)
                await api.post(path, {}, 403, headers=bearer(keys[Role.READER]))
            await api.post(f"/tokens/{text}", {"paid": 5}, 202, headers=bearer(keys[Role.OPERATOR]))

    asyncio.run(main())


def test_a_forged_text_gets_one_answer_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, trail, keys):
            operator = bearer(keys[Role.OPERATOR])
            address = parse(await started(api, keys[Role.OPERATOR], "w-3", public=False))
            assert address is not None
            before = (await api.get("/workflows/w-3", headers=operator))["history_length"]
            forged = [
                TokenAddress("w-3", address.run_id, 1, address.secret, True),
                TokenAddress("w-3", address.run_id, 1, "0" * 32, True),
                TokenAddress("w-3", address.run_id, 2, address.secret, True),
                TokenAddress("w-3", "another", 1, address.secret, True),
                TokenAddress("nobody", address.run_id, 1, address.secret, True),
            ]
            details: set[str] = set()
            for each in forged:
                for path in (f"/tokens/{each.text}", f"/tokens/{each.text}/fail"):
                    problem = await api.post(path, {}, 404)
                    assert slug(problem) == "token-not-found"
                    details.add(problem["detail"])
            assert len(details) == 1, "it tells nobody which workflows there are"
            await api.post("/tokens/garbage", {}, 401)
            await api.post("/tokens/garbage", {}, 404, headers=operator)
            after = (await api.get("/workflows/w-3", headers=operator))["history_length"]
            assert after == before
            assert {each.entry.who for each in trail.entries(100)} == {
                each.entry.who for each in trail.entries(100) if each.entry.role
            }

    asyncio.run(main())


def test_a_value_that_does_not_fit_is_refused_and_the_token_stays_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, keys):
            text = await started(api, keys[Role.OPERATOR], "w-4")
            problem = await api.post(f"/tokens/{text}", {"paid": "much"}, 422)
            assert "token 1" in problem["detail"]
            for content, media, status in (
                (b"{", "application/json", 422),
                (b"paid=5", "application/x-www-form-urlencoded", 415),
                (b"", "application/json", 422),
                (b'"' + b"x" * 1_048_576 + b'"', "application/json", 413),
            ):
                answer = await api.http.post(
                    f"/tokens/{text}", content=content, headers={"Content-Type": media}
                )
                assert answer.status_code == status, answer.text
            await api.post(f"/tokens/{text}/fail", {"reason": "unknown field"}, 422)
            await api.post(f"/tokens/{text}?key=1", {}, 422)
            waits = (await api.get("/workflows/w-4", headers=bearer(keys[Role.READER])))["waits"]
            assert [(each["kind"], each["number"], each["name"]) for each in waits] == [("token", 1, None)]
            await api.post(f"/tokens/{text}", {"paid": 5}, 202)

    asyncio.run(main())


def test_a_token_is_failed_with_a_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, keys):
            text = await started(api, keys[Role.OPERATOR], "w-5")
            await api.post(f"/tokens/{text}/fail", {"message": "the card is gone"}, 202)
            reader = bearer(keys[Role.READER])
            result = await api.get("/workflows/w-5/result?timeout=20s", headers=reader)
            assert (result["status"], result["failure"]["cause"]["message"]) == (
                "failed",
                "the card is gone",
            )
            assert slug(await api.post(f"/tokens/{text}", {"paid": 5}, 409)) == "token-closed"

    asyncio.run(main())


def test_who_has_public_texts_has_a_rate_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, _keys):
            api.app._app.state.rates._most = 3.0
            api.app._app.state.rates._per_s = 0.001
            text = TokenAddress("nobody", "run-1", 1, "0" * 32, True).text
            statuses = [(await api.http.post(f"/tokens/{text}", json={})).status_code for _ in range(5)]
            assert statuses == [404, 404, 404, 429, 429]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["", "/fail"])
def test_the_routes_of_tokens_say_that_a_key_may_be_missing(path: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, _keys):
            operation = api.app._app.openapi()["paths"][f"/api/v1/tokens/{{text}}{path}"]["post"]
            assert operation["security"] == [{"token": []}, {}]
            assert operation["x-perdure-role"] == "operator"

    asyncio.run(main())


@pytest.mark.parametrize("is_failed", [False, True])
def test_our_own_client_answers_with_what_it_has_encoded(is_failed: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(tmp_path) as (api, _, keys):
            order = f"w-6-{is_failed}"
            text = await started(api, keys[Role.OPERATOR], order)
            failure = JsonPayloads().encode_failure(KeyError("card"))
            command: FailToken | ResolveToken = (
                FailToken(order, token=text, failure=failure)
                if is_failed
                else ResolveToken(order, token=text, value=b'{"paid":5}')
            )
            call = call_of(command)
            path, headers = call.path.removeprefix("/api/v1"), {**call.headers, "accept": RECORD}
            answer = await api.http.post(path, content=call.body, headers=headers)
            assert answer.status_code == 202, answer.text
            again = await api.http.post(path, content=call.body, headers=headers)
            replies = [decode_reply(each.content) for each in (answer, again)]
            assert [isinstance(each, Accepted) and each.is_new for each in replies] == [True, False]
            result = await api.get(
                f"/workflows/{order}/result?timeout=20s", headers=bearer(keys[Role.READER])
            )
            if is_failed:
                assert result["failure"]["cause"]["type"] == "builtins:KeyError"
            else:
                assert result["result"] == {"paid": 5}
            nonsense = {"input": "!", "failure": "!"}
            answer = await api.http.post(path, json=nonsense, headers={"accept": RECORD})
            assert answer.status_code == 422

    asyncio.run(main())


def test_no_log_has_the_text_of_a_token_in_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    assert connection.__name__, "it hides them from the log of httpx, too"

    async def breaks(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    async def leaves(*_: Any) -> Any:
        raise ClientDisconnect

    async def main() -> None:
        async with secured(tmp_path) as (api, _, keys):
            text = await started(api, keys[Role.OPERATOR], "logged")
            for fault, status in ((breaks, 500), (leaves, 400)):
                with monkeypatch.context() as patched:
                    patched.setattr(answering, "json_of", fault)
                    answer = await api.http.post(f"/tokens/{text}", json={"cents": 1})
                    assert answer.status_code == status
            answer = await api.http.post(f"/tokens/{text}", json={"cents": 1})
            assert answer.status_code == 202, "as httpx logs it at INFO"
            lines = [caplog.handler.format(record) for record in caplog.records]
            assert any("POST /api/v1/tokens/token_…" in line for line in lines)
            assert any("tokens/token_… " in line and "HTTP Request" in line for line in lines)
            assert not [line for line in lines if text in line]

    asyncio.run(main())
