"""Server-sent events: nothing is missed, over reconnects either; slow readers are cut; a server
that stops says so."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.api import hub as hubs
from perdure.api import streams
from perdure.api.auth.principal import Principal
from perdure.api.auth.refusals import Forbidden
from perdure.api.auth.security import Unsecured
from perdure.api.change_events import EncodedEvent, EventEncoder, EventId, version_of
from perdure.api.feeds import Change, PollingFeed
from perdure.api.hub import Hub, Watch
from perdure.api.roles import Role
from perdure.api.sending import SLICE
from perdure.client.listing import ListQuery, select
from perdure.model.states import Status, WorkflowState
from tests.api.served import Caller, run


class Stream:
    """A reader of one stream, straight at the application: httpx's own would wait for the end."""

    def __init__(self, api: Caller, path: str, headers: dict[str, str]) -> None:
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""
        self.text = ""
        self._gone = asyncio.Event()
        self.status = 0
        path, _, query = path.partition("?")
        raw = [
            (name.lower().encode(), value.encode())
            for name, value in {"host": "localhost", **headers}.items()
        ]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": f"/api/v1{path}",
            "raw_path": f"/api/v1{path}".encode(), "query_string": query.encode(), "root_path": "",
            "headers": raw,
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
            self.text += message["body"].decode(errors="replace")
            await self._parts.put(message["body"])

    async def event(self) -> tuple[str, str, Any]:
        """Id, name and data of the next event; heartbeats and the first line are passed over."""
        while True:
            while b"\n\n" not in self._rest:
                async with asyncio.timeout(20):
                    self._rest += await self._parts.get()
            head, _, self._rest = self._rest.partition(b"\n\n")
            fields = dict(
                line.split(": ", 1) for line in head.decode().splitlines() if not line.startswith(":")
            )
            if "event" in fields:
                return fields.get("id", ""), fields["event"], json.loads(fields["data"])

    async def begun(self) -> None:
        """Wait for the first line."""
        async with asyncio.timeout(20):
            self._rest += await self._parts.get()

    async def ended(self) -> None:
        """Wait until the server ends it."""
        await asyncio.wait_for(asyncio.shield(self._task), 20)

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


def test_a_reconnecting_reader_gets_the_changes_since_and_nothing_else() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        await api.until("/workflows/p-1/view", lambda view: view["place"] == "van")
        async with watching(api, "/workflows/p-1/events") as stream:
            assert (await stream.event())[2]["view"]["place"] == "van"
            await api.post("/workflows/p-1/signals/move", {"args": ["road"]}, 202)
            last, _, state = await stream.event()
            assert state["view"]["place"] == "road"
        async with watching(api, "/workflows/p-1/events", Last_Event_ID=last) as stream:
            await api.post("/workflows/p-1/signals/move", {"args": ["river"]}, 202)
            last, _, state = await stream.event()
            assert state["view"]["place"] == "river", "what was known is not told again"
        await api.post("/workflows/p-1/signals/move", {"args": ["bridge"]}, 202)
        async with watching(api, "/workflows/p-1/events", Last_Event_ID=last) as stream:
            assert (await stream.event())[2]["view"]["place"] == "bridge"
        async with watching(api, "/workflows/p-1/events", Last_Event_ID=last.partition("-")[0]) as stream:
            assert (await stream.event())[2]["view"]["place"] == "bridge", "in another process"
        await api.get("/workflows/p-1/events", 422, headers={"Last-Event-ID": "x"})

    run(test)


