"""What operators look after, in front of a file: dead letters, task queues, the worker, the audit
trail."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from perdure import activity, workflow
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.security import Unsecured
from perdure.cli.lifecycle.api_backends import in_process, on_file
from perdure.codec.records import encode_command
from perdure.embedded import Platform
from perdure.model.commands import StartWorkflow
from perdure.registry import Registry
from tests.api.served import Caller

MAY_END = threading.Event()


@activity.defn(queue="ovens")
def bake(cake: str) -> str:
    assert MAY_END.wait(30)
    return f"{cake} is baked"


@workflow.defn
async def baking(cake: str) -> str:
    return await bake(cake)


@asynccontextmanager
async def api(folder: Path) -> AsyncGenerator[Caller]:
    registry, url = Registry.of([baking], [bake]), f"sqlite:///{folder}/app.db"
    with Platform(registry, url) as platform:
        backend, trail = in_process(platform, url, registry)
        app = create_app(backend, Unsecured(), AuditLog(trail))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1")
        async with app._app.router.lifespan_context(app._app), http:
            yield Caller(http, app, platform)


def put(folder: Path, *records: bytes) -> None:
    """As another process does."""
    with sqlite3.connect(folder / "app.db", timeout=10) as connection:
        connection.executemany("INSERT INTO commands (record) VALUES (?)", [(each,) for each in records])
    connection.close()


def test_a_dead_letter_is_looked_at_put_back_and_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with api(tmp_path) as caller:
            put(tmp_path, b"\xc1 no record", b"\xc1 neither")
            found = await caller.until("/dead-letters", lambda told: len(told["dead_letters"]) == 2)
            first, second = found["dead_letters"]
            assert (first["reason"], first["value"]) == ("undecodable", "wSBubyByZWNvcmQ=")
            assert first["found_at"].endswith("Z")
            assert await caller.get(f"/dead-letters/{first['id']}") == first
            assert "detail" in await caller.post(f"/dead-letters/{first['id']}/retry", status=422), (
                "it would come back"
            )
            dropped = await caller.post(f"/dead-letters/{first['id']}/drop")
            assert dropped == {"id": first["id"], "became": "dropped"}
            for told in (
                await caller.get(f"/dead-letters/{first['id']}", 404),
                await caller.post(f"/dead-letters/{first['id']}/drop", status=404),
                await caller.post(f"/dead-letters/{first['id']}/retry", status=404),
            ):
                assert told["title"] == "No such dead letter"
                assert told["type"].endswith("dead-letter-not-found")
            with sqlite3.connect(tmp_path / "app.db", timeout=10) as connection:
                good = encode_command(StartWorkflow("c-1", request_id="r", type="baking", input=b'["cake"]'))
                connection.execute(
                    "UPDATE dead_letters SET record = ? WHERE position = ?", (good, int(second["id"]))
                )
            connection.close()
            MAY_END.set()
            assert (await caller.post(f"/dead-letters/{second['id']}/retry"))["became"] == "retried"
            await caller.until(
                "/workflows", lambda page: [each["id"] for each in page["workflows"]] == ["c-1"]
            )
            assert await caller.get("/dead-letters") == {"dead_letters": [], "next": None}
            entries = (await caller.get("/audit"))["entries"][::-1]
            assert [(each["action"], each["target"], each["outcome"]) for each in entries] == [
                ("retry dead letter", first["id"], "refused"),
                ("drop dead letter", first["id"], "done"),
                ("drop dead letter", first["id"], "refused"),
                ("retry dead letter", first["id"], "refused"),
                ("retry dead letter", second["id"], "done"),
            ]

    asyncio.run(test())


def test_the_queues_have_the_tasks_that_have_not_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with api(tmp_path) as caller:
            assert await caller.get("/queues") == {"queues": [{"name": "ovens", "backlog": 0, "workers": 1}]}
            for number in range(3):
                await caller.post(
                    "/workflows", {"type": "baking", "id": f"c-{number}", "args": ["cake"]}, 201
                )
            await caller.until("/queues", lambda told: told["queues"][0]["backlog"] == 3)
            (worker,) = (await caller.get("/workers"))["workers"]
            assert worker["queues"] == ["ovens"]
            MAY_END.set()
            await caller.until("/queues", lambda told: told["queues"][0]["backlog"] == 0)

    asyncio.run(test())


def test_beside_the_file_nothing_is_known_of_workers(tmp_path: Path) -> None:
    async def test() -> None:
        async with api(tmp_path):
            backend, trail = on_file(f"sqlite:///{tmp_path}/app.db", None)
            app = create_app(backend, Unsecured())
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1") as http:
                assert (await http.get("/queues")).json() == {"queues": []}
                assert (await http.get("/dead-letters")).json() == {"dead_letters": [], "next": None}
            await backend.close()
            trail.close()

    asyncio.run(test())


@pytest.fixture(autouse=True)
def _cold() -> None:
    MAY_END.clear()
