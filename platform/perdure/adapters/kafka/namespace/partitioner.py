"""The partition of a key: exactly as Kafka's Java clients, and librdkafka with
`partitioner=murmur2`, compute it.
"""

from __future__ import annotations

import struct
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key: `toPositive(murmur2(key)) % count` of
    `org.apache.kafka.clients.producer.internals.BuiltInPartitioner`.

    Args:
        key: as it is on the wire.
        count: of the topic's partitions.
    """
    return (murmur2(key) & 0x7FFFFFFF) % count


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, 32 bits, not negative
    (`org.apache.kafka.common.utils.Utils.murmur2` is the same, signed).
    """
    size = len(data)
    whole = size & ~3
    h = _SEED ^ size
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        k = k * _M & _32_BITS  # noqa: PLW2901  as the algorithm is written
        h = h * _M & _32_BITS ^ (k ^ k >> 24) * _M & _32_BITS
    if whole != size:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _32_BITS
    h = (h ^ h >> 13) * _M & _32_BITS
    return h ^ h >> 15
