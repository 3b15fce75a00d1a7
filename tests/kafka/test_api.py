"""The HTTP API on Kafka: what is asked goes through the topics, what changes is sent as it is
committed, and who serves the queues is known."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.adapters.kafka.client import state_feed
from perdure.adapters.kafka.client.state_feed import StateFeed
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.cli.lifecycle.api_backends import on_kafka
from perdure.codec.avro import HEADER, STATE
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState
from perdure.registry import Registry
from tests.api.served import Caller
from tests.api.test_streams import watching
from tests.kafka.apps import labour
from tests.kafka.namespace import Namespace


def test_a_day_over_http_on_kafka(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABOUR", str(tmp_path / "book"))
    registry = Registry.of([labour.Day], [labour.work])
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    platform = KafkaPlatform(
        registry, place, engine=EngineOptions(state_dir=tmp_path / "state"), worker=WorkerOptions()
    )

    async def live() -> None:
        backend, trail = on_kafka(place, registry)
        app = create_app(backend, Unsecured())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app._app.router.lifespan_context(app._app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", timeout=60) as http,
        ):
            api: Any = Caller(http, app, platform)  # type: ignore[arg-type]
            started = await api.post("/workflows", {"type": "Day", "id": "mon/day", "args": ["tidy up"]}, 201)
            assert await api.get("/workflows/mon%2Fday/view") == "going on", "what was answered can be read"
            async with (
                watching(api, "/workflows/mon%2Fday/events") as one,
                watching(api, "/workflows/events?type=Day") as every,
            ):
                assert (await one.event())[2]["view"] == "going on"
                await every.begun()
                told = await api.post("/workflows/mon%2Fday/signals/end", {}, 202)
                assert told["run_id"] == started["run_id"]
                assert (await api.get("/workflows/mon%2Fday/result?timeout=30s"))[
                    "result"
                ] == "tidy up is done"
                for stream in (one, every):
                    while (await stream.event())[2]["status"] != "completed":
                        pass
            state = await api.get(f"/workflows/mon%2Fday?after={told['position']}")
            assert (state["status"], state["view"]) == ("completed", "over")
            history = await api.get("/workflows/mon%2Fday/history")
            assert [event["event_id"] for event in history["events"]] == list(
                range(1, state["history_length"] + 1)
            )
            assert (await api.get("/queues"))["queues"] == [{"name": "default", "backlog": 0, "workers": 1}]
            (worker,) = (await api.get("/workers"))["workers"]
            assert worker["queues"] == ["default"]
            assert (await http.get("http://localhost/health/ready")).status_code == 200
        trail.close()

    with platform:
        asyncio.run(live())


def state(workflow_id: str, at: int) -> WorkflowState:
    return WorkflowState(workflow_id, "r", "Order", Status.RUNNING, 1, at, 0, 1)


def test_the_feed_begins_where_it_says_and_passes_over_what_it_cannot_read(namespace: Namespace) -> None:
    def put(value: bytes | None, key: bytes | None, header: bytes = STATE.header[1]) -> None:
        namespace.put(value, key, 0, [(HEADER, header)], "state")
        namespace.flush()

    async def follow() -> None:
        put(STATE.encode(state("before", 1)), b"before")
        feed = StateFeed(PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap}))
        told: asyncio.Queue[Any] = asyncio.Queue()

        def listen(changes: Any) -> None:
            for each in changes:
                told.put_nowait(each)

        feed.start(listen)
        await feed.begun()
        put(STATE.encode(state("a", 2)), b"a")
        put(b"\xff", b"b", b"state/9/none")
        put(None, b"a")
        put(STATE.encode(state("c", 3)), b"c")
        async with asyncio.timeout(30):
            assert [await told.get() for _ in range(3)] == [
                ("a", state("a", 2)),
                ("a", None),
                ("c", state("c", 3)),
            ]
        assert "'b' cannot be read" in feed.trouble
        assert [each.partition for each in await feed.positions()] == list(range(len(await feed.positions())))
        await feed.close()
        await feed.close()

    asyncio.run(follow())


def test_a_feed_that_finds_no_topic_says_so(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_feed, "BEGUN_S", 1.0)

    async def follow() -> None:
        feed = StateFeed(PlainClients("nowhere", "test", {"bootstrap.servers": kafka}))
        feed.start(lambda _: None)
        with pytest.raises(InfrastructureError, match="topics apply"):
            await feed.begun()
        await feed.close()

    asyncio.run(follow())