def test_a_list_is_watched_over_reconnects() -> None:
    async def test(api: Caller) -> None:
        async with watching(api, "/workflows/events?type=Parcel&id_prefix=p-") as stream:
            await stream.begun()
            await api.start("p-1")
            await api.start("q-1")
            last, kind, state = await stream.event()
            assert (kind, state["id"]) == ("state", "p-1")
        await api.start("p-2")
        await api.until("/workflows/p-2/view", lambda view: view["place"] == "van")
        async with watching(api, "/workflows/events?id_prefix=p-", Last_Event_ID=last) as stream:
            seen: list[str] = []
            while "p-2" not in seen:
                seen.append((await stream.event())[2]["id"])
            assert set(seen) <= {"p-1", "p-2"}
        moment = last.partition("-")[0]
        async with watching(api, "/workflows/events?id_prefix=p-", Last_Event_ID=moment) as stream:
            await_both = {(await stream.event())[2]["id"] for _ in range(2)}
            assert await_both == {"p-1", "p-2"}, (
                "what another process has told is found by its moment, and may come once more"
            )
        await api.get("/workflows/events?sort=started_at", 422)

    run(test)


def test_a_server_that_stops_ends_its_streams() -> None:
    async def test(api: Caller) -> None:
        await api.start("p-1")
        async with watching(api, "/workflows/p-1/events") as stream:
            await stream.event()
            api.app.hub.say_goodbye()
            while (event := await stream.event())[1] == "state":
                pass
            assert event[1] == "bye"
        answer = await api.http.get("/workflows/p-1/result?timeout=60s")
        assert answer.status_code == 204, "who waits for a result asks again elsewhere"

    run(test)


def test_a_stream_ends_when_its_caller_is_not_admitted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ADMITTED_S", 0.0)
    security = Revocable()

    async def test(api: Caller) -> None:
        await api.start("p-1")
        async with watching(api, "/workflows/p-1/events") as stream:
            await stream.event()
            await api.post("/workflows/p-1/signals/move", {"args": ["road"]}, 202)
            while (await stream.event())[2]["view"]["place"] != "road":
                pass
            transport = api.platform.client()
            security.is_revoked = True
            await transport.get_by_name("p-1").signal_by_name("move", ["bridge"])
            await stream.ended()
            await transport.close()

    run(test, security=security)


class Revocable(Unsecured):
    is_revoked = False

    async def admit(self, headers: Any, role: Role) -> Principal:
        if self.is_revoked:
            raise Forbidden("no longer", who="ada")
        return await super().admit(headers, role)


def state(workflow_id: str, at: int, status: Status = Status.RUNNING, length: int = 1) -> WorkflowState:
    return WorkflowState(workflow_id, "r", "Order", status, 1, at, 0, length)


def test_a_workflow_that_leaves_the_filter_or_is_deleted_gets_a_last_event() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("", ListQuery(types=("Order",), statuses=("running",)))
        hub.add(watch)
        hub.publish([("a", state("a", 1)), ("a", state("a", 2, Status.FAILED))])
        assert re.findall(rb"event: (\w+)", await watch.next()) == [b"state", b"left"]
        hub.publish([("a", state("a", 3, Status.FAILED))])
        hub.publish([("c", state("c", 4)), ("c", None)])
        assert re.findall(rb"event: (\w+)", await watch.next()) == [b"state", b"deleted"], (
            "that it is not there is told once"
        )
        hub.remove(watch)
        assert len(hub) == 0

    asyncio.run(main())


def test_a_workflow_that_was_there_before_the_reader_came_leaves_the_filter_too() -> None:
    async def main() -> None:
        hub, running, refunds = (
            Hub(),
            Watch("", ListQuery(statuses=("running",))),
            Watch("", ListQuery(types=("Refund",))),
        )
        hub.add(running)
        hub.add(refunds)
        hub.publish([("old", state("old", 5, Status.COMPLETED)), ("r", state("r", 6))])
        assert re.findall(rb"event: (\w+)", await running.next()) == [b"left", b"state"]
        refunds.say_goodbye()
        assert re.findall(rb"event: (\w+)", await refunds.next()) == [b"bye"], (
            "what never can be in a list is not told to have left it"
        )

    asyncio.run(main())


