"""A viewer sees which workflows there are and what state they are in, and nothing that anyone has
put into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
import pytest

from perdure import activity, workflow
from perdure.adapters.http.contract import RECORD
from perdure.api.auth.principal import EVERY_NAMESPACE, Principal
from perdure.api.auth.refusals import Forbidden
from perdure.api.roles import Role
from perdure.errors import Failure
from tests.api import served
from tests.api.served import Caller, api

SECRET = "4711-9d1f"


@dataclass
class Card:
    number: str


@activity.step(retry=activity.Retry(first_interval="1h"))
async def charge(card: Card) -> str:
    raise ValueError(f"declined {card.number}")


@workflow.defn
class Payment:
    def __init__(self) -> None:
        self.card: Card | None = None

    @workflow.run
    async def pay(self, card: Card, how: str) -> Card:
        self.card = card
        if how == "fail":
            raise Failure(f"declined {card.number}")
        if how == "retry":
            await charge(card)
        await workflow.wait_until(lambda: how == "complete")
        return card

    @workflow.signal
    def change(self, card: Card) -> None:
        self.card = card

    @workflow.query
    def current(self) -> Card | None:
        return self.card

    @workflow.view
    def shown(self) -> Card | None:
        return self.card


class Roles:
    """Admits every caller with the role that the request claims."""

    async def admit(self, headers: Mapping[str, str], role: Role) -> Principal:
        held = Role(headers.get("x-role", "admin"))
        if held < role:
            raise Forbidden("no", who=held.value, held=held.value, wanted=role.value)
        return Principal(held.value, held, (EVERY_NAMESPACE,))


VIEWER = {"x-role": "viewer"}
HOW = ("complete", "fail", "retry", "wait", "cancel")


@asynccontextmanager
async def payments(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Caller]:
    """One of each fate, all with the secret in everything that may hold it."""
    monkeypatch.setattr(served, "Parcel", Payment)
    monkeypatch.setattr(served, "weigh", charge)
    async with asyncio.timeout(60), api(security=Roles()) as caller:
        for how in HOW:
            body = {
                "type": "Payment",
                "id": how,
                "args": [{"number": SECRET}, how],
                "options": {"attributes": {"card": SECRET}},
            }
            await caller.post("/workflows", body, 201)
        await caller.post("/workflows/wait/signals/change", {"args": [{"number": SECRET}]}, 202)
        await caller.post("/workflows/cancel/cancel", {"reason": f"stolen {SECRET}"}, 202)
        await caller.until("/workflows/fail", lambda state: state["status"] == "failed")
        await caller.until("/workflows/complete", lambda state: state["status"] == "completed")
        await caller.until("/workflows/cancel", lambda state: state["status"] == "cancelled")
        await caller.until("/workflows/retry/describe", lambda told: SECRET in str(told["activities"]))
        yield caller


def run(test: Callable[[Caller], Awaitable[None]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def main() -> None:
            async with payments(monkeypatch) as caller:
                await test(caller)

        asyncio.run(main())


READ = [
    "/workflows",
    "/workflows/counts",
    *(f"/workflows/{how}{more}" for how in HOW for more in ("", "/describe")),
]


def test_what_a_viewer_reads_has_no_payload_and_a_reader_sees_them_all() -> None:
    async def test(caller: Caller) -> None:
        for path in READ:
            for accept in ("application/json", RECORD):
                seen = await caller.http.get(path, headers={**VIEWER, "Accept": accept})
                assert seen.status_code == 200
                assert SECRET.encode() not in seen.content, path
                whole = await caller.http.get(path, headers={"x-role": "reader", "Accept": accept})
                assert SECRET.encode() in whole.content or path.endswith("counts"), path
        listed = (await caller.get("/workflows", headers=VIEWER))["workflows"]
        assert {each["id"]: each["status"] for each in listed} == {
            "complete": "completed", "fail": "failed", "retry": "running", "wait": "running",
            "cancel": "cancelled",
        }  # fmt: skip
        failed = next(each for each in listed if each["id"] == "fail")
        assert failed["failure"]["type"] == "perdure.errors:Failure"
        assert failed["failure"]["message"] == ""

    run(test)


def test_everything_else_is_refused() -> None:
    async def test(caller: Caller) -> None:
        for method, path in [
            *(("GET", f"/workflows/wait/{part}") for part in ("view", "history", "result")),
            ("POST", "/workflows/wait/queries/current"),
            ("POST", "/workflows/wait/signals/change"),
            ("POST", "/workflows"),
            ("GET", "/dead-letters"),
            ("GET", "/dead-letters/1"),
        ]:
            answer = await caller.http.request(method, path, headers=VIEWER)
            assert answer.status_code == 403, path
            assert SECRET not in answer.text

    run(test)


@pytest.mark.parametrize("path", ["/workflows", "/workflows/counts", "/workflows/events"])
def test_a_viewer_cannot_guess_a_payload_by_filters(path: str) -> None:
    async def test(caller: Caller) -> None:
        for value in (SECRET, "another"):
            await caller.get(path, 403, params={"where": f"card starts with '{value[:1]}'"}, headers=VIEWER)
            problem = await caller.get(path, 403, params={"attribute": f'card:"{value}"'}, headers=VIEWER)
            assert problem["type"].endswith("/forbidden")

    run(test)


async def _told(caller: Caller, path: str, role: str, wanted: int) -> bytes:
    """The first events of a stream."""
    told = b""
    sent: asyncio.Queue[Any] = asyncio.Queue()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "headers": [(b"host", b"localhost"), (b"x-role", role.encode())],
    }  # fmt: skip
    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(caller.app(scope, receive, sent.put))
    while told.count(b"event: state") < wanted:
        told += (await sent.get()).get("body", b"")
    gone.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return told


def test_streams_send_a_viewer_no_payload() -> None:
    async def test(caller: Caller) -> None:
        for role, is_seen in (("viewer", False), ("reader", True)):
            for path in ("/api/v1/workflows/wait/events", "/api/v1/workflows/events"):
                watching = asyncio.create_task(_told(caller, path, role, 2 if "wait" in path else 1))
                hubs = caller.app.hub
                while not len(hubs):
                    await asyncio.sleep(0.005)
                for number in count():
                    if watching.done():
                        break
                    # a state that stays the same is not told again
                    card = {"number": f"{SECRET}-{role}-{number}"}
                    await caller.post("/workflows/wait/signals/change", {"args": [card]}, 202)
                    await asyncio.wait([watching], timeout=0.05)
                told = await watching
                assert (SECRET.encode() in told) == is_seen, (role, path)
                data = told.partition(b"event: state\ndata: ")[2].partition(b"\n")[0]
                assert msgspec.json.decode(data)["id"] == "wait"

    run(test)
