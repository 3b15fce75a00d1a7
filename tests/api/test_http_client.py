"""`Client.connect("http://…")`: everything that other addresses give, through the API, and the
errors that only it has."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure import activity, workflow
from perdure.adapters.http.answers import Answer, fault_of
from perdure.adapters.http.connection import Connection
from perdure.adapters.http.routes import call_of
from perdure.adapters.http.transport import HttpTransport
from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.reader import MemoryReader
from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.security import Security, Unsecured
from perdure.api.backend import Backend
from perdure.api.roles import Role
from perdure.api.server import ApiServer
from perdure.cli.app import app as command_line
from perdure.client import Client
from perdure.client.address import transport_of
from perdure.client.position import Position
from perdure.client.sync import SyncClient
from perdure.embedded import Platform
from perdure.errors import (
    EngineUnavailable,
    Failure,
    InfrastructureError,
    NotAllowed,
    QueryFailed,
    ReadLags,
    RequestRefused,
    UpdateFailed,
    UpdateRejected,
    UsageError,
    WorkflowAlreadyStarted,
    WorkflowFailed,
    WorkflowNotFound,
)
from perdure.model.commands import CompleteActivity, FireTimer, ResumeWorkflow
from perdure.model.states import Status
from perdure.registry import Registry
from tests.api.identity import Reports

ODD_IDS = [
    "a/b",
    "..",
    ".",
    "%2e%2e",
    "a%2Fb",
    "order 1?x=1&y=#z",
    "🍕",
    "günther+ø",
    "a;b",
    "\\\\host\\share",
    "x" * 255,
    "counts",
    "events",
]


@dataclass(eq=False)
class Dropped(Failure):
    """It fell."""

    height: int


@dataclass
class Where:
    """The place of the box."""

    place: str
    since: timedelta


@activity.step
async def weigh(box: str) -> int:
    return len(box)


@workflow.defn
class Box:
    def __init__(self) -> None:
        self.place = "shop"
        self.is_there = False

    @workflow.run
    async def carry(self, box: str, *, drop_from: int = 0) -> timedelta:
        await weigh(box)
        self.place = "van"
        if drop_from:
            raise Dropped(drop_from)
        workflow.details(f"**{box}** for {workflow.memo('by')} is on its way")
        await workflow.wait_until(lambda: self.is_there, timeout="1h", summary="until it is there")
        return timedelta(seconds=len(box))

    @workflow.signal
    def arrive(self, place: str) -> None:
        self.place = place
        self.is_there = True

    @workflow.update
    async def weigh(self, more: int) -> timedelta:
        await workflow.sleep("1ms")
        if more > 100:
            raise Dropped(more)
        return timedelta(seconds=more)

    @weigh.validator
    def _may_weigh(self, more: int) -> None:
        if more < 0:
            raise ValueError("less than nothing")

    @workflow.query
    def at(self, prefix: str = "") -> str:
        if prefix == "raise":
            raise ValueError("lost")
        return prefix + self.place

    @workflow.view
    def where(self) -> Where:
        return Where(self.place, timedelta(seconds=7))


class Reversed:
    """A codec of the user's: what it makes can be read by nobody who does not have it."""

    name = "reversed"

    def encode(self, data: bytes) -> bytes:
        return b"\xff" + data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[:0:-1]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform(Registry.of([Box], [weigh]), "memory://") as platform:
        yield platform


@contextmanager
def serving(platform: Platform, security: Any = None, port: int = 0, reader: Any = None) -> Generator[str]:
    transport = platform.client()._transport
    backend = Backend("shop", transport, LocalStateFeed(platform._adapters.channel), reader=reader)
    server = ApiServer(
        create_app(backend, security or Unsecured(), AuditLog(MemoryAuditTrail())),
        "127.0.0.1",
        port,
        grace_s=0,
    )
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        server.join()


@pytest.fixture(scope="module")
def url(platform: Platform) -> Iterator[str]:
    with serving(platform) as url:
        yield url


