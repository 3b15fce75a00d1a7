"""A namespace of topics of its own for a test: commands sent as another process would, and what
came of them, read from the topics."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.cimpl import NewTopic

from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.codec.avro import COMMANDS, DEAD_LETTERS, EVENTS, HEADER
from perdure.model.commands import AnyCommand, SignalWorkflow
from perdure.model.dead_letters import DeadLetter
from perdure.model.events import EventRecord, SignalReceived
from tests.kafka.tally import Tally, TallyStore

ROOT = Path(__file__).parents[2]
END_OF_PARTITION: Any = KafkaError._PARTITION_EOF
UNIQUE = itertools.count(1)


def signals(names: Sequence[str], workflows: int = 20, **fields: Any) -> list[AnyCommand]:
    """Each name once, over so many workflows."""
    return [SignalWorkflow(f"w-{i % workflows}", name=name, **fields) for i, name in enumerate(names)]


class Namespace:
    """Topics with a fresh prefix.

    Args:
        bootstrap: of the Kafka.
        partitions: of commands, events and state.
        settings: of the topics.
    """

    def __init__(self, bootstrap: str, partitions: int = 4, **settings: str) -> None:
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.sent: list[str] = []
        self._tallies: list[Tally] = []
        self.admin: Any = AdminClient({"bootstrap.servers": bootstrap})
        counts = {
            "commands": partitions,
            "events": partitions,
            "state": partitions,
            "streams": partitions,
            "replies": 2,
            "dead-letters": 1,
        }
        counts["tasks.default"] = 3
        counts["cancellations"] = counts["ingest"] = 1
        self.create({f"{self.name}.{topic}": count for topic, count in counts.items()}, settings)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 0, "enable.idempotence": True}
        )

    def create(self, topics: dict[str, int], settings: dict[str, str] | None = None) -> None:
        new = [NewTopic(topic, count, config=settings or {}) for topic, count in topics.items()]
        for created in self.admin.create_topics(new).values():
            created.result(30)

    def configure(self, topic: str, **settings: str) -> None:
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        resource = ConfigResource(
            ConfigResource.Type.TOPIC, f"{self.name}.{topic}", incremental_configs=entries
        )
        for changed in self.admin.incremental_alter_configs([resource]).values():
            changed.result(30)

    # ---- in

    def place_of(self, workflow_id: str) -> int:
        return partition_of(workflow_id.encode(), self.partitions)

    def send(self, commands: Sequence[AnyCommand]) -> None:
        """As other processes do, durably."""
        for command in commands:
            if isinstance(command, SignalWorkflow):
                self.sent.append(command.name)
            self.put(
                COMMANDS.encode(command),
                command.workflow_id,
                self.place_of(command.workflow_id),
                [COMMANDS.header],
            )
        assert self._producer.flush(120) == 0

    def send_numbers(self, count: int, workflows: int = 20) -> None:
        begin = len(self.sent)
        self.send(signals([f"{begin + i}" for i in range(count)], workflows))

    def put(
        self, value: bytes | None, key: Any, partition: int, headers: Any = None, topic: str = "commands"
    ) -> None:
        """Any record whatever."""
        self._producer.produce(f"{self.name}.{topic}", value, key, partition, headers=headers or [])
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    @contextmanager
    def load(self, every_s: float = 0.02, burst: int = 8) -> Generator[None]:
        """Commands all the time."""
        self._is_load_over = is_over = threading.Event()

        def run() -> None:
            while not is_over.wait(every_s):
                self.send_numbers(burst)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def stop_load(self) -> None:
        """No more; what was sent before is in the topic when `load` ends, or a moment later."""
        self._is_load_over.set()

    # ---- engines

    def clients(self, instance: str = "", **fields: Any) -> EngineClients:
        return EngineClients(
            self.name, instance or f"engine-{next(UNIQUE)}", {"bootstrap.servers": self.bootstrap}, **fields
        )

    def tally(self, instance: str = "", store: TallyStore | None = None, **fields: Any) -> Tally:
        """An engine in this process that has joined the group."""
        tally = Tally(self.clients(instance, **fields), store, self.said.append).open()
        self._tallies.append(tally)
        return tally

    @property
    def said(self) -> list[str]:
        """By all tallies."""
        found: list[str] = self.__dict__.setdefault("_said", [])
        return found

    def process(self, instance: str = "", **settings: Any) -> EngineProcess:
        return EngineProcess(self.bootstrap, self.name, instance or f"engine-{next(UNIQUE)}", settings)

    # ---- out

    def read(self, topic: str, *, isolation: str = "read_committed") -> list[Any]:
        """All records of a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.name}-audit",
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",  # of a topic that was trimmed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        try:
            name = f"{self.name}.{topic}"
            partitions = list(consumer.list_topics(name, 10).topics[name].partitions)
            consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
            found, ended = list[Any](), set[int]()
            while len(ended) < len(partitions):
                for message in consumer.consume(1000, 0.1):
                    error: Any = message.error()
                    if error is None:
                        found.append(message)
                    else:
                        assert error.code() == END_OF_PARTITION, error
                        ended.add(message.partition() or 0)
            return found
        finally:
            consumer.close()

    def events(self) -> list[tuple[int, EventRecord]]:
        """Partition and record."""
        found = self.read("events")
        return [
            (each.partition(), EVENTS.decode(each.value(), dict(each.headers())[HEADER])) for each in found
        ]

    def dead_letters(self) -> list[DeadLetter]:
        return [
            DEAD_LETTERS.decode(each.value(), dict(each.headers())[HEADER])
            for each in self.read("dead-letters")
        ]

    def committed(self) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.name}.engine"})
        wanted = [TopicPartition(f"{self.name}.commands", partition) for partition in range(self.partitions)]
        try:
            return {each.partition: each.offset for each in consumer.committed(wanted, timeout=10)}
        finally:
            consumer.close()

    def audit(self) -> Audit:
        """What became of every signal that was sent."""
        audit = Audit(Counter(self.sent))
        last: dict[str, int] = defaultdict(int)
        for partition, record in self.events():
            assert partition == self.place_of(record.workflow_id)
            if record.first_event_id != last[record.workflow_id] + 1:
                audit.gaps.append((record.workflow_id, last[record.workflow_id], record.first_event_id))
            last[record.workflow_id] = record.last_event_id
            audit.applied.update(event.name for event in record.events if isinstance(event, SignalReceived))
        return audit

    def until_applied(self, timeout_s: float = 40) -> None:
        """Wait until every signal sent so far has been applied."""
        wait_until(lambda: not self.audit().missing, timeout_s, lambda: self.audit().in_words)

    def until_applied_so_far(self, timeout_s: float = 40) -> None:
        """The same, of what has been sent by now."""
        sent = list(self.sent)
        wait_until(lambda: not set(sent) - set(self.audit().applied), timeout_s)

    def close(self) -> None:
        for tally in self._tallies:
            tally.close()


