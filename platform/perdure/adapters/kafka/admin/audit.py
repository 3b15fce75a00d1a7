"""The audit trail of a namespace: `ports.audit.AuditTrail` on `<namespace>.audit`, JSON on one
partition.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.topics import AUDIT, name_of
from perdure.adapters.kafka.reachability import watched
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.errors import InfrastructureError
from perdure.ports.audit import AuditEntry, StoredEntry, encode_entry, read_entry

ANSWER_S: Final = 10.0


class KafkaAuditTrail:
    """Entries are durable when all replicas in sync have them.

    Args:
        namespace: the prefix of its topics.
        settings: of librdkafka: `bootstrap.servers`, security and what else is not ours.

    Raises:
        UsageError: a setting is ours, or the namespace cannot be part of a topic's name.
    """

    def __init__(self, namespace: str, settings: Mapping[str, object]) -> None:
        self._topic = name_of(namespace, AUDIT)
        self._settings: dict[str, Any] = {
            **of_librdkafka(checked(settings)),
            **watched(settings),
            "client.id": f"{namespace}.audit",
        }
        self._lock = Lock()
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Write all entries; if one fails, others may still be durable."""
        faults: list[KafkaError] = []
        waiting = len(entries)

        def delivered(error: KafkaError | None, _record: object) -> None:
            nonlocal waiting
            waiting -= 1
            if error is not None:
                faults.append(error)

        told = as_raised(delivered)
        with self._lock:
            try:
                producer = self._producer = self._producer or Producer({**self._settings, **_WRITING})
                for entry in entries:
                    producer.produce(self._topic, encode_entry(entry), None, 0, on_delivery=told)
                until = time.monotonic() + ANSWER_S
                while waiting and (left_s := until - time.monotonic()) > 0:
                    producer.poll(left_s)
            except (KafkaException, BufferError) as exception:
                raise InfrastructureError(f"the audit trail cannot be written: {_said(exception)}") from None
        if waiting or faults:
            why = in_words(faults[0]) if faults else f"Kafka did not take it within {ANSWER_S:.0f} s"
            raise InfrastructureError(f"the audit trail, {self._topic}, cannot be written: {why}")

    def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """The latest entries, newest first; `number` is the offset."""
        with self._lock:
            try:
                self._consumer = self._consumer or Consumer(
                    {**self._settings, **_READING, "group.id": self._topic}
                )
                low, high = self._ends(self._consumer)
                end = min(high, before) if before is not None else high
                return self._read(self._consumer, max(low, end - limit), end)[::-1]
            except KafkaException as exception:
                raise InfrastructureError(
                    f"the audit trail, {self._topic}, cannot be read: {_said(exception)}; create it with "
                    "`perdure topics apply`"
                ) from None

    def _ends(self, consumer: Consumer) -> tuple[int, int]:
        until = time.monotonic() + ANSWER_S
        while True:
            try:
                return consumer.get_watermark_offsets(TopicPartition(self._topic, 0), ANSWER_S)
            except KafkaException as exception:  # a topic that has just been made has no leader for a moment
                if (
                    exception.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION
                    or time.monotonic() > until
                ):
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        """Close the clients."""
        with self._lock:
            if self._producer is not None:
                self._producer.flush(ANSWER_S)
                self._producer = None
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None

    def _read(self, consumer: Consumer, first: int, end: int) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        if first >= end:
            return found
        consumer.assign([TopicPartition(self._topic, 0, first)])
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            record: Any = consumer.poll(ANSWER_S)
            if record is None:
                break
            if (error := record.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  so named by the client
                    return found
                raise KafkaException(error)
            if record.offset() < end:
                found.append(StoredEntry(record.offset(), read_entry(record.value() or b"")))
            if record.offset() >= end - 1:
                return found
        raise InfrastructureError(
            f"the audit trail, {self._topic}, could not be read within {ANSWER_S:.0f} s"
        )


def _said(exception: KafkaException | BufferError) -> str:
    return in_words(error_of(exception)) if isinstance(exception, KafkaException) else str(exception)


_WRITING: Final[dict[str, Any]] = {
    "enable.idempotence": True,
    "linger.ms": 0,
    "message.timeout.ms": int(ANSWER_S * 1_000),
    "topic.metadata.propagation.max.ms": 2_000,
    "allow.auto.create.topics": False,
}
_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    "allow.auto.create.topics": False,
}
