"""The Kafka clients of an engine, and the settings of librdkafka that are ours because exactly-once
rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from perdure.adapters.kafka.reachability import is_away, watched
from perdure.adapters.kafka.schema_registry.framing import Framing, producer_of
from perdure.adapters.kafka.settings import checked, of_librdkafka

MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
HEARTBEAT_MS: Final = 300
"""A member learns of a rebalance with its next heartbeat: at most this late when a peer leaves."""

MAX_POLL_INTERVAL_MS: Final = 300_000
"""Longer than any commit, which is repeated until its outcome is known (12 s when a broker failed),
without a poll.
"""


@dataclass(frozen=True, slots=True)
class EngineClients:
    """Creates the clients of one engine.

    Attributes:
        namespace: prefix of the topics, and of the group and the transactional ids.
        instance: names this engine; unique among running processes.
        settings: of librdkafka, for every client: bootstrap.servers, security and what else is not
            ours; and of a schema registry.
        protocol: of the group; `consumer` is KIP-848.
        is_static: whether the member keeps its partitions over a restart under the same name.
        session_timeout_ms: after which a silent engine loses its partitions (classic protocol).
        transaction_timeout_ms: above any failover of a broker; a dead owner is fenced, not waited
            for.
        framing: of what is produced; off without a registry.
    """

    namespace: str
    instance: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _: KW_ONLY
    protocol: Literal["classic", "consumer"] = "classic"
    is_static: bool = False
    session_timeout_ms: int = 6_000
    transaction_timeout_ms: int = 45_000
    framing: Framing = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "framing", Framing(self.namespace, checked(self.settings)))

    def is_away(self) -> bool:
        """Whether the cluster cannot be reached, and this process has said so."""
        return is_away(self.settings)

    @property
    def group(self) -> str:
        """The engines' consumer group."""
        return f"{self.namespace}.engine"

    @property
    def transactional_id(self) -> str:
        """Of this engine; also its id as an owner, in the metadata of committed offsets."""
        return f"{self.namespace}.{self.instance}"

    def consumer(self, on_error: Callable[[str], None]) -> Consumer:
        """Of commands, a member of the group."""
        config: dict[str, Any] = {
            **self._reading(),
            "group.id": self.group,
            "group.protocol": self.protocol,
            "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
            "fetch.wait.max.ms": 50,
            "queued.min.messages": 10_000,
            "queued.max.messages.kbytes": 32 * 1024,
        }
        if self.protocol == "classic":
            config["session.timeout.ms"] = self.session_timeout_ms
            config["heartbeat.interval.ms"] = min(HEARTBEAT_MS, self.session_timeout_ms // 3)
            config["partition.assignment.strategy"] = "cooperative-sticky"
        if self.is_static:
            config["group.instance.id"] = self.instance
        return Consumer(self._with_settings(config, on_error))

    def foreign_consumer(self, group: str, on_error: Callable[[str], None]) -> Consumer:
        """A consumer of other systems' topics, in a separate group.

        Args:
            group: its name.
            on_error: receives errors as text.
        """
        config = {
            **self._reading(),
            "group.id": group,
            "topic.metadata.refresh.interval.ms": 1_000,  # so that a new topic is found soon
            "session.timeout.ms": self.session_timeout_ms,
            "heartbeat.interval.ms": min(HEARTBEAT_MS, self.session_timeout_ms // 3),
            "partition.assignment.strategy": "cooperative-sticky",
            "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
            "fetch.wait.max.ms": 50,
        }
        return Consumer(self._with_settings(config, on_error))

    def reader(self, on_error: Callable[[str], None]) -> Consumer:
        """Of events and of committed offsets; never a member of the group."""
        config = {
            **self._reading(),
            "group.id": self.group,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
        }
        return Consumer(self._with_settings(config, on_error))

    def offsets(self, on_error: Callable[[str], None], group: str = "") -> Consumer:
        """A consumer for reading committed offsets, without waiting for open transactions; never a
        member of the group.

        Args:
            on_error: receives errors as text.
            group: whose; the engines' by default.

        `AdminClient.list_consumer_group_offsets` would say the same, and ends the whole process
        when the coordinator moves while it is
        asked: an assertion of librdkafka's, https://github.com/confluentinc/librdkafka/issues/3663
            and 4605.
        """
        return Consumer(
            self._with_settings(
                {**self._reading(), "group.id": group or self.group, "isolation.level": "read_uncommitted"},
                on_error,
            )
        )

    def producer(self, on_error: Callable[[str], None], transactional_id: str = "") -> Producer:
        """Transactional; `init_transactions` fences the producer that had the id before."""
        config: dict[str, Any] = {
            "transactional.id": transactional_id or self.transactional_id,
            "transaction.timeout.ms": self.transaction_timeout_ms,
            "partitioner": "murmur2",
            "linger.ms": 0,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 5,
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
        }
        return producer_of(self._with_settings(config, on_error), self.framing)

    def admin(self, on_error: Callable[[str], None]) -> AdminClient:
        """To ask where partitions begin and end."""
        return AdminClient(self._with_settings({}, on_error))

    def _reading(self) -> dict[str, Any]:
        return {
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "allow.auto.create.topics": False,
        }

    def _with_settings(self, config: dict[str, Any], on_error: Callable[[str], None]) -> dict[str, Any]:
        return {
            **of_librdkafka(self.settings),
            **config,
            **watched(self.settings, on_error),
            "client.id": f"{self.namespace}.{self.instance}",
        }