def run(url: str, test: Callable[[Client], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Client.connect(url, **options) as client:
            await test(client)

    asyncio.run(main())


def test_a_run_from_start_to_result(url: str) -> None:
    async def test(client: Client) -> None:
        box = await client.options(attributes={"size": 3}, memo={"by": "Ada"}).start(
            "box-1", Box.carry, "big"
        )
        await box.signal(Box.arrive, "home")
        assert await box.result() == timedelta(seconds=3)
        assert await box.query(Box.at, "at ") == "at home"
        view = await box.view(Box.where, after=await box.position())
        assert view == Where("home", timedelta(seconds=7))
        told = await client.describe("box-1")
        assert (told.status, told.attributes) == (Status.COMPLETED, {"size": 3})
        assert (told.memo, told.details) == ({"by": "Ada"}, "**big** for Ada is on its way")
        records = await client.history("box-1")
        assert [record.first_event_id for record in records] == sorted(
            {record.first_event_id for record in records}
        )
        assert sum(len(record.events) for record in records) == told.history_length

    run(url, test)


def test_updates_are_answered_and_their_failures_cross_as_themselves(url: str) -> None:
    async def test(client: Client) -> None:
        box = client.with_start("box-u", Box.carry, "big")
        assert await box.update(Box.weigh, 3) == timedelta(seconds=3)
        accepted = await box.start_update(Box.weigh, 4)
        assert await accepted.result() == timedelta(seconds=4)
        assert await accepted.result("10s") == timedelta(seconds=4)
        with pytest.raises(UpdateRejected, match="less than nothing"):
            await box.update(Box.weigh, -1)
        with pytest.raises(UpdateFailed) as failed:
            await box.update(Box.weigh, 101)
        assert isinstance(failed.value.cause, Dropped)
        assert failed.value.cause.height == 101
        assert await client.get_by_name("box-u").update_by_name("weigh", [5]) == "PT5S"

    run(url, test)


def test_a_failure_crosses_as_itself(url: str) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(WorkflowFailed) as failed:
            await client.execute("box-2", Box.carry, "glass", drop_from=3)
        assert isinstance(failed.value.cause, Dropped)
        assert failed.value.cause.height == 3

    run(url, test)


def test_what_other_addresses_refuse_is_refused_in_the_same_way(url: str) -> None:
    async def test(client: Client) -> None:
        box = await client.start("box-3", Box.carry, "big")
        with pytest.raises(WorkflowAlreadyStarted):
            await client.start("box-3", Box.carry, "big")
        with pytest.raises(QueryFailed, match="ValueError: lost"):
            await box.query(Box.at, "raise")
        with pytest.raises(RequestRefused, match="nothing"):
            await client.get_by_name("box-3").signal_by_name("nothing")
        with pytest.raises(RequestRefused, match="Crate"):
            await client.start_by_name("box-4", "Crate")
        for refused in (
            client.state("nobody"),
            client.describe("nobody"),
            client.history("nobody"),
            client.history("box-3", "another"),
        ):
            with pytest.raises(WorkflowNotFound):
                await refused
        with pytest.raises(WorkflowNotFound):
            await client.get("nobody", Box.carry).signal(Box.arrive, "home")
        with pytest.raises(WorkflowNotFound):
            await client.get("nobody", Box.carry).result()
        await box.cancel("no longer wanted")
        with pytest.raises(WorkflowFailed, match="cancelled: no longer wanted"):
            await box.result()

    run(url, test)


@pytest.mark.parametrize("id", ODD_IDS)
def test_an_id_is_the_same_at_the_other_end_whatever_it_holds(url: str, id: str) -> None:
    async def test(client: Client) -> None:
        box = await client.options(request_id=f"start {id}"[:255].strip()).start(id, Box.carry, "big")
        assert (await client.state(id)).workflow_id == id
        await box.signal(Box.arrive, id)
        assert await box.query(Box.at) == id
        await box.result()
        assert (await client.history(id))[0].workflow_id == id

    run(url, test)


def test_the_same_request_acts_once(url: str) -> None:
    async def test(client: Client) -> None:
        once = client.options(request_id="buy/ø 1%2F")
        first, again = (
            await once.start("box-5", Box.carry, "big"),
            await once.start("box-5", Box.carry, "big"),
        )
        assert first.run_id == again.run_id
        elsewhere = await asyncio.gather(
            *(once.start(f"box-5-{number}", Box.carry, "big") for number in range(20))
        )
        states = await asyncio.gather(*(client.state(box.id) for box in elsewhere))
        assert [box.run_id for box in elsewhere] == [state.run_id for state in states]

    run(url, test)


def test_lists_come_page_by_page_and_with_every_filter(url: str) -> None:
    async def test(client: Client) -> None:
        begin = datetime.now(UTC) - timedelta(days=1)
        for number in range(5):
            options = client.options(attributes={"kind": "list", "number": number, "fragile": number == 1})
            await options.start(f"listed/{number}", Box.carry, "big")
        wanted: dict[str, Any] = {
            "id_prefix": "listed/",
            "sort": "workflow_id",
            "order": "oldest",
            "started_after": begin,
        }
        pages: list[list[str]] = []
        after = None
        while page := await client.list(**wanted, type="Box", status="running", limit=2, after=after):
            pages.append([state.workflow_id for state in page])
            after = page[-1]
        assert pages == [["listed/0", "listed/1"], ["listed/2", "listed/3"], ["listed/4"]]
        assert [
            state.workflow_id for state in await client.list(attributes={"number": 3, "kind": "list"})
        ] == ["listed/3"]
        assert [state.workflow_id for state in await client.list(attributes={"fragile": True})] == [
            "listed/1"
        ]
        assert await client.list(id_prefix="listed/", started_before=begin) == []
        with pytest.raises(RequestRefused, match="colon"):
            await client.list(attributes={"a:b": 1})
        counts = await client._transport.read(lambda reader: reader.counts())
        assert counts["Box", "running"] >= 5

    run(url, test)


def test_what_a_codec_has_made_passes_through_an_api_that_does_not_have_it() -> None:
    async def test(client: Client) -> None:
        box = await client.start("box-1", Box.carry, "big")
        await box.signal(Box.arrive, "home")
        assert await box.result() == timedelta(seconds=3)
        assert await box.query(Box.at, "at ") == "at home"
        assert await box.view(Box.where) == Where("home", timedelta(seconds=7))
        with pytest.raises(WorkflowFailed) as failed:
            await client.execute("box-2", Box.carry, "glass", drop_from=3)
        assert isinstance(failed.value.cause, Dropped)

    async def without(client: Client) -> None:
        with pytest.raises(UsageError, match="reversed"):
            await client.get("box-1", Box.carry).view(Box.where)

    with (
        Platform(Registry.of([Box], [weigh]), "memory://", codec=Reversed()) as platform,
        serving(platform) as url,
    ):
        run(url, test, codec=Reversed())
        run(url, without)


def test_a_reader_that_is_behind_a_position_says_so(platform: Platform) -> None:
    class Behind(MemoryReader):
        def wait_for(self, position: Position, timeout_s: float) -> bool:
            asked.append((position, timeout_s))
            return False

    async def test(client: Client) -> None:
        with pytest.raises(ReadLags, match="behind position 3-1042"):
            await client.state("box-1", after="3-1042", within="250ms")
        with pytest.raises(RequestRefused, match="not a position"):
            await client.state("box-1", after="nonsense")

    asked: list[tuple[Position, float]] = []
    with serving(platform, reader=Behind(MemoryMedium())) as url:
        run(url, test)
    assert {position for position, _ in asked} == {Position(3, 1042)}


def test_without_asyncio(url: str) -> None:
    with SyncClient.connect(url) as client:
        box = client.start("box-7", Box.carry, "big")
        box.signal(Box.arrive, "home")
        assert box.result() == timedelta(seconds=3)


def test_a_list_that_the_api_gives_in_parts_is_whole(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.api.reading.PAGE_BYTES", 1)  # each part ends after its first state

    async def test(client: Client) -> None:
        for number in range(4):
            await client.start(f"part-{number}", Box.carry, "big")
        for limit, wanted in ((10, 4), (3, 3)):
            found = await client.list(id_prefix="part-", sort="workflow_id", order="oldest", limit=limit)
            assert [state.workflow_id for state in found] == [f"part-{number}" for number in range(wanted)]

    run(url, test)


# ---- who may


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_token_is_given_or_found_in_the_environment_and_asked_for_each_time(
    platform: Platform, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, operator = (
        create_key(keys, role.value, role, ["shop"])[0] for role in (Role.READER, Role.OPERATOR)
    )
    current = [reader]

    async def start(client: Client) -> None:
        await client.options(if_running="attach").start("box-8", Box.carry, "big")

    async def refused(client: Client) -> None:
        with pytest.raises(NotAllowed):
            await start(client)

    async def later(client: Client) -> None:
        with pytest.raises(NotAllowed, match="requires the role operator"):
            await start(client)
        current[0] = operator
        await start(client)

    with serving(platform, Security("shop", api_keys=ApiKeys(keys, Reports()))) as url:
        monkeypatch.delenv("PERDURE_TOKEN", raising=False)
        run(url, refused)
        run(url, refused, token="perdure_nonsense")
        run(url, start, token=operator)
        run(url, later, token=lambda: current[0])
        monkeypatch.setenv("PERDURE_TOKEN", operator)
        run(url, start)
        monkeypatch.setenv("PERDURE_TOKEN", reader)
        shown = CliRunner().invoke(command_line, ["workflow", "show", "box-8", "--db", url, "-o", "json"])
        assert json.loads(shown.stdout)["workflow_id"] == "box-8"
        assert isinstance(
            CliRunner().invoke(command_line, ["workflow", "cancel", "box-8", "--db", url]).exception,
            NotAllowed,
        )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://", "invalid address"),
        ("http://[::1", "invalid address"),
        ("http://host:99999", "invalid address"),
        ("http://host/?token=x", "invalid address"),
        ("http://user:secret@host", "do not put secrets"),
    ],
)
def test_an_invalid_address_is_refused(address: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        run(address, lambda client: client.close())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_token_goes_to_the_api_at_either_scheme(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    def connected(*given: object) -> None:
        found.extend(given)

    monkeypatch.setattr("perdure.adapters.http.transport.Connection", connected)
    transport_of(f"{scheme}://shop.example", "perdure_secret")
    assert found == [f"{scheme}://shop.example", "perdure_secret"]


def test_other_addresses_take_no_token(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only the HTTP API takes a token"):
        run(f"sqlite:///{tmp_path / 'app.db'}", lambda client: client.close(), token="x")


# ---- when it is not there


def test_an_address_without_a_listener_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        transport = HttpTransport(Connection(f"http://127.0.0.1:{port}", unreachable_s=0.1))
        with pytest.raises(InfrastructureError, match=r"cannot be reached.*perdure api"):
            await transport.read(lambda reader: reader.state("w"))
        await transport.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await transport.read(lambda reader: reader.state("w"))

    asyncio.run(main())


def test_a_port_of_another_program_is_reported() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, Client.connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            with pytest.raises(InfrastructureError, match="is it the API's address"):
                await client.state("w")

    asyncio.run(main())


def test_an_api_that_is_started_again_is_waited_for(platform: Platform) -> None:
    async def main() -> None:
        with closing(socket.socket()) as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = chosen.getsockname()[1]
        async with Client.connect(f"http://127.0.0.1:{port}") as client:
            with serving(platform, port=port):
                box = await client.start("box-9", Box.carry, "big")
            later = asyncio.create_task(box.signal(Box.arrive, "home"))
            await asyncio.sleep(0)
            with serving(platform, port=port):
                await later
                assert await box.result() == timedelta(seconds=3)

    asyncio.run(main())


# ---- what answers mean


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (401, "unauthenticated", NotAllowed),
        (403, "forbidden", NotAllowed),
        (421, "misdirected", NotAllowed),
        (404, "workflow-not-found", WorkflowNotFound),
        (404, "not-found", InfrastructureError),
        (413, "limit-exceeded", RequestRefused),
        (422, "invalid-request", RequestRefused),
        (500, "internal", InfrastructureError),
        (502, "", InfrastructureError),
        (503, "engine-unavailable", EngineUnavailable),
        (503, "read-lags", ReadLags),
        (503, "unavailable", InfrastructureError),
        (503, "identity-provider-unavailable", InfrastructureError),
        (504, "timeout", EngineUnavailable),
    ],
)
def test_a_problem_is_the_error_that_other_addresses_raise(
    status: int, slug: str, kind: type[Exception]
) -> None:
    body = json.dumps({"type": f"https://perdure.dev/problems/{slug}", "detail": "what to do"}).encode()
    error = fault_of(Answer(status, "application/problem+json", body), "http://host")
    assert type(error) is kind
    assert str(error).startswith("what to do")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"type": 7}', b"{}"])
def test_a_response_that_is_not_a_problem_is_not_from_the_api(body: bytes) -> None:
    assert "is it the API's address" in str(fault_of(Answer(502, "text/html", body), "http://host"))


@pytest.mark.parametrize(
    "command",
    [
        CompleteActivity("w", "r", number=1, token="t"),
        FireTimer("w", "r", number=1),
        ResumeWorkflow("w", "r"),
    ],
)
def test_commands_of_workers_and_engines_have_no_route_and_are_not_sent(command: Any) -> None:
    with pytest.raises(UsageError, match="cannot be sent"):
        call_of(command)