@dataclass
class Audit:
    """Signals by name."""

    sent: Counter[str]
    applied: Counter[str] = field(default_factory=Counter[str])
    gaps: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    @property
    def missing(self) -> list[str]:
        return sorted((self.sent - self.applied).elements())

    @property
    def twice(self) -> list[str]:
        return sorted((self.applied - self.sent).elements())

    @property
    def in_words(self) -> str:
        """For a failure's message."""
        missing = self.missing
        return (
            f"{len(missing)} of {self.sent.total()} are missing, from {missing[:3]} on; twice: "
            f"{self.twice}; gaps: {self.gaps}"
        )

    def assert_exactly_once(self) -> None:
        assert (self.missing, self.twice, self.gaps) == ([], [], []), f"of {self.sent.total()}"


class EngineProcess:
    """A tally in a process of its own, as `python -m tests.kafka.tally`; killed at the end of the
    block."""

    def __init__(self, bootstrap: str, namespace: str, instance: str, settings: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self._name = instance
        self._news = threading.Condition()
        options = [f"{name}={value}" for name, value in settings.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.tally", bootstrap, namespace, instance, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        print(f"engine {self._name} said:", *self.lines[-200:], sep="\n  ")  # shown when the test fails

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait_for(self, text: str, timeout_s: float = 60, count: int = 1) -> str:
        """The line that holds the text."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [line for line in self.lines if text in line]
                if len(found) >= count:
                    return found[count - 1]
                left_s = deadline - time.monotonic()
                assert left_s > 0, (text, self.lines)
                self._news.wait(min(left_s, 0.5))

    def owned(self) -> set[int]:
        """By what it said."""
        found: set[int] = set()
        for line in list(self.lines):
            told, _, rest = line.partition(" [")
            if told in {"gained", "lost"}:
                partitions = {int(each) for each in rest.partition("]")[0].split(", ")}
                found = found | partitions if told == "gained" else found - partitions
        return found

    def end(self) -> str:
        """SIGTERM; its last line."""
        self.signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.lines
        self._reader.join()
        return self.lines[-1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()


def wait_until(
    condition: Callable[[], bool], timeout_s: float = 30, show: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, show()
        threading.Event().wait(0.05)