def test_a_slow_reader_is_disconnected_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hub, watch, other = Hub(), Watch("a"), Watch("b")
        hub.add(watch)
        hub.add(other)
        hub.publish([("a", state("a", at)) for at in range(1, hubs.QUEUE + 50)])
        assert watch.is_cut
        assert await watch.next() == hubs.CUT, (
            "what waited is dropped: who comes again is told what has changed since"
        )
        assert watch.is_over
        assert (watch.size, hub.waiting) == (0, 0)
        monkeypatch.setattr(hubs, "HEARTBEAT_S", 0.01)
        assert await other.next() == b"", "others are not held up"

    asyncio.run(main())


def test_a_slow_reader_of_large_views_is_disconnected_sooner() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("a")
        hub.add(watch)
        large = [("a", replace(state("a", at), view=b'"%b"' % (b"x" * 900_000))) for at in range(1, 4)]
        hub.publish(large[:2])
        assert not watch.is_cut
        hub.publish(large[2:])
        assert watch.is_cut, f"more than {hubs.QUEUE_BYTES} bytes waited"

    asyncio.run(main())


def test_what_has_changed_since_is_known_while_the_hub_remembers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "REMEMBERED", 3)
    hub = Hub()
    begin = EventId(0, hub.encoder.epoch, hub.number)
    hub.publish([("a", state("a", 1)), ("b", state("b", 2)), ("a", state("a", 3))])
    assert [(each, found and found.updated_at) for _, each, found in hub.since(begin) or []] == [
        ("b", 2),
        ("a", 3),
    ], "each once"
    assert hub.since(EventId(0, "00000000", hub.number)) is None, "another process has told it"
    assert hub.since(EventId(0, hub.encoder.epoch, hub.number + 1)) is None
    hub.publish([(name, state(name, 4)) for name in "cde"])
    assert hub.since(begin) is None, "what it has forgotten may have been news"
    assert [each for _, each, _ in hub.since(EventId(0, hub.encoder.epoch, hub.number - 1)) or []] == ["e"]
    assert hub.current("a") is None
    assert hub.current("e") == state("e", 4)


def test_a_new_reader_gets_recent_changes_that_lagging_tables_may_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    hub.publish([("a", state("a", 1)), ("b", state("b", 2))])
    assert [each for _, each, _ in hub.lately()] == ["a", "b"]
    monkeypatch.setattr(hubs, "LATELY_S", -1.0)
    assert hub.lately() == [], "what is long past is in the tables"
    monkeypatch.setattr(hubs, "LATELY_S", 3.0)

    async def test(api: Caller) -> None:
        await api.start("p-1")
        api.app.hub.publish([("p-1", state("p-1", 3)), ("q-1", state("q-1", 3))])
        async with watching(api, "/workflows/events?id_prefix=p-") as stream:
            told = await stream.event()
            assert (told[1], told[2]["id"]) == ("state", "p-1")

    run(test, reader=Written())


def test_what_is_remembered_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "REMEMBERED_BYTES", 1_000)
    hub = Hub()
    for at in range(1, 50):
        hub.publish([(f"w-{at % 7}", replace(state(f"w-{at % 7}", at), view=b"1" * 300))])
    assert len(hub.since(EventId(0, hub.encoder.epoch, hub.number - 3)) or []) == 3
    assert hub.since(EventId(0, hub.encoder.epoch, hub.number - 4)) is None


def test_a_state_that_the_reader_knows_is_not_sent_again_though_clocks_stand_still() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("a")
        hub.add(watch)
        hub.publish([("a", state("a", 7, length=length)) for length in (3, 4, 5)])
        watch.knows(state("a", 7, length=4))
        told = await watch.next()
        assert re.findall(rb'"history_length":(\d)', told) == [b"5"]
        assert told.count(b"id: ") == 3, "but where the reader is"
        hub.publish([("a", state("a", 7, length=6))])
        assert b'"history_length":6' in await watch.next()

    asyncio.run(main())


@pytest.mark.parametrize(
    "text", ["", "x", "1-2", "-1", "1-5f0c2b9a", "1-5f0c2b9a-", "1-5F0C2B9A-3", "1" * 19, "1\n", "\u0661"]
)
def test_an_event_id_of_another_format_is_not_parsed(text: str) -> None:
    assert EventId.parse(text) is None


