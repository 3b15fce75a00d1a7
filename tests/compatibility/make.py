"""Writes the data that later releases must be able to open: `python -m tests.compatibility.make
DATE`.

It starts real processes: `perdure dev` on a file, then `perdure engine` and `perdure worker` on a
Kafka of its own. It brings the runs of `scenarios.py` to their states, and kills the processes.
This takes a minute. A folder that exists is never overwritten.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from perdure.adapters.kafka.clients.topic_identity import identity_of_events
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.status import Status
from perdure.client import Client
from perdure.codec.history import history_to_json
from perdure.engine.operator_log import to_stderr
from perdure.errors import InfrastructureError, WorkflowAlreadyStarted, WorkflowNotFound
from perdure.version import __version__
from tests.compatibility.going_on import asked, names_of
from tests.compatibility.release import (
    DATA,
    FILE,
    HISTORIES,
    RELEASE,
    STORE,
    TOPICS,
    WORKFLOWS,
    Left,
    Record,
    Release,
    Seen,
    Topic,
    Topics,
)
from tests.compatibility.scenarios import SCENARIOS, Scenario
from tests.compatibility.workflows import SHIPPED
from tests.kafka.broker import running

NAMESPACE: Final = "shop"
PARTITIONS: Final = 2
PATIENCE_S: Final = 60.0
SHORT_LIVED: Final = ("cancellations", "ingest", "replies")
"""Topics that `perdure topics mirror` leaves behind, too."""
END_OF_PARTITION: Any = KafkaError._PARTITION_EOF
TOPIC_CONFIGURATION: Final = 1
"""`DYNAMIC_TOPIC_CONFIG`, the source of what a topic was created with."""


class Processes:
    """Processes of perdure that serve the workflows.

    Args:
        folder: for their output, and the book.
        app: the workflows.
    """

    def __init__(self, folder: Path, app: Path) -> None:
        self.book = folder / "book"
        self.book.touch()
        self._output = folder / "output"
        self._app = app
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, command: str, *options: str) -> None:
        """Start `perdure COMMAND workflows.py …` with a version of the code."""
        environment = {**os.environ, "COMPATIBILITY_CODE": code, "COMPATIBILITY_BOOK": str(self.book)}
        whole = [sys.executable, "-m", "perdure.cli", command, str(self._app), *options]
        with self._output.open("ab") as output:
            self._running.append(subprocess.Popen(whole, env=environment, stdout=output, stderr=output))

    def kill(self) -> None:
        """SIGKILL, and their end."""
        for each in self._running:
            each.kill()
            each.wait()
        self._running.clear()

    def said(self) -> str:
        """The end of what they printed."""
        return self._output.read_text(errors="replace")[-3000:]


class Recording:
    """Brings the scenarios to their states on one medium.

    Args:
        url: of the platform.
        serve: starts the processes with a version of the code.
        processes: those.
    """

    def __init__(self, url: str, serve: Callable[[str], None], processes: Processes) -> None:
        self._url = url
        self._serve = serve
        self._processes = processes
        self._run_ids: dict[str, list[str]] = {}

    async def left(self) -> tuple[Left, dict[str, str]]:
        """All that was left, and the histories, by file name."""
        first = [each for each in SCENARIOS if not each.is_last]
        self._serve("before")
        async with self._connected() as client:
            for scenario in first:
                await self._begin(client, scenario)
            for scenario in first:
                if "WorkflowSuspended" not in scenario.reached:
                    await self._reached(client, scenario.id, scenario.reached)
        self._processes.kill()
        self._serve("changed")
        async with self._connected() as client:
            for scenario in first:
                await self._reached(client, scenario.id, scenario.reached)
            for scenario in SCENARIOS:
                if scenario.is_last:
                    await self._begin(client, scenario)
                    await self._reached(client, scenario.id, scenario.reached)
            seen = await self._seen(client)
            self._processes.kill()
            for scenario in SCENARIOS:
                for ask in scenario.unread:
                    with contextlib.suppress(TimeoutError):  # nobody answers
                        await asyncio.wait_for(asked(client, scenario.id, ask), 2)
        return seen

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Client]:
        async with await self._client() as client:
            yield client

    async def _client(self) -> Client:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await Client.connect(self._url)
            except InfrastructureError as error:  # it is about to start
                if time.monotonic() > deadline:
                    raise RuntimeError(self._processes.said()) from error
                await asyncio.sleep(0.1)

    async def _begin(self, client: Client, scenario: Scenario) -> None:
        async def start() -> bool:
            with contextlib.suppress(WorkflowAlreadyStarted):  # while the run before has not ended
                starter = client.options(**scenario.options)
                handle = await starter.start_by_name(scenario.id, scenario.type, scenario.args)
                self._run_ids.setdefault(scenario.id, []).append(handle.run_id)
                return True
            return False

        await self._until(start, f"{scenario.id} starts")
        if scenario.before:
            await self._reached(client, scenario.id, scenario.before)
        for ask in scenario.asks:
            if ask == ["start again"]:
                await self._until(start, f"{scenario.id} starts again")
            else:
                await asked(client, scenario.id, ask)

    async def _reached(self, client: Client, workflow_id: str, wanted: Mapping[str, int]) -> None:
        async def has() -> bool:
            try:
                found = Counter(names_of(await client.history(workflow_id)))
            except WorkflowNotFound:
                return False
            return all(found[name] >= count for name, count in wanted.items())

        await self._until(has, f"{workflow_id} has {wanted}")

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await condition():
            assert time.monotonic() < deadline, f"{what}: not in {PATIENCE_S:.0f} s\n{self._processes.said()}"
            await asyncio.sleep(0.05)

    async def _seen(self, client: Client) -> tuple[Left, dict[str, str]]:
        runs: dict[str, list[Seen]] = {}
        statuses: dict[str, str] = {}
        histories: dict[str, str] = {}
        for scenario in SCENARIOS:
            description = await client.describe(scenario.id)
            statuses[scenario.id] = str(description.status)
            assert statuses[scenario.id] == scenario.status, (scenario.id, description)
            for number, run_id in enumerate(self._run_ids[scenario.id], 1):
                records = await client.history(scenario.id, run_id)
                is_current = run_id == description.run_id
                seen = Seen(run_id, names_of(records), description.view if is_current else None)
                runs.setdefault(scenario.id, []).append(seen)
                name = scenario.id if is_current else f"{scenario.id}-{number}"
                histories[f"{name}.json"] = history_to_json(records)
        book = sorted(self._processes.book.read_text().splitlines())
        return Left(time.time_ns() // 1_000, runs, statuses, book), histories


# ---- the media


def record_file(folder: Path, app: Path, to: Path) -> Left:
    """A `perdure dev` on a file."""
    processes = Processes(folder, app)
    file = folder / "shop.db"

    def serve(code: str) -> None:
        processes.start(code, "dev", "--db", f"sqlite:///{file}", "--no-reload", "--api-port", "0")

    try:
        left, histories = asyncio.run(Recording(f"sqlite:///{file}", serve, processes).left())
    finally:
        processes.kill()
    whole = folder / "whole.db"  # one file, write-ahead log included: see docs/howto/backup-and-restore.md
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', sys.argv[2:])",
            file,
            whole,
        ],
        check=True,
    )
    (to / FILE).write_bytes(gzip.compress(whole.read_bytes(), mtime=0))
    with zipfile.ZipFile(to / HISTORIES, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in histories.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return left


def record_topics(folder: Path, app: Path, to: Path) -> Left:
    """An engine and a worker on a Kafka. No worker serves the queue `warehouse`."""
    processes = Processes(folder, app)
    state = folder / "state"
    with running() as cluster:
        where = ("--kafka", cluster.bootstrap, "--namespace", NAMESPACE)
        admin: Any = AdminClient({"bootstrap.servers": cluster.bootstrap})
        _make_topics(admin, where)

        def serve(code: str) -> None:
            processes.start(code, "engine", *where, "--state-dir", str(state), "--instance", "engine-0")
            processes.start(code, "worker", *where, "--queue", "default")

        try:
            recording = Recording(f"kafka://{cluster.bootstrap}/{NAMESPACE}", serve, processes)
            left, _ = asyncio.run(recording.left())
        finally:
            processes.kill()
        clients = EngineClients(NAMESPACE, "make", {"bootstrap.servers": cluster.bootstrap})
        identity = identity_of_events(clients, Status(to_stderr), _never)
        topics = dumped(cluster.bootstrap, admin, identity)
    (to / TOPICS).write_bytes(gzip.compress(msgspec.json.encode(topics), mtime=0))
    _pack_store(state / NAMESPACE, to / STORE)
    return left


def _never(_: float) -> bool:
    return False


def _make_topics(admin: Any, where: tuple[str, ...]) -> None:
    queues = ("--queue", "default", "--queue", "warehouse")
    command = [sys.executable, "-m", "perdure.cli", "topics", "apply", *where, *queues]
    subprocess.run([*command, "--partitions", str(PARTITIONS)], check=True)
    admin.create_topics([NewTopic(SHIPPED, 1)])[SHIPPED].result(30)


def dumped(bootstrap: str, admin: Any, identity: str) -> Topics:
    """All topics and what was committed."""
    names = sorted(name for name in admin.list_topics(timeout=30).topics if not name.startswith("__"))
    own = {name.removeprefix(f"{NAMESPACE}."): name for name in names if name.startswith(f"{NAMESPACE}.")}
    others = [name for name in names if name not in own.values()]
    committed: dict[str, dict[str, dict[int, int]]] = {}
    groups = [each.group_id for each in admin.list_consumer_groups(request_timeout=30).result(30).valid]
    for group in groups:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = admin.list_consumer_group_offsets(asked, request_timeout=30)[group].result(30)
        for each in found.topic_partitions:
            if group.startswith(f"{NAMESPACE}.") and each.offset >= 0:
                parts = committed.setdefault(group.removeprefix(f"{NAMESPACE}."), {})
                parts.setdefault(each.topic.removeprefix(f"{NAMESPACE}."), {})[each.partition] = each.offset
    kept = {part: name for part, name in own.items() if part not in SHORT_LIVED}
    return Topics(
        identity,
        {part: _topic(bootstrap, admin, name) for part, name in kept.items()},
        {name: _topic(bootstrap, admin, name) for name in others},
        committed,
    )


def _topic(bootstrap: str, admin: Any, name: str) -> Topic:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    described = admin.describe_configs([resource], request_timeout=30)[resource].result(30)
    own = {key: entry.value for key, entry in described.items() if entry.source == TOPIC_CONFIGURATION}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "make",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = sorted(consumer.list_topics(name, 30).topics[name].partitions)
        ends = [consumer.get_watermark_offsets(TopicPartition(name, number), 30)[1] for number in partitions]
        consumer.assign([TopicPartition(name, number, 0) for number in partitions])
        records = sorted(_records(consumer, len(partitions)), key=lambda each: (each.partition, each.offset))
        return Topic(own, ends, records)
    finally:
        consumer.close()


def _records(consumer: Consumer, partitions: int) -> Iterator[Record]:
    ended: set[int] = set()
    while len(ended) < partitions:
        for each in consumer.consume(1_000, 0.2):
            error: Any = each.error()
            partition = each.partition() or 0
            if error is None:
                headers: Any = each.headers() or []
                key: Any = each.key()
                value: Any = each.value()
                yield Record(partition, each.offset() or 0, each.timestamp()[1], key, value, list(headers))
            else:
                assert error.code() == END_OF_PARTITION, error
                ended.add(partition)


def _pack_store(directory: Path, to: Path) -> None:
    """Without RocksDB's logs for people."""

    def packed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name.startswith(("LOG", "LOCK")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for entry in sorted(directory.iterdir()):
            archive.add(entry, entry.name, filter=packed)
    to.write_bytes(gzip.compress(whole.getvalue(), mtime=0))


def main() -> None:
    """Write the folder; nothing is left of it when something fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility.make", description=__doc__)
    parser.add_argument("name", metavar="DATE", help="the date of the release, such as 2026-11-30")
    to = DATA / parser.parse_args().name
    assert not to.exists(), f"{to} is there, and stays as it is"
    with tempfile.TemporaryDirectory(prefix="perdure-compatibility-") as made:
        work = Path(made)
        whole = work / "whole"
        whole.mkdir()
        shutil.copy(Path(__file__).parent / WORKFLOWS, whole / WORKFLOWS)
        media: list[Left] = []
        for medium, record in (("file", record_file), ("topics", record_topics)):
            folder = work / medium
            folder.mkdir()
            media.append(record(folder, whole / WORKFLOWS, whole))
            print(f"{medium}: {len(media[-1].runs)} workflows", flush=True)
        shutil.rmtree(whole / "__pycache__", ignore_errors=True)
        code = hashlib.sha256((whole / WORKFLOWS).read_bytes()).hexdigest()
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        release = Release(__version__, python, code, list(SCENARIOS), media[0], media[1])
        (whole / RELEASE).write_bytes(msgspec.json.format(msgspec.json.encode(release)) + b"\n")
        shutil.copytree(whole, to)
    print(f"{to}: {sum(each.stat().st_size for each in to.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
