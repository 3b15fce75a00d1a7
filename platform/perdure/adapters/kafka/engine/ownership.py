"""The partitions that an engine serves, from their assignment to the claim and to their loss.

Everything here happens on the engine's thread, between two batches. A rebalance only notes changes
(`membership.py`), and the stores of new partitions are restored on a separate thread
(`takeover.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from confluent_kafka import TopicPartition

from perdure.adapters.kafka.engine.membership import Membership
from perdure.adapters.kafka.engine.takeover import Restored, Takeover
from perdure.adapters.kafka.engine.transaction import Fenced, TooLarge, Transactions
from perdure.engine.ports import Batch
from perdure.errors import CommitAborted, InfrastructureError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.batch_writer import BatchWriter
    from perdure.adapters.kafka.engine.ports import Restorer
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status

HEARTBEAT_WAKE_S: Final = 0.1
"""Interval at which librdkafka's main thread is woken, seconds. It checks whether a heartbeat is
due when it wakes, which it does on its own only once a second."""

Write = Callable[["Producer"], None]


class MembershipState(Enum):
    """State of this engine's group membership, as far as its transactions show."""

    MEMBER = auto()
    SUSPECT = auto()
    """A transaction was aborted, perhaps for the group metadata: they are read again, when no
    rebalance waits to be served."""
    FENCED = auto()
    """Another producer has this engine's id: all partitions are given up."""


