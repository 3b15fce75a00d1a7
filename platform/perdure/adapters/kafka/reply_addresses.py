"""Where a reply goes on Kafka: to a partition of `<namespace>.replies` that the caller tails."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from perdure.model.dead_letters import number_of
from perdure.ports.addresses import ADDRESS_BYTES

_KAFKA: Final = "kafka:"


def caller_address(partition: int) -> str:
    """A fresh address of a caller that tails the partition; the record's key is the address."""
    return f"{_KAFKA}{partition}:{uuid4().hex}"


def partition_of_caller(address: str) -> int | None:
    """The partition in an address; None when it is not one of these, or does not parse."""
    if not address.startswith(_KAFKA) or not address.isascii() or len(address) > ADDRESS_BYTES:
        return None
    return number_of(address[len(_KAFKA) :].partition(":")[0], 2**31)
