from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.kafka.namespace.partitioner import murmur2, partition_of

COUNT = 7
KEYS = [
    *(b"" + bytes(range(length)) for length in range(1, 40)),
    *(f"order-{number}".encode() for number in range(200)),
    *(bytes([high, 0, high]) for high in (0x7F, 0x80, 0xFF)),
    "bestellung-ä-€-😀".encode(),
    b"x" * 255,
]


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(data: bytes, signed: int) -> None:
    """The vectors are those of Kafka's own UtilsTest."""
    assert murmur2(data) == signed % 2**32


@given(st.binary(max_size=50), st.integers(1, 5000))
def test_a_partition_is_one_of_the_topics(key: bytes, count: int) -> None:
    assert 0 <= partition_of(key, count) < count


@pytest.mark.parametrize("partitioner", ["murmur2", "murmur2_random"])
def test_every_key_is_on_the_partition_that_librdkafka_chooses(kafka: str, partitioner: str) -> None:
    topic = f"partitioner-{partitioner}"
    admin: Any = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, COUNT)])[topic].result(30)
    found: dict[bytes, int] = {}

    def delivered(error: object, message: Message) -> None:
        key, partition = message.key(), message.partition()
        assert error is None
        assert isinstance(key, bytes)
        assert partition is not None
        found[key] = partition

    producer = Producer({"bootstrap.servers": kafka, "partitioner": partitioner})
    for key in KEYS:
        producer.produce(topic, b"", key, on_delivery=delivered)
    assert producer.flush(30) == 0
    assert found == {key: partition_of(key, COUNT) for key in KEYS}
    assert set(found.values()) == set(range(COUNT))