def test_an_event_id_is_parsed_as_it_was_sent() -> None:
    hub = Hub()
    hub.publish([("a", state("a", 5))])
    for told in (hub.encoder.event(hub.number, "a", state("a", 5)), hub.encoder.mark(hub.number)):
        found = EventId.parse(told.data.partition(b"\n")[0].removeprefix(b"id: ").decode())
        assert found is not None
        assert (found.epoch, found.number) == (hub.encoder.epoch, hub.number)
        assert found.moment >= 5
    assert EventId.parse("17") == EventId(17, "", 0)


def moment_of(told: EncodedEvent) -> int:
    found = EventId.parse(told.data.partition(b"\n")[0].removeprefix(b"id: ").decode())
    assert found is not None
    return found.moment


def test_a_position_does_not_follow_a_clock_of_the_api_that_is_ahead_of_the_engines() -> None:
    """Another process would skip the changes of an hour."""
    at, hour = 1_800_000_000_000_000, 3_600_000_000
    encoder = EventEncoder(now=lambda: at + hour)
    encoder.moment = at
    assert moment_of(encoder.mark(3)) == at
    assert moment_of(encoder.event(3, "a", None)) == at
    assert moment_of(encoder.event(3, "a", state("a", at - 5))) == at - 5


def test_a_position_does_not_follow_an_engine_whose_clock_is_ahead_of_the_others() -> None:
    at, hour = 1_800_000_000_000_000, 3_600_000_000
    encoder = EventEncoder(now=lambda: at)
    encoder.moment = at + hour
    assert moment_of(encoder.mark(3)) == at
    assert moment_of(encoder.event(3, "a", None)) == at
    assert moment_of(encoder.event(3, "a", state("a", at + hour))) == at


def test_a_position_before_the_first_change_is_now() -> None:
    assert moment_of(EventEncoder(now=lambda: 77).mark(0)) == 77


class Written:
    """A reader of states that a test writes; its clock may stand still."""

    def __init__(self) -> None:
        self.states: dict[str, WorkflowState] = {}
        self.is_closed = False

    def list(self, query: ListQuery) -> list[WorkflowState]:
        return select(query, [*self.states.values()], query.matches)

    def close(self) -> None:
        self.is_closed = True


def test_polling_finds_every_change_once_though_clocks_stand_still() -> None:
    async def main() -> None:
        written: Any = Written()
        written.states["old"] = state("old", 7)
        told: asyncio.Queue[tuple[str, WorkflowState | None]] = asyncio.Queue()
        feed = PollingFeed(written, 0.001)

        def tell(changes: Sequence[Change]) -> None:
            for each in changes:
                told.put_nowait(each)

        feed.start(tell)
        await feed.begun()
        async with asyncio.timeout(20):
            for length in (1, 2, 3):
                written.states["a"] = state("a", 7, length=length)
                assert await told.get() == ("a", state("a", 7, length=length))
            written.states["b"] = state("b", 8)
            assert await told.get() == ("b", state("b", 8))
        assert told.empty()
        await feed.close()
        assert written.is_closed

    asyncio.run(main())


def test_versions_grow_by_moment_then_run_then_events() -> None:
    states = [
        state("a", 1),
        state("a", 2),
        state("a", 2, length=5),
        replace(state("a", 2), run_id="s"),
        state("a", 3),
    ]
    assert sorted(states, key=version_of) == states


