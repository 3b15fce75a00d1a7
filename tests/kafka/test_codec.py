"""An app with a codec and a store on Kafka: engine and worker are processes of their own, and a key
is lost for a while."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from perdure.client import Client
from perdure.errors import WorkflowFailed
from perdure.model.states import Status
from tests.kafka.namespace import ROOT, Namespace, wait_until

APP = ROOT / "tests/kafka/apps/sealed.py"
SECRET = "secret-4111"


@contextmanager
def processes(namespace: Namespace, place: Path, *names: str) -> Generator[None]:
    where = ["--kafka", namespace.bootstrap, "--namespace", namespace.name]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            state = ["--state-dir", str(place / "state")] if name == "engine" else []
            command = [sys.executable, "-m", "perdure.cli", name, "app.py", *where, *state]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            started.append(subprocess.Popen(command, cwd=place, env=environment))
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def keys(place: Path, **known: int) -> None:
    (place / "keys.new").write_text(json.dumps(known))
    (place / "keys.new").rename(place / "keys.json")


def everything(namespace: Namespace) -> bytes:
    """All that the topics of the namespace hold."""
    settings = {"bootstrap.servers": namespace.bootstrap, "group.id": "looks", "enable.auto.commit": False}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    found: list[bytes] = []
    try:
        topics = consumer.list_topics(timeout=10).topics
        for name, topic in topics.items():
            if not name.startswith(f"{namespace.name}."):
                continue
            for number in topic.partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(name, number), timeout=10)
                consumer.assign([TopicPartition(name, number, low)])
                while low < high and (record := consumer.poll(2.0)) is not None:
                    low = (record.offset() or 0) + 1
                    found += [record.key() or b"", record.value() or b""]
    finally:
        consumer.close()
    return b"\n".join(found)


def test_processes_on_kafka_share_the_codec_of_their_app_and_wait_for_a_lost_key(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(APP, tmp_path / "app.py")
    keys(tmp_path, k1=90)
    url = f"kafka://{namespace.bootstrap}/{namespace.name}"
    monkeypatch.setattr("tests.kafka.apps.sealed.PLACE", tmp_path)
    from perdure.app import App, LargePayloads
    from tests.kafka.apps import sealed

    app = App(sealed.FileKeys(), (), LargePayloads(f"file://{tmp_path / 'large'}", above_bytes=2_000))

    async def first() -> None:
        async with Client.connect(url, app=app) as client, asyncio.timeout(90):
            assert await client.execute("one", sealed.Order.process, SECRET) == f"charged {SECRET}"
            large = "secret " * 1_000
            assert await client.execute("large", sealed.Order.process, large) == f"charged {large}"
            with pytest.raises(WorkflowFailed, match="secret-stolen was declined"):
                await client.execute("bad", sealed.Order.process, "secret-stolen")
            await client.options(delay="2s").start("late", sealed.Order.process, SECRET)

    async def status(workflow_id: str) -> Status:
        async with Client.connect(url, app=app) as client:
            return (await client.state(workflow_id)).status

    async def then() -> None:
        async with Client.connect(url, app=app) as client, asyncio.timeout(90):
            assert "does not have the key 'k1' here" in (await client.state("late")).reason
            assert await client.execute("other", sealed.Order.process, "x") == "charged x"
            keys(tmp_path, k1=90, k2=7)
            assert await client.get("late", sealed.Order.process).result() == f"charged {SECRET}"

    with processes(namespace, tmp_path, "engine", "worker"):
        asyncio.run(first())
        keys(tmp_path, k2=7)
        wait_until(lambda: asyncio.run(status("late")) is Status.SUSPENDED, 60)
        asyncio.run(then())
    assert b"secret" not in everything(namespace)
    assert sorted(line.split()[1] for line in (tmp_path / "attempts").read_text().splitlines()) == [
        "bad", "large", "late", "one", "other",
    ]  # fmt: skip
