"""Your topics, which workflow code writes to: a missing topic, or one that rejects records, must
not block a partition.

What cannot be stored in its topic has to be known before a transaction begins. So a delivery that
fails aborts its transaction once; when the batch is done again, records for that topic are dead
letters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from perdure.adapters.kafka.error_classes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.adapters.kafka.namespace.layout import Layout

REFUSED_FOR_S: Final = 30.0
"""A topic that has refused a record is tried again after this time, seconds."""

NO_TOPIC: Final = "no_topic"
FORBIDDEN: Final = "forbidden"
REFUSED: Final = "refused"
"""Reason of a dead letter: the topic rejected the record."""

REFUSALS: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)
"""Errors about the topic and the record, not about the broker or the transaction."""


class AuthorRecords:
    """Known faults of your topics.

    Args:
        layout: asks the broker.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._counts: dict[str, int] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        self._turn = 0

    def prepare(self, topics: Iterable[str]) -> None:
        """Before a transaction: find the topics that it concerns."""
        self._turn += 1
        for topic in topics:
            self._counts[topic] = 0 if self._layout.is_ours(topic) else self._layout.count_of(topic)

    def fault_of(self, topic: str) -> tuple[str, str] | None:
        """Why a record cannot be written there: a code, and a message."""
        if not self._counts.get(topic):
            if self._layout.is_ours(topic):
                return FORBIDDEN, "this topic belongs to perdure: workflow code may not write to it"
            return NO_TOPIC, "no such topic: create it, then `perdure dead-letters retry`"
        if topic in self._refused:
            since, why = self._refused[topic]
            if time.monotonic() - since < REFUSED_FOR_S:
                return (
                    REFUSED,
                    f"its topic rejects records ({why}): fix that, then `perdure dead-letters retry`",
                )
            del self._refused[topic]
        return None

    def any_partition(self, topic: str) -> int:
        """One for records without a key, the same for a transaction: it touches few partitions."""
        return self._turn % self._counts[topic]

    def on_delivered(self, error: KafkaError | None, record: Any) -> None:
        """Of a record: it was delivered, or why not."""
        if error is not None and error.code() in REFUSALS:
            self._refused[record.topic()] = (time.monotonic(), in_words(error))