def test_a_reader_from_another_process_gets_all_changes_within_the_overlap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PAGE_LIMIT", 2)
    last = 1_800_000_000_000_000
    begin = last - streams.OVERLAP_US
    written = Written()
    told = [state(f"same-{number}", last) for number in range(5)]
    told += [state("before", last - 1), state("at the begin", begin), state("after", last + 1)]
    told += [state(f"first-{number}", begin) for number in range(3)]
    for each in (*told, state("too early", begin - 1)):
        written.states[each.workflow_id] = each
    assert streams.OVERLAP_US >= 60_000_000, "longer than a transaction may be open"

    async def test(api: Caller) -> None:
        async with watching(
            api, "/workflows/events?type=Order", Last_Event_ID=f"{last}-00000000-7"
        ) as stream:
            events = [await stream.event() for _ in told]
            api.app.hub.publish([("new", state("new", last + 2))])
            assert (await stream.event())[2]["id"] == "new", "and then what changes"
        found = [event[2]["id"] for event in events]
        assert sorted(found) == sorted(each.workflow_id for each in told), (
            "of one moment over several pages, too"
        )
        moments = [int(event[0].partition("-")[0]) for event in events]
        assert moments == sorted(moments), "who is cut off in between begins where they were"
        assert {event[0] for event in events} == {str(moment) for moment in moments}, (
            "ids are moments only until then"
        )

    run(test, reader=written)


def test_a_change_during_the_catch_up_of_a_stream_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    for number in range(3):
        written.states[f"w-{number}"] = state(f"w-{number}", 5)

    async def test(api: Caller) -> None:
        async with watching(api, "/workflows/events", Last_Event_ID="5") as stream:
            await stream.begun()
            api.app.hub.publish([("w-1", state("w-1", 5)), ("w-1", state("w-1", 6))])
            seen = [await stream.event() for _ in range(4)]
            assert [(event[2]["id"], event[2]["updated_at"][-3:]) for event in seen][3] == ("w-1", "06Z")

    run(test, reader=written)


def large(workflow_id: str, at: int, size: int = 400_000) -> WorkflowState:
    return replace(state(workflow_id, at), view=b'"%b"' % (b"x" * size))


def test_an_event_is_encoded_once_for_all_who_wait_for_it() -> None:
    hub = Hub()
    watches = [Watch("a") for _ in range(100)]
    for watch in watches:
        hub.add(watch)
    hub.publish([("a", large("a", 1))])
    assert hub.waiting < 500_000
    assert hub.encoder.event(hub.number, "a", large("a", 1)) is watches[0]._waiting[0][0]
    for watch in watches:
        hub.remove(watch)
    assert hub.waiting == 0


def test_when_all_that_waits_is_too_much_those_who_are_furthest_behind_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hubs, "WAITING_BYTES", 3_000_000)

    async def main() -> None:
        hub = Hub()
        slow, quick = [Watch(f"s-{number}") for number in range(4)], Watch("q")
        for watch in (*slow, quick):
            hub.add(watch)
        hub.publish([("q", large("q", 1, 100))])
        for at in (1, 2, 3):
            hub.publish([(watch.workflow_id, large(watch.workflow_id, at)) for watch in slow])
            assert hub.waiting <= 3_000_000
        assert sum(watch.is_cut for watch in slow) >= 2
        assert not quick.is_cut
        assert b"event: state" in await quick.next()
        cut = next(watch for watch in slow if watch.is_cut)
        assert await cut.next() == hubs.CUT
        assert b"Last-Event-ID" in hubs.CUT

    asyncio.run(main())


def test_an_event_of_which_a_part_was_sent_is_not_ended_when_its_reader_is_cut() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("a")
        hub.add(watch)
        hub.publish([("a", large("a", 1))])
        assert len(await watch.next()) == SLICE
        watch.cut()
        assert (await watch.next(), watch.is_over) == (b"", True), (
            "a reader would take an end of it for an event"
        )
        assert (watch.size, hub.waiting) == (0, 0)

    asyncio.run(main())


def test_a_large_event_is_sent_in_slices_that_join_to_it() -> None:
    async def main() -> None:
        hub, watch = Hub(), Watch("a")
        hub.add(watch)
        hub.publish([("a", large("a", 1)), ("a", state("a", 2))])
        sent = b""
        while sent.count(b"\n\n") < 2:
            piece = await watch.next()
            assert len(piece) <= SLICE
            sent += piece
        assert re.findall(rb"event: (\w+)", sent) == [b"state", b"state"]
        assert hub.waiting == 0

    asyncio.run(main())