class Ownership:
    """The engine's partitions, its consumer, and the transactions that only the owner of the
    partitions can commit.

    Args:
        clients: makes Kafka clients.
        layout: the topics, open before this is.
        restorer: the store.
        writer: writes tasks that have to be sent again.
        status: how it is doing.
        is_given_up: asked now and then while a producer waits for the broker; True ends the wait.
        wake: called from the takeover's thread when something is done.
        gained: called with partitions that were claimed, once they are served.
        lost: called with partitions that were served, and are not any more.

    Attributes:
        membership: in the group.
        takeover: the side thread; None: closed.
    """

    def __init__(
        self,
        clients: EngineClients,
        layout: Layout,
        restorer: Restorer,
        *,
        writer: BatchWriter,
        status: Status,
        is_given_up: Callable[[], bool],
        wake: Callable[[], None],
        gained: Callable[[list[Restored]], None],
        lost: Callable[[set[int]], None],
    ) -> None:
        self.membership = Membership(layout.commands)
        self.takeover: Takeover | None = None
        self._clients = clients
        self._layout = layout
        self._restorer = restorer
        self._writer = writer
        self._status = status
        self._wake = wake
        self._gained = gained
        self._lost = lost
        self._transactions = Transactions(clients, status, is_given_up)
        self._consumer: Consumer | None = None
        self._to_claim: list[Restored] = []
        self._standing = MembershipState.MEMBER
        self._woken_at = 0.0

    def open(self) -> None:
        """Fence the producer that had our id before, and wait for the broker.

        Raises:
            InfrastructureError: it was given up, or never can work; the message says what to do.
        """
        self._transactions.open()

    def join(self) -> None:
        """Join the group; partitions come while the consumer is polled, and `settle` is called."""
        self.takeover = Takeover(
            self._clients, self._layout, self._restorer, status=self._status, wake=self._wake
        )
        self.takeover.start()
        self._subscribe()

    @property
    def is_joined(self) -> bool:
        """Whether there is a consumer."""
        return self._consumer is not None

    @property
    def consumer(self) -> Consumer:
        """Of commands; another one after a fence."""
        assert self._consumer is not None, "join() comes first"
        return self._consumer

    @property
    def live(self) -> AbstractSet[int]:
        """Partitions whose commands are handed out."""
        return self.membership.live

    def close(self) -> None:
        """Leave the group; others take over immediately. Idempotent."""
        consumer, self._consumer = self._consumer, None
        if self.takeover is not None:
            self.takeover.stop()
            self.takeover = None
        if consumer is not None:
            consumer.close()
            self.membership.forget()
            self.membership.take_gone()
        self._to_claim.clear()
        self._transactions.close()
        self._status.owns(())

    # ---- transactions

    def check(self, partitions: AbstractSet[int]) -> None:
        """Check that a batch may concern these partitions.

        Raises:
            CommitAborted: this engine does not own some of them.
        """
        if strays := partitions - self.membership.live:
            raise CommitAborted(f"partitions {sorted(strays)} were reassigned to another engine")

    def run(self, write: Write, offsets: Mapping[int, int]) -> None:
        """One transaction.

        Args:
            write: produces its records.
            offsets: by partition, all that it concerns: the group's generation fences offsets, and
                nothing else of a transaction.

        Raises:
            CommitAborted: nothing was recorded, or we were fenced; `settle` does what has to be
                done about it.
        """
        metadata = self.membership.metadata
        if metadata is None:
            self._suspect()
            raise CommitAborted("this engine is not a member of its group at the moment")
        try:
            self._transactions.run(write, self._with_our_id(offsets), metadata)
        except TooLarge:
            raise
        except Fenced:
            self._standing = MembershipState.FENCED
            raise
        except CommitAborted:
            self._suspect()
            raise

    def _suspect(self) -> None:
        if self._standing is not MembershipState.FENCED:  # which asks for more
            self._standing = MembershipState.SUSPECT

    def _with_our_id(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        """Offsets with this engine's id in their metadata, so that the next owner knows whom to
        fence.
        """
        topic, owner = self._layout.commands, self._clients.transactional_id
        return [
            TopicPartition(topic, partition, offset, metadata=owner) for partition, offset in offsets.items()
        ]

    # ---- between two batches

    def wake_for_heartbeat(self) -> bool:
        """Wake the client, unless that was done a moment ago; whether it was woken."""
        now = time.monotonic()
        if now - self._woken_at <= HEARTBEAT_WAKE_S:
            return False
        self._woken_at = now
        self.consumer.memberid()
        return True

    def settle(self) -> None:
        """Release lost partitions, have new ones restored, claim restored ones.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        membership, takeover = self.membership, self.takeover
        assert takeover is not None
        if self._standing is MembershipState.FENCED:
            self._rejoin()
            return
        if membership.has_news:
            self._release()
            dropped, fresh = membership.hand_over()
            _check_count(self._layout, (partition for partition, _ in fresh))
            takeover.hand_over(dropped, fresh)
        if self._standing is MembershipState.SUSPECT:
            self._standing = MembershipState.MEMBER
            membership.member.refresh_metadata()
        if takeover.has_done:
            done = takeover.done()
            membership.note_restored((each.partition, each.generation) for each in done)
            self._to_claim += done
        if self._to_claim:
            self._claim()

    def _release(self) -> None:
        """Release partitions that were live and were lost, in the store and the engine."""
        if not (gone := self.membership.take_gone()):
            return
        for partition in gone:
            self._restorer.close(partition)
        self._status.owns(self.membership.live)
        self._lost(gone)

    def _claim(self) -> None:
        """Write our id into the committed offsets of partitions that are restored.

        From then on, a next owner would fence this engine. The offsets themselves do not change, so
        an aborted claim has no effect.
        """
        is_restored = self.membership.is_restored
        mine = self._to_claim = [
            each for each in self._to_claim if is_restored(each.partition, each.generation)
        ]
        if not mine:
            return
        ahead = [each.partition for each in mine if each.is_ahead]
        tasks = [task for task in self._restorer.tasks(ahead) if task.queue] if ahead else []
        self._writer.prepare(Batch(tasks={(task.run_id, task.number): task for task in tasks}))

        def write(producer: Producer) -> None:
            for task in tasks:
                self._writer.write_task(producer, task)

        try:
            self.run(write, {each.partition: each.offset for each in mine})
        except CommitAborted as error:
            partitions = [each.partition for each in mine]
            self._status.report(f"partitions {partitions} could not be claimed: {error}; retrying")
            return
        self._to_claim = []
        for each in mine:
            self.membership.serve(each.partition, each.offset)
        self._status.counts.claimed += len(mine)
        self._status.owns(self.membership.live)
        self._gained(mine)

    # ---- joining

    def _subscribe(self) -> None:
        self._consumer = self._clients.consumer(self._on_error)
        self.membership.subscribe(self._consumer)

    def _rejoin(self) -> None:
        """This engine was fenced: give up all partitions and join again. The committed offsets say
        what was recorded.
        """
        assert self.takeover is not None
        self._status.report(
            "this engine was fenced: it gives its partitions up and joins the group again; no data lost"
        )
        self._standing = MembershipState.MEMBER
        self.consumer.close()
        self.membership.forget()
        self._release()
        dropped, _ = self.membership.hand_over()
        self.takeover.hand_over(dropped, [])
        self._to_claim.clear()
        self._subscribe()

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def _check_count(layout: Layout, fresh: Iterable[int]) -> None:
    if added := sorted(partition for partition in fresh if partition >= layout.partitions):
        raise InfrastructureError(
            f"topic {layout.commands} had {layout.partitions} partitions, and now partitions {added} were "
            "added: workflow ids would map to other partitions. Partitions must never be added; see "
            "`perdure topics check`."
        )
