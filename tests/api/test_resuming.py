"""A reader that returns to a stream gets what has changed meanwhile: all of it, page by page,
from far enough back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.api import feeds, streams
from perdure.api import hub as hubs
from perdure.api.auth.principal import EVERY_NAMESPACE, Principal
from perdure.api.change_events import EventId
from perdure.api.feeds import Change, PollingFeed
from perdure.api.hub import Hub, Watch
from perdure.api.hubs import Hubs
from perdure.api.roles import Role
from perdure.client.listing import ListQuery
from perdure.client.position import Position
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState
from tests.api.served import Caller, run
from tests.api.test_streams import Written, state, watching

MINUTE_US = 60_000_000
BEGIN = 10 * MINUTE_US


class Tables(Written):
    """Tables that have all that was sent; `read` is called after each page."""

    def __init__(self, *states: WorkflowState) -> None:
        super().__init__()
        self.states = {each.workflow_id: each for each in states}
        self.read: Callable[[], None] = lambda: None

    def state(self, workflow_id: str) -> WorkflowState | None:
        return self.states.get(workflow_id)

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        return True

    def list(self, query: ListQuery) -> list[WorkflowState]:
        found = super().list(query)
        self.read()
        return found


def resumed(tables: Any, test: Callable[[Caller], Awaitable[None]], **options: Any) -> None:
    run(test, reader=tables, **options)


async def told(api: Caller, path: str, last: str, count: int) -> list[tuple[str, str]]:
    """Kind and id of the first events."""
    found: list[tuple[str, str]] = []
    async with watching(api, path, Last_Event_ID=last) as stream:
        for _ in range(count):
            _, kind, data = await stream.event()
            found.append((kind, data["id"]))
    return found


def test_a_list_is_resumed_from_a_minute_before_the_last_event() -> None:
    """Engines stamp a change before they commit it: what is a minute older may be news."""
    tables = Tables(
        state("too-old", BEGIN - MINUTE_US - 1), state("oldest", BEGIN - MINUTE_US), state("old", BEGIN - 1),
        state("same", BEGIN), state("new", BEGIN + 1),
    )  # fmt: skip

    async def test(api: Caller) -> None:
        found = await told(api, "/workflows/events?type=Order", str(BEGIN), 4)
        assert found == [("state", "oldest"), ("state", "old"), ("state", "same"), ("state", "new")]

    resumed(tables, test)


def test_a_long_list_is_resumed_page_by_page_each_workflow_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PAGE_LIMIT", 3)
    names = [f"w-{number}" for number in range(9)]
    tables = Tables(*(state(name, BEGIN + at // 2) for at, name in enumerate(names)))

    async def test(api: Caller) -> None:
        assert await told(api, "/workflows/events", str(BEGIN), 9) == [("state", name) for name in names]

    resumed(tables, test)


def test_a_resumed_stream_includes_workflows_that_left_the_filter() -> None:
    tables = Tables(state("ended", BEGIN, Status.COMPLETED), state("open", BEGIN + 1))

    async def test(api: Caller) -> None:
        assert await told(api, "/workflows/events?status=running", str(BEGIN), 2) == [
            ("left", "ended"),
            ("state", "open"),
        ]

    resumed(tables, test)


def test_a_reader_cut_off_during_the_pages_gets_the_changes_made_meanwhile() -> None:
    """The last id of a resumed list must not promise what was sent during it and may not have been
    sent."""
    tables = Tables(state("old", BEGIN))

    async def test(api: Caller) -> None:
        loop = asyncio.get_running_loop()
        is_published = asyncio.Event()

        def publish() -> None:
            api.app.hub.publish([("meanwhile", state("meanwhile", BEGIN + 5))])
            is_published.set()

        tables.read = lambda: asyncio.run_coroutine_threadsafe(_call(publish), loop).result(10)
        before = api.app.hub.whole.number
        async with watching(api, "/workflows/events", Last_Event_ID=str(BEGIN)) as stream:
            ids = [(await stream.event())[2]["id"] for _ in range(2)]
        assert ids == ["old", "meanwhile"]
        assert is_published.is_set()
        marks = [EventId.parse(each) for each in re.findall(r"(?m)^id: (\S+)$", stream.text)]
        (mark, *_) = [each for each in marks if each is not None and each.epoch]
        assert mark.number == before, "from there on it is told once more"

    resumed(tables, test)


async def _call(work: Callable[[], None]) -> None:
    work()


def test_a_change_at_the_time_of_the_last_event_is_sent() -> None:
    tables = Tables(state("a", BEGIN))

    async def test(api: Caller) -> None:
        assert await told(api, "/workflows/a/events", str(BEGIN), 1) == [("state", "a")]
        async with watching(api, "/workflows/a/events", Last_Event_ID=str(BEGIN + 1)) as stream:
            await stream.begun()
            api.app.hub.publish([("b", state("b", BEGIN + 2)), ("a", state("a", BEGIN + 3, length=2))])
            _, _, data = await stream.event()
            assert data["history_length"] == 2, "what the reader knows is not told again"

    resumed(tables, test)


def test_a_resumed_stream_of_one_workflow_shows_no_other_one() -> None:
    async def test(api: Caller) -> None:
        api.app.hub.publish([("a", state("a", BEGIN)), ("b", state("b", BEGIN))])
        hub = api.app.hub.whole
        last = f"{BEGIN}-{hub.encoder.epoch}-{hub.number}"
        api.app.hub.publish([("b", state("b", BEGIN + 1)), ("a", state("a", BEGIN + 2))])
        assert await told(api, "/workflows/a/events", last, 1) == [("state", "a")]

    resumed(Tables(), test)


def test_an_older_change_does_not_repeat_the_first_state_of_a_stream() -> None:
    tables = Tables(state("a", BEGIN, length=3))

    async def test(api: Caller) -> None:
        async with watching(api, "/workflows/a/events") as stream:
            assert (await stream.event())[2]["history_length"] == 3
            api.app.hub.publish([("a", state("a", BEGIN, length=length)) for length in (2, 3, 4)])
            assert (await stream.event())[2]["history_length"] == 4

    resumed(tables, test)


class Viewer:
    async def admit(self, headers: Any, role: Role) -> Principal:
        return Principal("key:1 ada", Role.VIEWER, (EVERY_NAMESPACE,))


def test_a_reconnecting_viewer_gets_no_payload() -> None:
    tables = Tables(replace(state("a", BEGIN), view=b'"secret"', reason="secret"))

    async def test(api: Caller) -> None:
        for path, last in (
            ("/workflows/events", str(BEGIN)),
            ("/workflows/a/events", str(BEGIN)),
            ("/workflows/a/events", ""),
        ):
            async with watching(api, path, Last_Event_ID=last) as stream:
                _, kind, data = await stream.event()
                assert (kind, data["view"], data["reason"]) == ("state", None, None), path

    resumed(tables, test, security=Viewer())


def test_a_reader_that_connects_during_a_stop_is_asked_to_reconnect() -> None:
    async def main() -> None:
        both = Hubs()
        both.say_goodbye()
        for hub in (both.whole, both.outlines):
            watch = Watch("a")
            hub.add(watch)
            async with asyncio.timeout(10):
                assert await watch.next() == hubs.BYE

    asyncio.run(main())


def test_what_changed_lately_begins_with_the_first_change_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("perdure.api.hub.time.monotonic", lambda: now)
    hub = Hub()
    hub.publish([("old", state("old", 1))])
    now += hubs.LATELY_S + 1
    hub.publish([("a", state("a", 2)), ("b", state("b", 3))])
    now += hubs.LATELY_S - 1
    assert [each for _, each, _ in hub.lately()] == ["a", "b"]
    now += 2
    assert hub.lately() == []


def test_the_first_change_that_was_forgotten_cannot_be_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "REMEMBERED", 2)
    hub = Hub()
    numbers = [hub.number]
    for name in "abcd":
        hub.publish([(name, state(name, 1))])
        numbers.append(hub.number)
    since = [hub.since(EventId(0, hub.encoder.epoch, number)) for number in numbers]
    assert since[:2] == [None, None]
    assert [[each for _, each, _ in found or []] for found in since[2:]] == [["c", "d"], ["d"], []]


class Broken(Written):
    """Cannot be read once in a while."""

    fails = 0

    def list(self, query: ListQuery) -> list[WorkflowState]:
        if self.fails:
            self.fails -= 1
            raise InfrastructureError("the file is locked")
        return super().list(query)


def polled(written: Any, test: Callable[[list[str], Any], Awaitable[None]]) -> None:
    async def main() -> None:
        found: list[str] = []
        feed = PollingFeed(written, 0.001)

        def tell(changes: Sequence[Change]) -> None:
            found.extend(each for each, _ in changes)

        feed.start(tell)
        async with asyncio.timeout(20):
            await feed.begun()
            await test(found, feed)
        await feed.close()

    asyncio.run(main())


async def until(found: list[str], wanted: list[str]) -> None:
    while len(found) < len(wanted):
        await asyncio.sleep(0.001)
    assert found == wanted


def test_a_feed_publishes_more_than_a_page_of_changes_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PAGE_LIMIT", 3)
    written: Any = Written()
    written.states = {f"old-{number}": state(f"old-{number}", 7) for number in range(5)}
    names = [f"w-{number}" for number in range(8)]

    async def test(found: list[str], _: Any) -> None:
        written.states = {
            **written.states,
            **{name: state(name, 8 + at // 4) for at, name in enumerate(names)},
        }
        await until(found, names)
        written.states["old-1"] = state("old-1", 10)
        await until(found, [*names, "old-1"])

    polled(written, test)


def test_a_feed_continues_after_the_file_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "TROUBLE_S", 0.001)
    written: Any = Broken()

    async def test(found: list[str], _: Any) -> None:
        written.fails = 2
        written.states["a"] = state("a", 8)
        await until(found, ["a"])

    polled(written, test)
