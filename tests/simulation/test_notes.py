"""Memo, details, and summaries of timers and children, on memory and in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from perdure import activity, workflow
from perdure.errors import PayloadError
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.limits import DETAILS_BYTES, MEMO_BYTES, SUMMARY_BYTES
from perdure.model.replies import Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import InFile, InMemory, World


@dataclass
class Customer:
    name: str
    since: int


@activity.defn(name="notes_pack")
def pack() -> str:
    return "packed"


@workflow.defn(name="NotesOrder")
class Order:
    def __init__(self) -> None:
        self.is_done = False
        workflow.details("made")

    @workflow.run
    async def process(self, is_new: bool = True) -> Any:
        workflow.details("packing")
        workflow.details(await pack())
        workflow.details("packed")
        await workflow.sleep("1m", summary="a minute of rest")
        workflow.details("packed")
        await workflow.wait_until(lambda: self.is_done, timeout="3 days", summary="until it is paid")
        try:
            if is_new:
                workflow.continue_as_new(self.process, False)
        finally:
            workflow.details("ended")
        return workflow.memo()

    @workflow.signal
    def finish(self) -> None:
        workflow.details(f"finished, after {workflow.details()}")
        self.is_done = True

    @workflow.query
    def tries(self) -> None:
        workflow.details("asked")

    @workflow.query
    def customer(self) -> Any:
        found = workflow.memo("customer", Customer)
        return [found, workflow.memo("ticket"), workflow.memo("other", Customer), workflow.details()]


@workflow.defn(name="notes_child")
async def child() -> Any:
    await workflow.sleep("1h")
    return workflow.memo()


@workflow.defn(name="notes_parent")
async def parent() -> Any:
    kept = workflow.options(summary="the parcel", memo={"customer": Customer("Ada", 1815), "__proto__": None})
    return await kept.execute("parcel", child)


@workflow.defn(name="notes_summarised")
class Summarised:
    """Each way to start a timer that has a summary."""

    def __init__(self) -> None:
        self.stop = False

    @workflow.run
    async def process(self) -> list[str]:
        self.said: list[str] = []
        async with asyncio.TaskGroup() as group:
            for each in (self.sleeps, self.past, self.waits, self.limits, self.cancelled, self.plain):
                group.create_task(each())
        return sorted(self.said)

    async def sleeps(self) -> None:
        await workflow.sleep("10s", summary="sleep")
        self.said.append("slept")

    async def past(self) -> None:
        await workflow.sleep(timedelta(seconds=-1), summary="never")
        self.said.append("past")

    async def waits(self) -> None:
        found = await workflow.wait_until(lambda: self.stop, timeout="20s", summary="wait")
        self.said.append(f"waited: {found}")

    async def limits(self) -> None:
        try:
            async with workflow.timeout("30s", summary="limit"):
                await asyncio.Event().wait()
        except TimeoutError:
            self.said.append("timed out")

    async def cancelled(self) -> None:
        waiting = asyncio.ensure_future(workflow.sleep("1 day", summary="not to be seen"))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        self.said.append("cancelled")

    async def plain(self) -> None:
        await asyncio.sleep(40)


@workflow.defn(name="notes_wrong")
async def wrong(kind: str) -> None:
    await pack()
    long: Any = "y" * (SUMMARY_BYTES + 1)
    tried: dict[str, Callable[[], Any]] = {
        "long details": lambda: workflow.details("y" * (DETAILS_BYTES + 1)),
        "huge details": lambda: workflow.details("\N{SNOWMAN}" * 1_000_000),
        "surrogate in details": lambda: workflow.details("\ud800"),
        "details of bytes": lambda: workflow.details(b"x"),  # type: ignore[call-overload]
        "summary of a sleep": lambda: workflow.sleep("1s", summary=long),
        "summary of a wait": lambda: workflow.wait_until(lambda: False, timeout="1s", summary="\ud800"),
        "summary of no timer": lambda: workflow.wait_until(lambda: False, summary="x"),  # type: ignore[call-overload]
        "summary of a timeout": lambda: workflow.timeout("1s", summary=1),  # type: ignore[arg-type]
        "summary of a child": lambda: workflow.options(summary=long),
        "summary of a step": lambda: workflow.step("x", pack.fn, summary=long),
        "name in a memo": lambda: workflow.options(memo={1: "x"}),  # type: ignore[dict-item]
        "memo of no mapping": lambda: workflow.options(memo=[("a", 1)]),  # type: ignore[arg-type]
        "type of a memo": lambda: workflow.memo("ticket", Customer),
    }
    found = tried[kind]()
    if found is not None:
        await found


@workflow.defn(name="notes_memo_of_a_child")
async def memo_of_a_child(kind: str) -> None:
    values: dict[str, Any] = {"nan": float("nan"), "large": "y" * MEMO_BYTES, "object": object()}
    await workflow.options(memo={"x": values[kind]}).start("parcel", child)


@workflow.defn(name="notes_often")
async def often(times: int) -> str:
    for number in range(times):
        workflow.details(f"at {number}")
    await pack()
    workflow.details("<script>alert(1)</script>\0\x1b[31m")
    return workflow.details()


REGISTRY = Registry.of([Order, child, parent, Summarised, wrong, memo_of_a_child, often], [pack])
MEMO = b'{"customer":{"name":"Ada","since":1815},"ticket":7,"__proto__":null,"":[]}'


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(REGISTRY, medium=medium)
    yield world
    world.close()


def details_of(world: World, workflow_id: str = "order-1") -> list[str]:
    return [event.text for event in world.events(workflow_id) if isinstance(event, ev.DetailsSet)]


def query(world: World, name: str) -> Any:
    request = world.ask(cm.QueryWorkflow, "order-1", name=name)
    world.settle()
    return world.replies[request]


@pytest.mark.parametrize("crashes", [False, True])
def test_a_run_has_the_memo_of_its_start_and_the_last_details_of_its_code(
    world: World, crashes: bool
) -> None:
    world.start_workflow("order-1", "NotesOrder", memo=MEMO)
    if crashes:
        world.crash()
    state = world.state("order-1")
    assert (json.decode(state.memo), state.details) == (json.decode(MEMO), "packed")
    assert [(each.kind, each.summary) for each in state.waits] == [("timer", "a minute of rest")]
    known = [{"name": "Ada", "since": 1815}, 7, None, "packed"]
    assert json.decode(query(world, "customer").result) == known
    world.advance(60)
    assert [each.summary for each in world.state("order-1").waits] == ["until it is paid"]
    assert details_of(world) == ["packing", "packed"]  # those of one activation are one
    world.signal("order-1", "finish")
    if crashes:
        world.crash()
    assert world.state("order-1").details == "packed"  # the run that continues it has its own
    world.advance(60)
    world.signal("order-1", "finish")
    assert world.value("order-1") == json.decode(MEMO)
    assert world.state("order-1").details == "ended"
    assert world.state("order-1").memo == MEMO
    check_everything(world.histories(), world.store_port, world.registry.workflows, world.payloads)


def test_a_query_cannot_set_details(world: World) -> None:
    world.start_workflow("order-1", "NotesOrder")
    reply = query(world, "tries")
    assert isinstance(reply, Refused)
    assert "tried to set the details" in reply.message
    assert world.state("order-1").details == "packed"


def test_a_child_has_its_memo_and_its_parent_shows_its_summary(world: World) -> None:
    world.start_workflow("order-1", "notes_parent", memo=b'{"of":"the parent"}')
    assert [(each.kind, each.name, each.summary) for each in world.state("order-1").waits] == [
        ("child", "parcel", "the parcel")
    ]
    world.advance(3_600)
    assert world.value("order-1") == {"customer": {"name": "Ada", "since": 1815}, "__proto__": None}


@pytest.mark.parametrize("crashes", [False, True])
def test_every_timer_of_the_code_may_have_a_summary(world: World, crashes: bool) -> None:
    world.start_workflow("order-1", "notes_summarised")
    if crashes:
        world.crash()
    waits = world.state("order-1").waits
    assert [each.summary for each in waits] == ["", "sleep", "wait", "limit", "", "not to be seen"]
    world.advance(1)
    assert [each.summary for each in world.state("order-1").waits] == ["sleep", "wait", "limit", ""]
    if crashes:
        world.crash()
    for _ in range(4):
        world.advance(10)
    assert world.value("order-1") == ["cancelled", "past", "slept", "timed out", "waited: False"]
    check_everything(world.histories(), world.store_port, world.registry.workflows, world.payloads)


@pytest.mark.parametrize("kind", [
    "long details", "huge details", "surrogate in details", "details of bytes", "summary of a sleep",
    "summary of a wait", "summary of no timer", "summary of a timeout", "summary of a child",
    "summary of a step", "name in a memo", "memo of no mapping", "type of a memo",
])  # fmt: skip
def test_what_is_invalid_suspends_the_run_with_its_line_and_is_not_recorded(world: World, kind: str) -> None:
    world.start_workflow("order-1", "notes_wrong", kind, memo=MEMO)
    state = world.state("order-1")
    assert state.status is Status.SUSPENDED
    assert all(word in state.reason for word in {"details", "summary", "memo"} & set(kind.split()))
    assert Path(__file__).name in state.reason
    assert len(state.reason) < 1_000
    assert "ActivityCompleted" in world.names("order-1")[-2:]


@pytest.mark.parametrize("kind", ["nan", "large", "object"])
def test_a_child_whose_memo_cannot_be_written_is_not_started(world: World, kind: str) -> None:
    world.start_workflow("order-1", "notes_memo_of_a_child", kind)
    assert world.state("order-1").status is Status.SUSPENDED
    assert "the memo" in world.state("order-1").reason
    assert "ChildRequested" not in world.names("order-1")


@pytest.mark.parametrize("memo", [
    b"[]", b"null", b"1", b'{"a":', b"\xff", b"{" * 5_000, b'{"a":"' + b"y" * MEMO_BYTES + b'"}',
    b"\0codec\0" + b"y" * MEMO_BYTES,
])  # fmt: skip
def test_a_start_whose_memo_is_no_object_or_too_large_is_refused(world: World, memo: bytes) -> None:
    request = world.ask(cm.StartWorkflow, "order-1", type="NotesOrder", memo=memo)
    world.settle()
    reply = world.replies[request]
    assert isinstance(reply, Refused)
    assert "the memo is" in reply.message


def test_a_memo_that_cannot_be_decoded_suspends_only_the_run_that_reads_it(world: World) -> None:
    world.start_workflow("order-1", "notes_child", memo=b"\0unknown\0xyz")
    assert world.state("order-1").status is Status.RUNNING
    world.advance(3_600)
    assert world.state("order-1").status is Status.SUSPENDED
    assert "unknown" in world.state("order-1").reason


def test_details_of_one_activation_are_one_event_however_often_they_are_set(world: World) -> None:
    world.start_workflow("order-1", "notes_often", 1_000)
    assert details_of(world) == ["at 999", "<script>alert(1)</script>\0\x1b[31m"]
    assert world.state("order-1").details == world.value("order-1") == details_of(world)[-1]


def registry_of(text: str) -> Registry:
    @workflow.defn(name="notes_changed")
    async def changed() -> str:
        workflow.details(text)
        await workflow.sleep("1m")
        workflow.details(f"{text}, later")
        return workflow.details()

    return Registry.of([changed])


def test_the_text_of_details_may_be_changed_under_a_running_run(tmp_path: Path) -> None:
    world = World(registry_of("old"), medium=InFile(tmp_path / "app.db"))
    world.start_workflow("order-1", "notes_changed")
    world.deploy(registry_of("new"))
    assert world.state("order-1").details == "old"
    world.advance(60)
    assert world.value("order-1") == "new, later"
    assert details_of(world) == ["old", "new, later"]
    world.close()


def test_a_run_that_resumes_records_the_details_of_its_code(tmp_path: Path) -> None:
    world = World(registry_of("old"), medium=InFile(tmp_path / "app.db"))
    world.start_workflow("order-1", "notes_changed")
    world.deploy(Registry.of([child]))  # no engine knows its type
    world.advance(30)
    assert world.state("order-1").status is Status.SUSPENDED
    world.deploy(registry_of("new"))
    world.advance(1)
    assert (world.state("order-1").status, world.state("order-1").details) == (Status.RUNNING, "new")
    world.close()


@pytest.mark.parametrize(("memo", "fault"), [
    ({1: "x"}, "a name in a memo must be valid text, not 1"),
    ({"\ud800": 1}, "a name in a memo must be valid text"),
    ([1], "a memo is a mapping"),
    ({"x": float("nan")}, "the memo"),
    ({"x": object()}, "the memo cannot be encoded"),
    ({"x": "y" * MEMO_BYTES}, f"the limit is {MEMO_BYTES}"),
])  # fmt: skip
def test_an_invalid_memo_is_refused_before_it_is_sent(memo: Any, fault: str) -> None:
    from perdure.codec.payloads import JsonPayloads
    from perdure.model.memo import encoded_memo

    with pytest.raises(PayloadError) as caught:
        encoded_memo(JsonPayloads(), memo)
    assert fault in str(caught.value)
    assert len(str(caught.value)) < 300


def played(crash_at: list[int]) -> tuple[World, int]:
    """A whole run, whose process dies at these calls of its ports."""
    faults = Faults(crash_at)
    world = World(REGISTRY, wrap=faults.wrap)
    faults.is_armed = True

    def live(step: Callable[[], object]) -> None:
        try:
            step()
        except Crash:
            live(world.crash)

    def ask(command: Any, request_id: str, **fields: Any) -> None:
        while request_id not in world.replies:
            live(lambda: world.ask(command, "order-1", request_id=request_id, **fields))
            live(world.settle)

    ask(cm.StartWorkflow, "start", type="NotesOrder", input=b"[false]", memo=MEMO)
    ask(cm.SignalWorkflow, "finish", name="finish")
    while world.state("order-1").status is Status.RUNNING:
        live(lambda: world.advance(60))
    return world, len(faults.points)


def test_details_are_recorded_once_whatever_call_of_a_port_the_process_dies_at() -> None:
    clean, points = played([])
    assert points > 20
    for point in range(1, points + 1):
        world, _ = played([point])
        said = details_of(world)
        assert said[0] == details_of(clean)[0]
        assert said[-1] == "ended"
        assert len(said) == len(set(said)) <= len(details_of(clean))
        assert world.value("order-1") == json.decode(MEMO)
        check_everything(world.histories(), world.store_port, world.registry.workflows, world.payloads)
