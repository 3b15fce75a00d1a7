"""A namespace that is mirrored to another Kafka continues there when the first is lost: nothing is
lost or doubled, by counting."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from perdure.adapters.kafka.admin.admin import Topics
from perdure.adapters.kafka.admin.mirrored import BoundedReader
from perdure.adapters.kafka.admin.mirroring import Mirror, Round
from perdure.adapters.kafka.padding import is_padding
from perdure.client import Client
from perdure.codec.avro import COMMANDS, HEADER
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.engine.operator_log import to_stderr
from perdure.errors import InfrastructureError
from perdure.model.commands import SignalWorkflow
from perdure.model.events import WorkflowCompleted
from perdure.registry import Registry
from tests.kafka.apps import labour
from tests.kafka.broker import running
from tests.kafka.conftest import entered
from tests.kafka.namespace import Namespace, signals, wait_until


class Lost(Exception):
    """The source, in the middle of a round."""


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """A second Kafka."""
    with ExitStack() as stack:
        yield entered(stack, running()).bootstrap


def mirror_of(namespace: Namespace, other: str) -> Mirror:
    return Mirror(
        namespace.name,
        {"bootstrap.servers": namespace.bootstrap},
        {"bootstrap.servers": other},
        report=to_stderr,
    )


def there(namespace: Namespace, other: str) -> Namespace:
    """The namespace in the mirror, with the commands that came there as those that were sent."""
    mirrored = copy.copy(namespace)
    mirrored.bootstrap = other
    mirrored.admin = AdminClient({"bootstrap.servers": other})
    mirrored._producer = Producer({"bootstrap.servers": other, "linger.ms": 0, "enable.idempotence": True})
    mirrored._tallies = []
    mirrored.sent = []
    copied = [
        COMMANDS.decode(each.value(), dict(each.headers())[HEADER])
        for each in mirrored.read("commands")
        if not is_padding(each)
    ]
    names = {command.name for command in copied if isinstance(command, SignalWorkflow)}
    mirrored.sent = sorted(names | set(mirrored.audit().applied))
    return mirrored


def round_of(mirror: Mirror) -> Round:
    rounds: list[Round] = []
    mirror.run(once=True, done=rounds.append)
    return rounds[0]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_engines_continue_in_the_mirror_at_whatever_point_the_source_is_lost(
    namespace: Namespace, other: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = BoundedReader.until
    with namespace.process(), namespace.load():
        wait_until(lambda: len(namespace.audit().applied) > 200)
        assert round_of(mirror_of(namespace, other)).copied
        applied = len(namespace.audit().applied)
        wait_until(lambda: len(namespace.audit().applied) > applied + 200)
        calls = 0

        def lost(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            until(*arguments)
            if calls == step:
                raise Lost

        with monkeypatch.context() as patch:
            patch.setattr(BoundedReader, "until", lost)
            if step in {1, 2, 3}:
                with pytest.raises(Lost):
                    round_of(mirror_of(namespace, other))
            elif step == 4:
                round_of(mirror_of(namespace, other))
    mirrored = there(namespace, other)
    assert len(mirrored.sent) > 200
    tally = mirrored.tally()
    tally.until(lambda: not mirrored.audit().missing, 60)
    mirrored.send(signals([f"new-{i}" for i in range(200)]))
    tally.until(lambda: not mirrored.audit().missing, 60)
    mirrored.audit().assert_exactly_once()
    assert mirrored.dead_letters() == []
    mirrored.close()


def test_a_mirror_that_was_killed_continues_without_loss_or_repeat(
    namespace: Namespace, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = BoundedReader.until
    with namespace.process(), namespace.load():
        for step in (1, 2, 3, 2, 1):
            applied = len(namespace.audit().applied)
            wait_until(partial(_has_applied, namespace, applied + 50))
            calls = 0

            def lost(*arguments: Any, step: int = step) -> None:
                nonlocal calls
                calls += 1
                until(*arguments)
                if calls == step:
                    raise Lost

            with monkeypatch.context() as patch:
                patch.setattr(BoundedReader, "until", lost)
                with pytest.raises(Lost):
                    round_of(mirror_of(namespace, other))
        namespace.stop_load()
        namespace.until_applied()
    round_of(mirror_of(namespace, other))
    mirrored = there(namespace, other)
    assert Counter(_of(each) for each in mirrored.read("events")) == Counter(
        _of(each) for each in namespace.read("events")
    )
    offsets = {
        (each.partition(), each.offset()): each.value()
        for each in mirrored.read("commands")
        if not is_padding(each)
    }
    source = {(each.partition(), each.offset()): each.value() for each in namespace.read("commands")}
    assert offsets
    assert offsets.items() <= source.items(), "a command keeps its offset"
    assert mirrored.committed() == namespace.committed()


def test_orders_continue_in_the_mirror_of_a_lost_cluster(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that wait, tasks that nobody has taken, runs that have ended: each activity ran once,
    each run ends once."""
    monkeypatch.setenv("LABOUR", str(tmp_path / "book"))
    registry = Registry.of([labour.Day], [labour.work])
    ended, waiting, untaken = ([f"{kind}-{i}" for i in range(8)] for kind in ("ended", "waiting", "untaken"))

    def platform(bootstrap: str, worker: WorkerOptions | None) -> KafkaPlatform:
        engine = EngineOptions("engine-0", tmp_path / "state")
        return KafkaPlatform(
            registry, Place("lost", {"bootstrap.servers": bootstrap}), engine=engine, worker=worker
        )

    def on(serving: KafkaPlatform, live: Callable[[Client], Any]) -> Any:
        async def run() -> Any:
            async with serving.client() as client:
                return await live(client)

        return asyncio.run(run())

    async def begin(client: Client) -> None:
        for name in (*ended, *waiting):
            await client.start(name, labour.Day.live, name)
        for name in ended:
            await client.get(name, labour.Day.live).signal(labour.Day.end)
            assert await client.get(name, labour.Day.live).result() == f"{name} is done"
        while _noted(tmp_path / "book")["end"] < len(ended) + len(waiting):
            await asyncio.sleep(0.02)

    async def begin_more(client: Client) -> None:
        for name in untaken:
            await client.start(name, labour.Day.live, name)

    async def end_all(client: Client) -> list[str]:
        for name in (*waiting, *untaken):
            await client.get(name, labour.Day.live).signal(labour.Day.end)
        return [await client.get(name, labour.Day.live).result() for name in (*ended, *waiting, *untaken)]

    with ExitStack() as stack:
        doomed = entered(stack, running())
        topics = Topics("lost", doomed.client)
        topics.apply(topics.plan(partitions=3, queues=("default",)))
        mirror = Mirror("lost", doomed.client, {"bootstrap.servers": other}, report=to_stderr)
        rounds = threading.Semaphore(0)

        def done(_: Round) -> None:
            rounds.release()

        thread = threading.Thread(target=mirror.run, kwargs={"every_s": 0.1, "done": done})
        thread.start()
        try:
            with platform(doomed.bootstrap, WorkerOptions()) as serving:
                on(serving, begin)
            with platform(doomed.bootstrap, None) as serving:
                on(serving, begin_more)
            while rounds.acquire(blocking=False):
                pass
            assert rounds.acquire(timeout=120)
            assert rounds.acquire(timeout=120), "one has begun after all of that"
            doomed.brokers[0].kill()
        finally:
            mirror.request_stop()
            thread.join()
    with platform(other, WorkerOptions()) as serving:
        results = on(serving, end_all)
        assert serving.status.counts.dead_letters == 0
    assert results == [f"{name} is done" for name in (*ended, *waiting, *untaken)]
    book = (tmp_path / "book").read_text().splitlines()
    assert Counter(book) == Counter(
        f"{what} {name}" for what in ("begin", "end") for name in (*ended, *waiting, *untaken)
    )
    namespace = Namespace.__new__(Namespace)
    namespace.name, namespace.bootstrap = "lost", other
    closed = [
        record.workflow_id
        for _, record in namespace.events()
        for event in record.events
        if isinstance(event, WorkflowCompleted)
    ]
    assert sorted(closed) == sorted([*ended, *waiting, *untaken])


