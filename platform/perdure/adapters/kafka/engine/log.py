"""The log on Kafka: `engine.ports.Log`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer, TopicPartition

from perdure.adapters.kafka.engine.batch_writer import NOWHERE, Outgoing
from perdure.adapters.kafka.engine.command_source import Inlet
from perdure.adapters.kafka.engine.lag import lag_of
from perdure.adapters.kafka.engine.membership import Membership
from perdure.adapters.kafka.engine.pending_commands import Intake
from perdure.adapters.kafka.engine.takeover import Restored, Takeover
from perdure.adapters.kafka.engine.transaction import Fenced, TooLarge, Transactions
from perdure.adapters.kafka.namespace.layout import Layout
from perdure.adapters.kafka.status import Status
from perdure.engine.ports import Batch
from perdure.errors import CommitAborted, InfrastructureError
from perdure.model import addresses

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.ports import Restorer
    from perdure.adapters.process.channel import Channel
    from perdure.engine.ports import Owner
    from perdure.model.commands import AnyCommand

OWED_S: Final = 1.0
"""Offsets of commands that left nothing to record are committed with the next transaction, or when idle after this time, seconds."""

NUDGE_S: Final = 0.1
"""librdkafka looks whether a heartbeat is due when its main thread wakes, by itself once a second: it is woken this often, seconds."""


class KafkaLog:
    """`engine.ports.Log` on a namespace of Kafka topics.

    The owner is told of partitions when their store has been restored and they have been claimed, and when they were taken away.
    Until then, and afterwards, a commit that concerns them is aborted.

    Args:
        clients: makes Kafka clients.
        channel: to clients and steps of this process.
        restorer: the store.
        status: how it is doing; for health checks and metrics.
    """

    def __init__(self, clients: EngineClients, channel: Channel, restorer: Restorer, status: Status | None = None) -> None:
        self.status = status or Status()
        self._clients = clients
        self._channel = channel
        self._restorer = restorer
        self._owner: Owner | None = None
        self._woken = threading.Event()
        self._is_opening = False
        self._layout = Layout(clients.namespace, self.status, self._is_given_up)
        self._intake = Intake(self._layout.place_of)
        self._inlet = Inlet(clients, self._layout.commands, channel, self._intake, self.status)
        self._outgoing = Outgoing(self._layout, self.status)
        self._membership = Membership(self._layout.commands)
        self._transactions = Transactions(clients, self.status, self._is_given_up)
        self._takeover: Takeover | None = None
        self._consumer: Consumer | None = None
        self._to_claim: list[Restored] = []
        self._has_lost_id = False
        self._is_too_large = False
        self._is_suspect = False
        self._nudged_at = 0.0
        self._owed: set[int] = set()
        self._owed_since = 0.0

    # ---- engine.ports.Log

    def open(self, owner: Owner | None = None) -> None:
        """Join the group; partitions come while `take` is called. Waits for the broker and the topics, with the reason told.

        Raises:
            InfrastructureError: the topics do not fit, or Kafka refuses us; the message says what to do.
        """
        if self._consumer is not None:
            return
        self._owner = owner
        self._is_opening = True
        self._layout.open(self._clients.admin(self._troubled))
        self._transactions.open()
        self._is_opening = False
        self._woken.clear()
        self._takeover = Takeover(self._clients, self._layout, self._restorer, self.status, self._channel.wake)
        self._takeover.start()
        self._join()

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        """The next commands."""
        until = time.monotonic() + timeout_s
        if self._has_open_batch():
            if not self._intake.has_ready:
                self._inlet.wait_for_steps(self._joined, limit, timeout_s)
            return self._intake.take(limit)
        self._settle_ownership()
        while True:
            commands = self._take_ready(limit)
            now = time.monotonic()
            left_s = until - now
            if commands or left_s <= 0 or self._inlet.was_woken:
                self._inlet.was_woken = False
                return commands
            if self._owed and now - self._owed_since > OWED_S:
                self._commit_by_itself()
            self._inlet.wait(self._joined, left_s, max(1, limit))
            self._settle_ownership()

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        """Where a workflow id lies, and the last command taken from there."""
        partition = self._layout.place_of(workflow_id)
        return partition, self._intake.last_offset(partition)

    def commit(self, batch: Batch) -> None:
        """One transaction; none when there is nothing to record.

        Commands that left nothing at all (a wait for the end of a run, a heartbeat) may be handed out again after a crash: their
        offsets go with the next transaction.
        """
        intake = self._intake
        if batch.events or intake.asides or _has_records(batch):
            self._commit(batch)
        elif intake.covered:
            self._owed_since = self._owed_since if self._owed else time.monotonic()
            self._owed.update(intake.covered)
        intake.settle()
        self._inlet.note_steps(batch)
        if local := [each for each in batch.replies if type(addresses.parse(each[0])) is addresses.Local]:
            self._channel.deliver(Batch(replies=local))

    def can_answer(self, address: str) -> bool:
        """Whether anybody gets a reply to the address."""
        match addresses.parse(address):
            case addresses.Caller(partition):
                return partition < self._layout.count_of(self._layout.replies)
            case addresses.DeadLetter() | addresses.Workflow():
                return True
            case _:
                return self._channel.has_subscriber(address)

    def abort(self) -> None:
        """Hand out again what was taken."""
        if self._is_too_large:
            self._is_too_large = False
            self._intake.abort_too_large()
        else:
            self._intake.abort()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """From any thread. What is for a partition of another engine is sent there, with the next transaction."""
        self._channel.submit(commands)

    def wake(self) -> None:
        """From any thread."""
        self._woken.set()
        self._channel.wake()

    def close(self) -> None:
        """Leave the group; others take over at once."""
        consumer, self._consumer = self._consumer, None
        self._is_opening = False
        if self._takeover is not None:
            self._takeover.stop()
            self._takeover = None
        if consumer is not None:
            consumer.close()
            self._membership.forget()
            self._membership.gone.clear()
            self._intake.forget()
        for each in (self._to_claim, self._owed, self._inlet.steps):
            each.clear()
        self._transactions.close()
        self.status.owns(())

    # ---- taking

    @property
    def _joined(self) -> Consumer:
        """The consumer; another one after a fence."""
        assert self._consumer is not None, "open() comes first"
        return self._consumer

    def _has_open_batch(self) -> bool:
        return self._intake.has_taken if self._owner is None else self._owner.has_open_batch

    def _take_ready(self, limit: int) -> list[AnyCommand]:
        """What is there; what was put aside by itself is written at once."""
        consumer = self._consumer
        assert consumer is not None
        intake = self._intake
        self._inlet.look(consumer.consume(max(1, limit - intake.waiting), 0))
        while limit > 0 and intake.has_ready:
            commands = intake.take(limit)
            if commands or not intake.asides:
                return commands
            if not self._commit_by_itself():
                break
        return []

    def _commit_by_itself(self) -> bool:
        """What was put aside, and offsets that are owed."""
        try:
            self._commit(Batch())
        except CommitAborted as error:
            self.status.report(f"{error}; nothing is lost, trying again")
            self.abort()
            self._settle_ownership()
            return False
        self._intake.settle()
        return True

    # ---- committing

    def _commit(self, batch: Batch) -> None:
        membership, intake, outgoing = self._membership, self._intake, self._outgoing
        place_of = self._layout.place_of
        concerned = self._owed | intake.covered.keys()
        concerned.update(
            record.input_partition if record.input_partition >= 0 else place_of(record.workflow_id) for record, _ in batch.events
        )
        if strays := concerned - membership.live:
            raise CommitAborted(f"partitions {sorted(strays)} have been taken from this engine")
        outgoing.prepare(batch, intake.places_of([each.command for each in batch.letters]) if batch.letters else NOWHERE)
        offsets = [self._offset(partition, intake.offset_of(partition)) for partition in concerned]

        def write(producer: Producer) -> None:
            outgoing.write(producer, batch)
            if intake.asides:
                outgoing.write_asides(producer, intake.asides)

        self._run(write, offsets)
        self._owed.clear()
        outgoing.count(intake.asides)
        if outgoing.ends:
            self._restorer.reached(outgoing.ends)

    def _run(self, write: Any, offsets: list[TopicPartition]) -> None:
        metadata = self._membership.metadata
        if metadata is None:
            self._is_suspect = True
            raise CommitAborted("this engine is no member of its group at the moment")
        try:
            self._transactions.run(write, offsets, metadata)
        except TooLarge:
            self._is_too_large = True
            raise
        except Fenced:
            self._has_lost_id = True
            raise
        except CommitAborted:
            self._is_suspect = True
            raise

    def _offset(self, partition: int, offset: int) -> TopicPartition:
        return TopicPartition(self._layout.commands, partition, offset, metadata=self._clients.transactional_id)

    # ---- ownership; no batch is open

    def _settle_ownership(self) -> None:
        membership, takeover, consumer = self._membership, self._takeover, self._consumer
        assert takeover is not None
        assert consumer is not None
        if (now := time.monotonic()) - self._nudged_at > NUDGE_S:
            self._nudged_at = now
            consumer.memberid()
            if self._inlet.has_recovered:
                self.status.goes_on()
            if self.status.is_lag_wanted:
                self.status.lag = lag_of(consumer, self._layout.commands, membership.live, self._intake.last_offset)
        if self._has_lost_id:
            self._join_anew(consumer)
            return
        if membership.has_news:
            self._check_count(membership.fresh)
            self._let_go()
            takeover.hand_over(membership.dropped, membership.fresh)
            membership.dropped, membership.fresh = [], []
        if self._is_suspect:
            self._is_suspect = False
            membership.refresh(consumer)
        if takeover.has_done:
            self._to_claim += takeover.done()
        if self._to_claim:
            self._claim()

    def _check_count(self, fresh: list[tuple[int, int]]) -> None:
        if added := sorted(partition for partition, _ in fresh if partition >= self._layout.partitions):
            raise InfrastructureError(
                f"topic {self._layout.commands} had {self._layout.partitions} partitions, and now partitions {added} were added: "
                "workflow ids would lie elsewhere. Partitions must never be added; see `perdure topics check`."
            )

    def _let_go(self) -> None:
        gone, self._membership.gone = self._membership.gone, set[int]()
        if not gone:
            return
        for partition in gone:
            self._restorer.close(partition)
        self._intake.lose(gone)
        self._owed -= gone
        self._inlet.steps.clear()
        self.status.owns(self._membership.live)
        if self._owner is not None:
            self._owner.partitions_lost(gone)

    def _claim(self) -> None:
        """Write our id into the committed offsets of partitions that are restored: from then on it is we who would be fenced."""
        membership = self._membership
        mine = [each for each in self._to_claim if membership.restoring.get(each.partition) == each.generation]
        self._to_claim = mine
        if not mine:
            return
        ahead = [each.partition for each in mine if each.is_ahead]
        tasks = [task for task in self._restorer.tasks(ahead) if task.queue] if ahead else []
        self._outgoing.prepare(Batch(tasks={(task.run_id, task.number): task for task in tasks}))

        def write(producer: Producer) -> None:
            for task in tasks:
                self._outgoing.write_task(producer, task)

        try:
            self._run(write, [self._offset(each.partition, each.offset) for each in mine])
        except CommitAborted as error:
            self.status.report(f"partitions {[each.partition for each in mine]} could not be claimed: {error}; trying again")
            return
        self._to_claim = []
        self._serve(mine)

    def _serve(self, mine: list[Restored]) -> None:
        assert self._consumer is not None
        for each in mine:
            self._intake.gain(each.partition, each.offset)
            self._membership.serve(self._consumer, each.partition, each.offset)
        self.status.counts.claimed += len(mine)
        self.status.owns(self._membership.live)
        if self._owner is not None:
            self._owner.partitions_gained([each.partition for each in mine])

    def _join(self) -> None:
        self._consumer = self._clients.consumer(self._troubled)
        self._membership.subscribe(self._consumer)

    def _join_anew(self, consumer: Consumer) -> None:
        """We were fenced: give all partitions up. The committed offsets say what was recorded."""
        self.status.report("this engine was fenced: it gives its partitions up and joins the group anew; nothing is lost")
        self._has_lost_id = False
        consumer.close()
        self._membership.forget()
        self._let_go()
        assert self._takeover is not None
        self._takeover.hand_over(self._membership.dropped, [])
        self._membership.dropped, self._membership.fresh = [], []
        self._to_claim.clear()
        self._join()

    def _is_given_up(self) -> bool:
        return self._is_opening and self._woken.is_set()

    def _troubled(self, message: str) -> None:
        self.status.trouble = message


def _is_elsewhere(address: str) -> bool:
    return isinstance(addresses.parse(address), addresses.Caller | addresses.DeadLetter)


def _has_records(batch: Batch) -> bool:
    return bool(
        batch.tasks
        or batch.states
        or batch.records
        or batch.cancelled
        or batch.letters
        or batch.commands
        or any(_is_elsewhere(address) for address, _ in batch.replies)
    )
