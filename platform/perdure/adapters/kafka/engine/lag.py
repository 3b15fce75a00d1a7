"""Lag of an engine behind its partitions' ends."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Consumer


def lag_of(
    consumer: Consumer, topic: str, partitions: Collection[int], last_offset: Callable[[int], int]
) -> dict[int, int]:
    """Records after the last taken command, by partition, from the client's fetch state: no broker
    is asked.

    A transaction's markers count as records; they go with the next command.

    Args:
        consumer: of the topic.
        topic: of commands.
        partitions: that are owned.
        last_offset: of the last command taken from a partition.
    """
    lag: dict[int, int] = {}
    for partition in partitions:
        try:
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        except KafkaException:
            continue
        if high >= 0:  # known
            lag[partition] = max(0, high - last_offset(partition) - 1)
    return lag
