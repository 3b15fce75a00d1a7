"""Server-sent events: nothing is missed, over reconnects either; slow readers are cut; a server that stops says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.api import streams
from perdure.api.streams import Hub, Watch
from perdure.client.listing import ListQuery
from perdure.model.states import Status, WorkflowState
from tests.api.served import Caller, run


class Stream:
    """A reader of one stream, straight at the application: httpx's own would wait for the end."""

    def __init__(self, api: Caller, path: str, headers: dict[str, str]) -> None:
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""
        self._gone = asyncio.Event()
        self.status = 0
        path, _, query = path.partition("?")
        raw = [(name.lower().encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": f"/api/v1{path}",
            "raw_path": f"/api/v1{path}".encode(), "query_string": query.encode(), "root_path": "", "headers": raw,
            "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self._task = asyncio.create_task(api.app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            await self._parts.put(message["body"])

    async def event(self) -> tuple[str, str, Any]:
        """Id, name and data of the next event; heartbeats and the first line are passed over."""
        while True:
            while b"\n\n" not in self._rest:
                async with asyncio.timeout(20):
                    self._rest += await self._parts.get()
            head, _, self._rest = self._rest.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if not line.startswith(":"))
            if "event" in fields:
                return fields.get("id", ""), fields["event"], json.loads(fields["data"])

    async def close(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self._task, 10)


@asynccontextmanager
async def watching(api: Caller, path: str, **headers: str) -> AsyncGenerator[Stream]:
    stream = Stream(api, path, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        yield stream
    finally:
        await stream.close()


def test_a_workflow_is_watched_from_now_to_its_end() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        async with watching(api, "/workflows/p-1/events") as stream:
            _, kind, state = await stream.event()
            assert (kind, state["view"]["place"]) == ("state", "van")
            for place in ("road", "bridge"):
                await api.post("/workflows/p-1/signals/move", {"args": [place]}, 202)
                assert (await stream.event())[2]["view"]["place"] == place
            await api.post("/workflows/p-1/signals/deliver", None, 202)
            while (state := (await stream.event())[2])["status"] == "running":
                pass
            assert state["result"] == 3
        await api.get("/workflows/nobody/events", 404)

    run(test)


def test_who_comes_again_is_told_what_has_changed_meanwhile_and_nothing_else() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        async with watching(api, "/workflows/p-1/events") as stream:
            last, _, _ = await stream.event()
        async with watching(api, "/workflows/p-1/events", Last_Event_ID=last) as stream:
            await api.post("/workflows/p-1/signals/move", {"args": ["road"]}, 202)
            last, _, state = await stream.event()
            assert state["view"]["place"] == "road", "what was known is not told again"
        await api.post("/workflows/p-1/signals/move", {"args": ["bridge"]}, 202)
        async with watching(api, "/workflows/p-1/events", Last_Event_ID=last) as stream:
            assert (await stream.event())[2]["view"]["place"] == "bridge"
        await api.get("/workflows/p-1/events", 422, headers={"Last-Event-ID": "x"})

    run(test)


def test_a_list_is_watched_over_reconnects() -> None:
    async def test(api: Caller) -> None:
        async with watching(api, "/workflows/events?type=Parcel&id_prefix=p-") as stream:
            await asyncio.sleep(0.05)
            await api.start("p-1")
            await api.start("q-1")
            last, kind, state = await stream.event()
            assert (kind, state["id"]) == ("state", "p-1")
        await api.start("p-2")
        await api.until("/workflows/p-2/view", lambda view: view["place"] == "van")
        async with watching(api, "/workflows/events?id_prefix=p-", Last_Event_ID=last) as stream:
            seen = set[str]()
            while "p-2" not in seen:
                seen.add((await stream.event())[2]["id"])
            assert seen <= {"p-1", "p-2"}
        await api.get("/workflows/events?sort=started_at", 422)

    run(test)


def test_a_server_that_stops_says_goodbye() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        async with watching(api, "/workflows/p-1/events") as stream:
            await stream.event()
            api.app.hub.say_goodbye()
            while (event := await stream.event())[1] == "state":
                pass
            assert event[1] == "bye"

    run(test)


def state(workflow_id: str, at: int, status: Status = Status.RUNNING) -> WorkflowState:
    return WorkflowState(workflow_id, "r", "Order", status, 1, at, 0, 1)


def test_a_workflow_that_leaves_the_filter_is_told_of_once_more_and_a_deleted_one_too() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("", ListQuery(statuses=("running",)))
        hub.add(watch)
        hub.publish([("a", state("a", 1)), ("b", state("b", 1, Status.FAILED)), ("a", state("a", 2, Status.FAILED))])
        hub.publish([("a", state("a", 3, Status.FAILED)), ("c", state("c", 4)), ("c", None), ("d", None)])
        told = await watch.next() or b""
        assert told.count(b"event: state") == 3
        assert told.count(b"event: deleted") == 1
        hub.remove(watch)
        assert len(hub) == 0

    asyncio.run(main())


def test_a_slow_reader_is_cut_and_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hub, watch, other = Hub(), Watch("a"), Watch("b")
        hub.add(watch)
        hub.add(other)
        hub.publish([("a", state("a", at)) for at in range(1, streams.QUEUE + 50)])
        told = await watch.next() or b""
        assert told.count(b"event: state") == streams.QUEUE, "no more than that is kept"
        assert told.endswith(b'come again with the last id"}\n\n')
        assert watch.is_cut
        monkeypatch.setattr(streams, "HEARTBEAT_S", 0.01)
        assert await other.next() == b": still here\n\n", "others are not held up"

    asyncio.run(main())
