"""One record to a topic, durably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.reachability import watched
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.errors import InfrastructureError

ANSWER_S: Final = 30.0


def publish_record(
    settings: Mapping[str, Any],
    topic: str,
    key: bytes | None,
    value: bytes,
    headers: Sequence[tuple[str, bytes]],
) -> None:
    """Write it, with Java's partitioner.

    Args:
        settings: of librdkafka.
        topic: where to.
        key: of the record.
        value: of the record.
        headers: of the record.

    Raises:
        InfrastructureError: it was not written; the message says why.
    """
    faults: list[Any] = []
    producer = Producer(
        {
            **of_librdkafka(checked(settings)),
            "enable.idempotence": True,
            "partitioner": "murmur2",
            **watched(settings),
        }
    )
    try:
        producer.produce(
            topic,
            value,
            key,
            headers=list(headers),
            on_delivery=as_raised(lambda error, _: faults.append(error) if error else None),
        )
        left = producer.flush(ANSWER_S)
    except KafkaException as exception:
        raise InfrastructureError(f"{topic}: {in_words(error_of(exception))}") from None
    if left or faults:
        why = in_words(faults[0]) if faults else f"Kafka did not answer within {ANSWER_S:.0f} s"
        raise InfrastructureError(f"the record was not written to {topic}: {why}")
