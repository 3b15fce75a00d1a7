"""Clients on Kafka: from another process than the engine's, with and without one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.kafka.client.transport import KafkaTransport
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.client import Client
from perdure.client.position import Position
from perdure.codec.payloads import JsonPayloads
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.errors import EngineUnavailable, InfrastructureError, UsageError, WorkflowNotFound
from perdure.model.commands import AwaitWorkflow, SignalWorkflow
from perdure.registry import Registry
from tests.kafka.apps import labour
from tests.kafka.namespace import Namespace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LABOUR", str(tmp_path / "book"))
    return f"kafka://{namespace.bootstrap}/{namespace.name}"


def platform(namespace: Namespace, tmp_path: Path) -> KafkaPlatform:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    registry = Registry.of([labour.Day], [labour.work])
    return KafkaPlatform(
        registry, place, engine=EngineOptions(state_dir=tmp_path / "state"), worker=WorkerOptions()
    )


@pytest.fixture
def served(namespace: Namespace, tmp_path: Path, url: str) -> Iterator[str]:
    with platform(namespace, tmp_path):
        yield url


def perdure(*arguments: str) -> str:
    """From another process."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_from_start_to_result_over_kafka(served: str) -> None:
    async def live() -> None:
        async with Client.connect(served) as client:
            day = await client.start("monday", labour.Day.live, "tidy up")
            assert await day.view(labour.Day.status) == "going on", "what was answered can be read"
            assert not await day.query(labour.Day.asked)
            await day.signal(labour.Day.end)
            assert await day.result() == "tidy up is done"
            assert await day.view(labour.Day.status) == "over"
            assert [each.workflow_id for each in await client.list(status="completed")] == ["monday"]
            history = await client.history("monday")
            events = [event for record in history for event in record.events]
            assert history[0].first_event_id == 1
            assert history[-1].last_event_id == len(events)
            with pytest.raises(WorkflowNotFound):
                await client.state("nobody")

    asyncio.run(live())


def test_another_process_starts_signals_lists_and_reads(served: str) -> None:
    perdure("workflow", "start", "tuesday", "Day", "sing", "--db", served)
    perdure("workflow", "signal", "tuesday", "end", "--db", served)
    assert (
        json.loads(perdure("workflow", "result", "tuesday", "--timeout", "60s", "--db", served))
        == "sing is done"
    )
    listed = json.loads(perdure("workflow", "list", "--db", served, "-o", "json"))
    assert "tuesday" in json.dumps(listed)
    assert "WorkflowCompleted" in perdure("workflow", "history", "tuesday", "--db", served)


def test_what_is_asked_without_an_engine_is_kept_and_done_when_there_is_one(
    namespace: Namespace, tmp_path: Path, url: str
) -> None:
    async def ask() -> None:
        transport = KafkaTransport(
            PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap})
        )
        client = Client(transport, payloads=JsonPayloads())
        with pytest.raises(
            EngineUnavailable, match=r"no engine has taken SignalWorkflow .* offset 0.*perdure engine APP"
        ):
            await transport.request(SignalWorkflow("early", name="end", request_id="r-1"), 2.0)
        starting = asyncio.create_task(client.start("wednesday", labour.Day.live, "rest"))
        await asyncio.sleep(0)
        with platform(namespace, tmp_path):
            assert (await starting).id == "wednesday"
        await client.close()

    asyncio.run(ask())


def test_a_waiting_client_gets_the_result_though_the_engine_was_restarted(
    namespace: Namespace, tmp_path: Path, url: str
) -> None:
    async def wait() -> None:
        clients = PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap})
        transport = KafkaTransport(clients, ask_again_s=0.5)
        first = platform(namespace, tmp_path)
        first.start()
        client = Client(transport, payloads=JsonPayloads())
        day = await client.start("thursday", labour.Day.live, "wait")
        waiting = asyncio.create_task(day.result())
        await day.query(labour.Day.asked)  # behind the wait in the same partition
        await asyncio.to_thread(first.stop)
        second = platform(namespace, tmp_path)
        await asyncio.to_thread(second.start)
        await day.signal(labour.Day.end)
        assert await asyncio.wait_for(waiting, 60) == "wait is done"
        await client.close()
        await asyncio.to_thread(second.stop)

    asyncio.run(wait())


def test_who_waits_without_a_limit_gives_up_when_no_engine_takes_it(namespace: Namespace) -> None:
    async def wait() -> None:
        clients = PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap})
        transport = KafkaTransport(clients, ask_again_s=0.2, abandoned_s=1.0)
        with pytest.raises(EngineUnavailable, match="no engine has taken AwaitWorkflow"):
            await transport.request(AwaitWorkflow("nobody", "", "r-1"), float("inf"))
        await transport.close()

    asyncio.run(wait())


def test_a_namespace_without_topics_is_reported(namespace: Namespace) -> None:
    async def ask() -> None:
        async with Client.connect(f"kafka://{namespace.bootstrap}/nowhere{namespace.name}") as client:
            with pytest.raises(
                InfrastructureError, match=r"replies does not exist: create it with `perdure topics apply`"
            ):
                await client.start("x", labour.Day.live, "y")

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://localhost:9092", "brokers, then the namespace"),
        ("kafka:///shop", "brokers, then the namespace"),
        ("kafka://user:secret@localhost/shop", "PERDURE_KAFKA_SASL_PASSWORD"),
        ("kafka://localhost/shop?enable.idempotence=false", "enable.idempotence"),
        ("kafka://localhost/shop?nonsense", "NAME=VALUE"),
        ("kafka://localhost/a.b", "no '.'"),
    ],
)
def test_an_invalid_address_is_refused(url: str, said: str) -> None:
    async def connect() -> None:
        with pytest.raises(UsageError, match=said.replace(".", r"\.")):
            await Client.connect(url)

    asyncio.run(connect())


def test_a_position_is_where_the_events_of_a_write_end(
    namespace: Namespace, tmp_path: Path, url: str
) -> None:
    async def ask() -> None:
        async with Client.connect(url) as client:
            before = await client.position("thursday")
            assert before == Position(namespace.place_of("thursday"), 0)
            day = await client.start("thursday", labour.Day.live, "dance")
            after = await day.position()
            assert (after.partition, after.offset > before.offset) == (before.partition, True)
            state = await client.state("thursday", after=str(after))
            assert state.run_id == day.run_id

    with platform(namespace, tmp_path):
        asyncio.run(ask())