def test_a_mirror_in_use_is_not_written_to(namespace: Namespace, other: str) -> None:
    namespace.send_numbers(20)
    with namespace.process():
        namespace.until_applied()
    round_of(mirror_of(namespace, other))
    mirrored = there(namespace, other)
    tally = mirrored.tally()
    tally.until(lambda: bool(tally.log.status.owned))
    with pytest.raises(InfrastructureError, match="is active in the mirror"):
        round_of(mirror_of(namespace, other))
    mirrored.close()


def test_the_command_copies_what_there_is_and_refuses_a_kafka_as_its_own_mirror(
    namespace: Namespace, other: str
) -> None:
    namespace.send_numbers(20)
    with namespace.process():
        namespace.until_applied()

    def mirror(to: str) -> subprocess.CompletedProcess[str]:
        where = ["--kafka", namespace.bootstrap, "--namespace", namespace.name, "--to", to, "--once"]
        command = [sys.executable, "-m", "perdure.cli", "topics", "mirror", *where]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    done = mirror(other)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mirrored ")
    assert there(namespace, other).audit().applied == namespace.audit().applied
    refused = mirror(namespace.bootstrap)
    assert refused.returncode == 1
    assert "both addresses belong to the same Kafka cluster" in refused.stderr


def _has_applied(namespace: Namespace, count: int) -> bool:
    return len(namespace.audit().applied) > count


def _of(record: Any) -> tuple[Any, ...]:
    return record.partition(), record.key(), record.value(), tuple(record.headers()), record.timestamp()


def _noted(book: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in book.read_text().splitlines()) if book.exists() else Counter()
