"""The contract of `client.ports.Transport`, for every adapter."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from perdure.adapters.process.transport import LocalTransport
from perdure.adapters.sqlite.file import connect as connect_file
from perdure.adapters.sqlite.transport import SqliteTransport, connect
from perdure.client.address import transport_of
from perdure.client.ports import Transport
from perdure.client.position import Position
from perdure.engine.ports import Batch
from perdure.errors import EngineUnavailable, InfrastructureError, UsageError
from perdure.model.commands import AnyCommand, AwaitWorkflow, Request, SignalWorkflow, StartWorkflow
from perdure.model.replies import Accepted, Closed
from perdure.model.states import Status
from tests.contract.media import MemoryMedia, SqliteMedia
from tests.contract.samples import state
from tests.contract.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.media import Media, Node


@dataclass
class Echo:
    """An engine that accepts every request but those to `silent`, and answers an AwaitWorkflow when
    it learns that all closed."""

    node: Node
    taken: list[AnyCommand] = field(default_factory=list["AnyCommand"])
    has_taken: threading.Condition = field(default_factory=threading.Condition)
    _waiting: list[AwaitWorkflow] = field(default_factory=list["AwaitWorkflow"])
    _is_stopping: bool = False
    _are_closed: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> Echo:
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,))
        self._thread.start()
        assert opened.wait(10)
        return self

    def stop(self) -> None:
        self._is_stopping = True
        self.node.log.wake()
        if self._thread is not None:
            self._thread.join()

    def close_workflows(self) -> None:
        self._are_closed = True
        self.node.log.wake()

    def wait_for(self, condition: Callable[[list[AnyCommand]], bool]) -> None:
        with self.has_taken:
            assert self.has_taken.wait_for(lambda: condition(self.taken), 10)

    def _run(self, opened: threading.Event) -> None:
        self.node.open()
        opened.set()
        at = self.node.store.latest_at()
        while not self._is_stopping:
            commands = self.node.log.take(100, 60.0)
            at += 1
            batch = Batch(at)
            for command in commands:
                self._handle(command, batch)
            if self._are_closed:
                batch.replies += [
                    (each.reply_to, Closed(each.request_id, "run-1", Status.COMPLETED, b"7"))
                    for each in self._waiting
                ]
                self._waiting.clear()
            self.node.write(batch)
            with self.has_taken:
                self.taken += commands
                self.has_taken.notify_all()
        self.node.close()

    def _handle(self, command: AnyCommand, batch: Batch) -> None:
        if isinstance(command, StartWorkflow):
            batch.states[command.workflow_id] = state(command.workflow_id)
        if isinstance(command, AwaitWorkflow):
            self._waiting.append(command)
        elif isinstance(command, Request) and command.workflow_id != "silent" and command.reply_to:
            batch.replies.append(
                (command.reply_to, Accepted(command.request_id, f"run of {command.workflow_id}"))
            )


@dataclass
class Line:
    """A transport to be and the engine at its other end."""

    media: Media
    echo: Echo
    transport: Callable[[], Transport]


@pytest.fixture(params=["local, memory", "local, sqlite", "remote, sqlite", "http, memory", "http, sqlite"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    where, what = request.param.split(", ")
    media: Media = MemoryMedia(tmp_path) if what == "memory" else SqliteMedia(tmp_path)
    node = media.node()
    echo = Echo(node).start()
    with ExitStack() as stack:
        url = (
            stack.enter_context(served(media, node))
            if where == "http"
            else f"sqlite:///{tmp_path / 'app.db'}"
        )
        yield Line(
            media,
            echo,
            (lambda: LocalTransport(node.channel, media.reader()))
            if where == "local"
            else (lambda: transport_of(url)),
        )
    echo.stop()
    media.close()


def signal(workflow_id: str = "w", request_id: str = "r") -> SignalWorkflow:
    return SignalWorkflow(workflow_id, name="go", request_id=request_id)


def test_a_request_gets_its_answer(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        assert await transport.request(signal("w", "r-1"), 10) == Accepted("r-1", "run of w")
        assert await transport.request(signal("v", "r-2"), 10) == Accepted("r-2", "run of v")
        await transport.close()

    asyncio.run(main())


def test_each_of_many_concurrent_requests_gets_its_own_answer(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        found = await asyncio.gather(
            *(transport.request(signal(f"w-{number}", f"r-{number}"), 10) for number in range(300))
        )
        assert found == [Accepted(f"r-{number}", f"run of w-{number}") for number in range(300)]
        await transport.close()

    asyncio.run(main())


def test_two_clients_do_not_get_each_others_answers(line: Line) -> None:
    async def main() -> None:
        one, two = line.transport(), line.transport()
        found = await asyncio.gather(
            one.request(signal("a", "same"), 10), two.request(signal("b", "same"), 10)
        )
        assert [reply.run_id for reply in found if isinstance(reply, Accepted)] == ["run of a", "run of b"]
        await one.close()
        await two.close()

    asyncio.run(main())


def test_the_same_request_sent_twice_concurrently_is_answered_twice(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        found = await asyncio.gather(transport.request(signal(), 10), transport.request(signal(), 10))
        assert list(found) == [Accepted("r", "run of w")] * 2
        await transport.close()

    asyncio.run(main())


def test_a_start_arrives_whole_with_the_signal_that_it_brings(line: Line) -> None:
    start = StartWorkflow(
        "w",
        request_id="r",
        type="Box",
        input=b"[1]",
        if_running="attach",
        delay_us=7,
        signal_name="put",
        signal_input=b'["a"]',
    )

    async def main() -> None:
        transport = line.transport()
        await transport.request(start, 10)
        await transport.close()

    asyncio.run(main())
    line.echo.wait_for(
        lambda taken: any(
            type(each) is StartWorkflow and replace(each, reply_to="", request_id="r") == start
            for each in taken
        )
    )


def test_requests_reach_the_engine_in_order(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        transport.submit([replace(signal("w", f"s-{number}"), name=f"s-{number}") for number in range(10)])
        await transport.request(replace(signal("w", "last"), name="last"), 10)
        await transport.close()

    asyncio.run(main())
    line.echo.wait_for(lambda taken: len(taken) >= 11)
    assert [each.name for each in line.echo.taken if isinstance(each, SignalWorkflow)] == [
        *(f"s-{number}" for number in range(10)),
        "last",
    ]


def test_what_was_answered_can_be_read(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        assert transport.reader.state("w-0") is None
        for number in range(20):
            await transport.request(StartWorkflow(f"w-{number}", request_id=str(number), type="Order"), 10)
            assert transport.reader.state(f"w-{number}") is not None
        await transport.close()

    asyncio.run(main())


def test_a_reader_reaches_the_position_of_what_was_answered(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        await transport.request(StartWorkflow("w-0", request_id="1", type="Order"), 10)
        position = await transport.position("w-0")
        assert Position.parse(str(position)) == position
        assert await transport.read(lambda reader: reader.wait_for(position, 5))
        assert await transport.read(lambda reader: reader.state("w-0")) is not None
        await transport.close()

    asyncio.run(main())


def test_no_answer_in_time_is_engine_unavailable_and_later_requests_work(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        with pytest.raises(
            EngineUnavailable, match=r"did not answer SignalWorkflow within 0.1 s.*It is safe to retry"
        ):
            await transport.request(signal("silent"), 0.1)
        assert await transport.request(signal("w", "r-2"), 10) == Accepted("r-2", "run of w")
        await transport.close()

    asyncio.run(main())


def test_a_request_that_is_cancelled_leaves_nothing_behind(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r-1"), math.inf))
        await transport.request(signal("w", "r-2"), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        line.echo.close_workflows()
        assert await transport.request(signal("w", "r-3"), 10) == Accepted("r-3", "run of w")
        await transport.close()

    asyncio.run(main())


def test_a_wait_without_limit_ends_with_the_answer(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r-1"), math.inf))
        await transport.request(signal("w", "r-2"), 10)
        assert not task.done()
        line.echo.close_workflows()
        assert await task == Closed("r-1", "run-1", Status.COMPLETED, b"7")
        await transport.close()

    asyncio.run(main())


def test_close_ends_waiting_requests_and_refuses_new_ones(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r-1"), math.inf))
        await transport.request(signal("w", "r-2"), 10)
        await transport.close()
        with pytest.raises(EngineUnavailable, match="was closed"):
            await task
        with pytest.raises(EngineUnavailable, match="closed"):
            await transport.request(signal(), 1)
        await transport.close()

    asyncio.run(main())


@pytest.mark.parametrize("line", ["local, memory", "local, sqlite"], indirect=True)
def test_requests_to_an_in_process_engine_that_stops_end_immediately(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r-1"), math.inf))
        await transport.request(signal("w", "r-2"), 10)
        await asyncio.to_thread(line.echo.stop)
        with pytest.raises(EngineUnavailable, match="has stopped"):
            await task
        with pytest.raises(EngineUnavailable, match="has stopped"):
            await transport.request(signal("w", "r-3"), math.inf)
        await transport.close()

    asyncio.run(main())


def test_close_sees_written_what_was_submitted(line: Line) -> None:
    async def main() -> None:
        transport = line.transport()
        transport.submit([signal("w", "s-1")])
        await transport.close()

    asyncio.run(main())
    line.echo.wait_for(lambda taken: len(taken) == 1)


def test_another_loop_may_use_it_later_but_not_concurrently(line: Line) -> None:
    transport = line.transport()
    assert asyncio.run(transport.request(signal("w", "r-1"), 10)) == Accepted("r-1", "run of w")
    assert asyncio.run(transport.request(signal("w", "r-2"), 10)) == Accepted("r-2", "run of w")

    async def main() -> None:
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r-3"), math.inf))
        await transport.request(signal("w", "r-4"), 10)
        with pytest.raises(UsageError, match="one for each loop"):
            await asyncio.to_thread(lambda: asyncio.run(transport.request(signal("w", "r-5"), 10)))
        await transport.close()
        with pytest.raises(EngineUnavailable):
            await task

    asyncio.run(main())


# ---- from another process only


@pytest.fixture
def media(tmp_path: Path) -> Iterator[SqliteMedia]:
    """A file without a running engine."""
    media = SqliteMedia(tmp_path)
    node = media.node().open()
    media.crash(node)
    yield media
    media.close()


def test_a_client_of_a_missing_file_gets_an_error_that_says_how_to_create_it(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no database"):
        connect(f"sqlite:///{tmp_path / 'app.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_client_of_another_programs_file_gets_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(connect_file(path, 1.0)) as connection:
        connection.execute("CREATE TABLE photos (id)")

    async def main() -> None:
        transport = SqliteTransport(path)
        for _ in range(2):
            with pytest.raises(InfrastructureError, match="another program"):
                await transport.request(signal(), 10)
        await transport.close()

    asyncio.run(main())


def test_a_start_while_no_engine_runs_says_so_and_is_done_later(media: SqliteMedia) -> None:
    async def main() -> None:
        transport = SqliteTransport(media.path)
        with pytest.raises(
            EngineUnavailable,
            match=r"no engine is running on the database .*start `perdure dev APP --db .*is stored and will "
            r"be processed then",
        ):
            await transport.request(StartWorkflow("w", request_id="r", type="Order"), 0.2)
        await transport.close()

    asyncio.run(main())
    echo = Echo(media.node()).start()
    echo.wait_for(lambda taken: [each.workflow_id for each in taken] == ["w"])
    echo.stop()


def test_a_request_that_waits_is_answered_by_an_engine_that_starts_meanwhile(media: SqliteMedia) -> None:
    async def main() -> None:
        transport = SqliteTransport(media.path)
        task = asyncio.create_task(transport.request(signal(), 20))
        await asyncio.sleep(0)
        echo = Echo(media.node()).start()
        assert await task == Accepted("r", "run of w")
        echo.stop()
        await transport.close()

    asyncio.run(main())


def test_a_wait_continues_over_a_restart_of_the_engine(media: SqliteMedia) -> None:
    first = Echo(media.node()).start()

    async def main() -> None:
        transport = SqliteTransport(media.path)
        task = asyncio.create_task(transport.request(AwaitWorkflow("w", request_id="r"), math.inf))
        await asyncio.to_thread(first.wait_for, lambda taken: len(taken) == 1)
        first.stop()
        second = Echo(media.node()).start()
        await asyncio.to_thread(
            second.wait_for, lambda taken: any(isinstance(each, AwaitWorkflow) for each in taken)
        )
        second.close_workflows()
        assert await task == Closed("r", "run-1", Status.COMPLETED, b"7")
        second.stop()
        await transport.close()

    asyncio.run(main())


def test_a_wait_without_limit_ends_when_the_database_is_abandoned(media: SqliteMedia) -> None:
    async def main() -> None:
        transport = SqliteTransport(media.path, abandoned_s=0.2)
        with pytest.raises(EngineUnavailable, match="no engine is running on"):
            await transport.request(AwaitWorkflow("w", request_id="r"), math.inf)
        await transport.close()

    asyncio.run(main())


def test_answers_come_though_every_hint_is_lost(media: SqliteMedia) -> None:
    echo = Echo(media.node()).start()
    with closing(connect_file(media.path, 1.0)) as connection:
        connection.execute("UPDATE meta SET value = 9 WHERE key = 'port'")

    async def main() -> None:
        transport = SqliteTransport(media.path)
        transport._opened().address = "udp:9:deaf"
        assert await transport.request(signal(), 10) == Accepted("r", "run of w")
        await transport.close()

    asyncio.run(main())
    echo.stop()


def test_a_lock_that_lasts_is_named_in_the_error_and_the_request_goes_through_later(
    media: SqliteMedia,
) -> None:
    async def main() -> None:
        transport = SqliteTransport(media.path, busy_s=0.05)
        with closing(connect_file(media.path, 1.0)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(InfrastructureError, match="locked by another process"):
                await transport.request(signal(), 0.5)
            other.execute("ROLLBACK")
        await transport.close()

    asyncio.run(main())
    echo = Echo(media.node()).start()
    echo.wait_for(lambda taken: len(taken) == 1)
    echo.stop()
