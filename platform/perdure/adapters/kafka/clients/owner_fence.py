"""First offsets of a group's partitions, and the fence against a stuck previous owner.

An owner that dies within a transaction leaves the transaction open, and the broker looks for such
ones every 10 s only. Until then its partitions' committed offsets are pending and cannot be read.
So every owner writes its transactional id into the metadata of the offsets it commits, and a new
owner ends the open transaction itself: a producer that is initialised with that id fences the old
one. An owner whose transactions end is never fenced: in a planned move it is alive, and serves
other partitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.partition_state import Place
    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status

PENDING: Final = frozenset({KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT})  # noqa: SLF001 - its public name
"""How the client reports committed offsets that an open transaction holds."""

STUCK_AFTER_S: Final = 0.3
"""An owner whose transaction has not ended after this time is stuck, seconds."""

REQUEST_TIMEOUT_S: Final = 10.0
FENCE_TIMEOUT_S: Final = 30.0
RETRY_AFTER_S: Final = 0.02


def no_place(_places: Collection[Place]) -> set[Place]:
    """The `places` of owners that write only offsets."""
    return set()


class OwnerFence:
    """Reads committed offsets, and fences the owners that block them. For one thread.

    Args:
        clients: makes Kafka clients.
        status: counts fenced owners, and reports them.
        group: the group of the offsets; empty: the engines'.
        role: of the owners, in messages.
    """

    def __init__(
        self, clients: EngineClients, status: Status, group: str = "", *, role: str = "engine"
    ) -> None:
        self._clients = clients
        self._status = status
        self._group = group
        self._role = role
        self._offsets: Consumer | None = None

    def stable_offsets(
        self,
        reader: Consumer,
        places: Collection[Place],
        hidden: Callable[[Collection[Place]], set[Place]] = no_place,
    ) -> dict[Place, int]:
        """The committed offsets, once no transaction is open on them: -1 where there is none.

        Args:
            reader: a consumer of the group's offsets.
            places: the partitions.
            hidden: those of them where records of an open transaction hide what follows.

        Raises:
            KafkaException: the broker gives no answer. That says nothing about any owner: ask
                again.
        """
        offsets = self._unless_pending(reader, places, STUCK_AFTER_S)
        stuck = hidden(places)
        if offsets is not None and not stuck:
            return offsets
        if offsets is None:  # Which partitions does it block? The owners of the others may be alive.
            stuck |= {
                each for each in places if self._unless_pending(reader, [each], STUCK_AFTER_S / 3) is None
            }
        for owner in sorted(set(self.owners(stuck).values())):
            self._fence(owner)
        return committed(reader, places, REQUEST_TIMEOUT_S)

    def owners(self, places: Collection[Place]) -> dict[Place, str]:
        """Previous owner of each partition, by the id written with its offset; omitted where that
        is our own.

        Of a consumer that does not wait for open transactions: their offsets, and the ids in them,
        are not there yet. That loses nothing, for an owner commits its id alone, in a claim, before
        it begins anything else.
        """
        if not places:
            return {}
        if self._offsets is None:
            self._offsets = self._clients.offsets(self._on_error, self._group)
        found: list[Any] = self._offsets.committed(
            [TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_S
        )
        if errors := [each.error for each in found if each.error is not None]:
            raise KafkaException(errors[0])
        nobody = {None, "", self._clients.transactional_id}
        return {(each.topic, each.partition): each.metadata for each in found if each.metadata not in nobody}

    def close(self) -> None:
        """Close its clients. Idempotent."""
        offsets, self._offsets = self._offsets, None
        if offsets is not None:
            offsets.close()

    def _unless_pending(
        self, reader: Consumer, places: Collection[Place], timeout_s: float
    ) -> dict[Place, int] | None:
        """The committed offsets; None when an open transaction holds some of them."""
        try:
            return committed(reader, places, timeout_s)
        except KafkaException as exception:
            if error_of(exception).code() not in PENDING:
                raise
            return None

    def _fence(self, owner: str) -> None:
        """End the open transaction of an owner: the broker aborts it when another producer is
        initialised with its id.
        """
        self._status.report(f"{self._role} {owner} has left a transaction open; fencing it")
        self._status.counts.owners_fenced += 1
        self._clients.producer(self._on_error, owner).init_transactions(FENCE_TIMEOUT_S)

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def committed(reader: Consumer, places: Collection[Place], timeout_s: float) -> dict[Place, int]:
    """The committed offsets, -1 where there is none. Repeated to the deadline; an error never means
    that they have not moved.

    Raises:
        KafkaException: what was answered last.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            found: list[Any] = reader.committed(
                [TopicPartition(*place) for place in places], timeout=max(0.05, left_s)
            )
        except KafkaException:
            if left_s <= 0:
                raise
        else:
            errors = [each.error for each in found if each.error is not None]
            if not errors:
                return {(each.topic, each.partition): max(each.offset, -1) for each in found}
            if left_s <= 0:
                raise KafkaException(errors[0])
        time.sleep(RETRY_AFTER_S)
