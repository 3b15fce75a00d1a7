"""Gives records to Kafka's producer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.kafka.callbacks import as_raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Producer

FULL_S: Final = 0.01
"""How long to wait for room in the client's queue at a time, seconds."""


def produce(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: str | bytes | None,
    partition: int,
    headers: Any,
    on_delivered: Callable[[KafkaError | None, Any], None] | None = None,
) -> None:
    """Give the client a record; waits while its queue is full."""
    told = None if on_delivered is None else as_raised(on_delivered)
    while True:
        try:
            producer.produce(topic, value, key, partition, on_delivery=told, headers=headers)
        except BufferError:
            producer.poll(FULL_S)
        else:
            return
