"""The Kafka clients of workers and of callers: no transactions, and no part in the engines'
group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.clients.transactional import MAX_POLL_INTERVAL_MS, MAX_RECORD_BYTES
from perdure.adapters.kafka.reachability import is_away, watched
from perdure.adapters.kafka.schema_registry.framing import Framing, producer_of
from perdure.adapters.kafka.settings import of_librdkafka

if TYPE_CHECKING:
    from confluent_kafka import Message

OnError = Callable[[str], None]
Delivered = Callable[[KafkaError | None, "Message"], None]
Committed = Callable[[KafkaError | None, list[Any]], None]


@dataclass(frozen=True, slots=True)
class PlainClients:
    """Makes the clients of one worker or caller.

    Attributes:
        namespace: prefix of the topics and of the workers' groups.
        name: of this process, for the broker's logs.
        settings: of librdkafka, for every client, checked (`settings.checked`): bootstrap.servers,
            security and what else is not ours.
        session_timeout_ms: after which the tasks of a silent worker are delivered to others.
        static_name: of a worker that keeps its partitions over a restart; empty: it does not.
        framing: of what is produced; off without a registry.
    """

    namespace: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_timeout_ms: int = 6_000
    static_name: str = ""
    framing: Framing = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "framing", Framing(self.namespace, self.settings))

    def is_away(self) -> bool:
        """Whether the cluster cannot be reached, and this process has said so."""
        return is_away(self.settings)

    def topic(self, part: str) -> str:
        """The name of a topic."""
        return f"{self.namespace}.{part}"

    def group_of(self, queue: str) -> str:
        """The consumer group of a queue's workers."""
        return f"{self.namespace}.worker.{queue}"

    def tasks(self, queue: str, on_error: OnError, on_commit: Committed) -> Consumer:
        """A member of the group of a queue's workers."""
        config: dict[str, Any] = {
            "group.id": self.group_of(queue),
            "session.timeout.ms": self.session_timeout_ms,
            "heartbeat.interval.ms": max(100, self.session_timeout_ms // 6),
            "partition.assignment.strategy": "cooperative-sticky",
            "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
            "fetch.wait.max.ms": 50,
            "queued.min.messages": 1_000,
            "on_commit": as_raised(on_commit),
        }
        if self.static_name:
            config["group.instance.id"] = f"{self.static_name}.{queue}"
        return Consumer(self._with_settings({**_READING, **config}, on_error))

    def tail(self, on_error: OnError, wait_ms: int = 100, isolation: str = "read_committed") -> Consumer:
        """A consumer of assigned partitions, outside any group.

        Args:
            on_error: receives errors as text.
            wait_ms: how long the broker waits for records; that an end was reached is known so much
                later.
            isolation: or read_uncommitted.
        """
        config: dict[str, Any] = {
            "group.id": f"{self.namespace}.tail",
            "fetch.wait.max.ms": wait_ms,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
        return Consumer(self._with_settings({**_READING, **config}, on_error))

    def projection(self, on_error: OnError, *, is_member: bool = True) -> Consumer:
        """A consumer of states and events for a projector, which sets the offsets itself.

        Partitions are shared by ranges, so that a member has the states and the events of a
        workflow.

        Args:
            on_error: receives errors as text.
            is_member: of the projectors' group; else it is assigned what it reads.
        """
        config: dict[str, Any] = {
            "group.id": f"{self.namespace}.projector" if is_member else f"{self.namespace}.tail",
            "session.timeout.ms": self.session_timeout_ms,
            "heartbeat.interval.ms": max(100, self.session_timeout_ms // 6),
            "partition.assignment.strategy": "range",
            "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "queued.min.messages": 20_000,
            "queued.max.messages.kbytes": 32 * 1024,
        }
        return Consumer(self._with_settings({**_READING, **config}, on_error))

    def engine_offsets(self, on_error: OnError) -> Consumer:
        """Of what the engines have committed; never a member of their group. Why no admin: see
        `EngineClients.offsets`.
        """
        config: dict[str, Any] = {
            "group.id": f"{self.namespace}.engine",
            "isolation.level": "read_uncommitted",
        }
        return Consumer(self._with_settings({**_READING, **config}, on_error))

    def queue_offsets(self, queue: str, on_error: OnError) -> Consumer:
        """Of what the workers of a queue have committed; never a member of their group."""
        return Consumer(self._with_settings({**_READING, "group.id": self.group_of(queue)}, on_error))

    def producer(self, on_error: OnError, on_delivery: Delivered) -> Producer:
        """Idempotent: what it retries is written once, in order."""
        config: dict[str, Any] = {
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "linger.ms": 0,
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
            "on_delivery": as_raised(on_delivery),
        }
        return producer_of(self._with_settings(config, on_error), self.framing)

    def admin(self, on_error: OnError) -> AdminClient:
        """To ask for offsets."""
        return AdminClient(self._with_settings({}, on_error))

    def _with_settings(self, config: dict[str, Any], on_error: OnError) -> dict[str, Any]:
        return {
            **of_librdkafka(self.settings),
            **config,
            **watched(self.settings, on_error),
            "client.id": f"{self.namespace}.{self.name}",
        }


_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "allow.auto.create.topics": False,
}
