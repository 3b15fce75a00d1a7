"""Workers on a real broker, given tasks by hand, and what they report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition
from msgspec import json
from msgspec.structs import replace

from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.codec.avro import CANCELLATIONS, COMMANDS, HEADER, TASKS
from perdure.distributed import KafkaPlatform, Place, WorkerOptions
from perdure.model.tasks import Cancellation, Task
from perdure.registry import Registry
from tests.kafka.apps import labour
from tests.kafka.namespace import Namespace

ROOT = Path(__file__).parents[2]
APP = "tests/kafka/apps/labour.py"
C = TypeVar("C")


@dataclass
class Labour:
    """A namespace with a queue."""

    namespace: Namespace
    book: Path
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    def give(
        self,
        name: str,
        seconds: float = 0.0,
        partition: int = 0,
        *,
        token: str = "",
        reports_stop: bool = False,
    ) -> str:
        """A task; its token."""
        token = self.tokens[name] = token or uuid4().hex
        arguments = json.encode([name, seconds])
        task = Task(f"w-{name}", "run", 1, 1, token, "work", "default", arguments, 60_000_000, "key", 0)
        task = replace(task, reports_stop=reports_stop)
        self.namespace.put(TASKS.encode(task), None, partition, [TASKS.header], "tasks.default")
        self.namespace.flush()
        return token

    def cancel(self, token: str) -> None:
        value = CANCELLATIONS.encode(Cancellation((token,)))
        self.namespace.put(value, None, 0, [CANCELLATIONS.header], "cancellations")
        self.namespace.flush()

    def worker(self, concurrency: int = 100) -> KafkaPlatform:
        registry = Registry.of(activities=[labour.work])
        return KafkaPlatform(registry, self.place, worker=WorkerOptions(concurrency=concurrency))

    def process(self) -> subprocess.Popen[bytes]:
        """`perdure worker`, as a user starts it."""
        command = [sys.executable, "-m", "perdure.cli", "worker", APP]
        where = [
            "--kafka",
            self.namespace.bootstrap,
            "--namespace",
            self.namespace.name,
            "--session-timeout-ms",
            "6000",
        ]
        return subprocess.Popen([*command, *where], cwd=ROOT, env={**os.environ, "LABOUR": str(self.book)})

    @property
    def place(self) -> Place:
        return Place(self.namespace.name, {"bootstrap.servers": self.namespace.bootstrap})

    # ---- what came of it

    def noted(self, what: str) -> Counter[str]:
        lines = self.book.read_text().splitlines() if self.book.exists() else []
        return Counter(line.split()[1] for line in lines if line.split()[0] == what)

    def reports(self, kind: type[C]) -> list[C]:
        found = [
            COMMANDS.decode(each.value(), dict(each.headers())[HEADER])
            for each in self.namespace.read("commands")
        ]
        return [command for command in found if isinstance(command, kind)]

    def committed(self, partition: int = 0) -> int:
        config: Any = {"bootstrap.servers": self.namespace.bootstrap}
        group = PlainClients(self.namespace.name, "", {}).group_of("default")
        consumer = Consumer({**config, "group.id": group})
        try:
            return consumer.committed(
                [TopicPartition(f"{self.namespace.name}.tasks.default", partition)], timeout=10
            )[0].offset
        finally:
            consumer.close()


def until(condition: Any, what: str, patience_s: float = 40.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
