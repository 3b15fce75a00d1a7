"""Streams of runs over HTTP: pages, server-sent events, our own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure import activity, workflow
from perdure.adapters.http.contract import decode_page
from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.api.app import create_app
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.security import Security
from perdure.api.backend import Backend
from perdure.api.roles import Role
from perdure.embedded import Platform
from perdure.registry import Registry
from tests.api.identity import Reports
from tests.api.served import Caller


@activity.defn(retry=activity.Retry(first_interval="1ms"))
async def think(word: str) -> None:
    activity.stream("answer", str).write(word)
    if word == "twice" and activity.info().attempt == 1:
        raise ConnectionError


@workflow.defn
class Chat:
    def __init__(self) -> None:
        self.is_over = False

    @workflow.run
    async def process(self, words: list[str]) -> int:
        for word in words:
            await think(word)
        workflow.stream("answer", dict[str, int]).write({"words": len(words)})
        await workflow.wait_until(lambda: self.is_over)
        workflow.stream("answer").write("bye\n")
        return len(words)

    @workflow.signal
    def end(self) -> None:
        self.is_over = True


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[tuple[Caller, dict[str, str]]]:
    path = folder / "keys.toml"
    key = create_key(path, "reader", Role.READER, ["shop"])[0]
    viewer = create_key(path, "viewer", Role.VIEWER, ["shop"])[0]
    registry = Registry.of([Chat], [think])
    with Platform(registry, f"sqlite:///{folder}/app.db") as platform:
        backend = Backend(
            "shop",
            platform.client()._transport,
            registry=registry,
            feed=LocalStateFeed(platform._adapters.channel),
        )
        app: Any = create_app(backend, Security("shop", api_keys=ApiKeys(path, Reports())))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://shop.example/api/v1")
        async with app._app.router.lifespan_context(app._app), http:
            yield Caller(http, app, platform), {"reader": key, "viewer": viewer}


async def values_of(api: Caller, key: str, count: int) -> list[Any]:
    """The values of the stream of "c", when there are so many."""
    async with asyncio.timeout(20):
        while True:
            page = await api.get("/workflows/c/streams/answer", headers={"Authorization": f"Bearer {key}"})
            if len(page["values"]) >= count:
                return list(page["values"])
            await asyncio.sleep(0.01)


def test_a_page_says_what_each_value_is_and_where_the_next_page_begins(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (api, keys):
            client = api.platform.client()
            await client.start("c", Chat.process, ["a", "twice"])
            values = await values_of(api, keys["reader"], 4)
            assert [(each["value"], each["attempt"]) for each in values] == [
                ("a", 1), ("twice", 1), ("twice", 2), ({"words": 2}, None),
            ]  # fmt: skip
            asked = {"Authorization": f"Bearer {keys['reader']}"}
            second = await api.get(
                f"/workflows/c/streams/answer?after={values[0]['offset']}&limit=2", headers=asked
            )
            assert [each["value"] for each in second["values"]] == ["twice", "twice"]
            assert second["next"] == second["values"][-1]["offset"]
            empty = await api.get("/workflows/c/streams/other", headers=asked)
            assert empty["values"] == []
            await api.get("/workflows/nobody/streams/answer", 404, headers=asked)
            await api.get("/workflows/c/streams/answer?after=-1", 422, headers=asked)
            await api.get("/workflows/c/streams/answer", 422, headers={**asked, "Last-Event-ID": "x"})
            await api.get(
                "/workflows/c/streams/answer", 403, headers={"Authorization": f"Bearer {keys['viewer']}"}
            )

    asyncio.run(main())


@pytest.mark.parametrize("after", [0, 1])
def test_events_continue_until_the_run_has_closed(tmp_path: Path, after: int) -> None:
    async def main() -> None:
        async with served(tmp_path) as (api, keys):
            client = api.platform.client()
            chat = await client.start("c", Chat.process, ["a", "twice"])
            values = await values_of(api, keys["reader"], 4)
            headers = {"Authorization": f"Bearer {keys['reader']}", "Accept": "text/event-stream"}
            if after:
                headers["Last-Event-ID"] = str(values[0]["offset"])
            reading = asyncio.ensure_future(api.http.get("/workflows/c/streams/answer", headers=headers))
            await chat.signal(Chat.end)
            answer = await asyncio.wait_for(reading, 20)
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.text.split("\n") if line.startswith(("data", "event"))]
            wanted = [
                'data: "a"', 'data: "twice"', "event: attempt", 'data: {"attempt":2}', 'data: "twice"',
                'data: {"words":2}', 'data: "bye\\n"', "event: end", "data: {}",
            ]  # fmt: skip
            assert lines == wanted[after:]

    asyncio.run(main())


def test_our_own_client_reads_streams_over_http(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (api, keys):
            client = api.platform.client()
            chat = await client.start("c", Chat.process, ["a"])
            await chat.signal(Chat.end)
            await chat.result()
            answer = await api.http.get(
                "/workflows/c/streams/answer",
                headers={
                    "Authorization": f"Bearer {keys['reader']}",
                    "Accept": "application/vnd.perdure.record",
                },
            )

            page = decode_page(answer.content)
            assert [record.value for _, record in page.values] == [b'"a"', b'{"words":1}', b'"bye\\n"']

    asyncio.run(main())
