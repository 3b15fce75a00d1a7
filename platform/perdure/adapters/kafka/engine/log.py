"""The log on Kafka: `engine.ports.Log`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from perdure.adapters.kafka.engine.batch_writer import NOWHERE, BatchWriter
from perdure.adapters.kafka.engine.command_source import CommandSource
from perdure.adapters.kafka.engine.lag import lag_of
from perdure.adapters.kafka.engine.ownership import Ownership
from perdure.adapters.kafka.engine.pending_commands import PendingCommands
from perdure.adapters.kafka.engine.transaction import TooLarge
from perdure.adapters.kafka.namespace.layout import Layout
from perdure.adapters.kafka.status import Status
from perdure.engine.ports import Batch
from perdure.errors import CommitAborted
from perdure.model import addresses

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.ports import Restorer
    from perdure.adapters.kafka.engine.takeover import Restored
    from perdure.adapters.process.channel import Channel
    from perdure.engine.ports import Owner
    from perdure.model.commands import AnyCommand

IDLE_COMMIT_AFTER_S: Final = 1.0
"""Offsets of commands that left nothing to record are committed with the next transaction, or when
idle after this time, seconds."""

GIVEN_UP_S: Final = 30.0
"""The client of a change has stopped waiting after this time, seconds: twice its time limit
(`client.handle.REQUEST_TIMEOUT_S`), since the clocks of two machines are compared."""


class KafkaLog:
    """`engine.ports.Log` on a namespace of Kafka topics.

    The owner gains a partition when its store was restored and the partition was claimed, and loses
    it when it is reassigned. Before and after that, commits that concern the partition are aborted.

    Args:
        clients: makes Kafka clients.
        channel: to clients and steps of this process.
        restorer: the store.
        status: the log's status, for health checks and metrics.
    """

    def __init__(
        self, clients: EngineClients, channel: Channel, restorer: Restorer, *, status: Status | None = None
    ) -> None:
        self.status = status or Status(is_away=clients.is_away)
        self._clients = clients
        self._channel = channel
        self._restorer = restorer
        self._owner: Owner | None = None
        self._woken = threading.Event()
        self._is_opening = False
        self._layout = Layout(clients.namespace, self.status, self._is_given_up)
        self._pending = PendingCommands(self._layout.place_of)
        self._source = CommandSource(
            clients, self._layout.commands, channel, pending=self._pending, status=self.status
        )
        self._writer = BatchWriter(self._layout, self.status)
        self._ownership = Ownership(
            clients,
            self._layout,
            restorer,
            writer=self._writer,
            status=self.status,
            is_given_up=self._is_given_up,
            wake=channel.wake,
            gained=self._on_gained,
            lost=self._on_lost,
        )
        self._uncommitted: set[int] = set()
        self._uncommitted_since = 0.0

    # ---- engine.ports.Log

    def open(self, owner: Owner | None = None) -> None:
        """Join the group; partitions are assigned while `take` is called. Waits for the broker and
        the topics, and reports the reason.

        Raises:
            InfrastructureError: the topics do not fit, or Kafka refuses us; the message says what
                to do.
        """
        if self._ownership.is_joined:
            return
        self._owner = owner
        self._is_opening = True
        self._layout.open(self._clients.admin(self._on_error))
        self._ownership.open()
        self._is_opening = False
        self._woken.clear()
        self._ownership.join()

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        """The next commands."""
        until = time.monotonic() + timeout_s
        ownership, source = self._ownership, self._source
        if self._has_open_batch():
            if not self._pending.has_ready:
                source.wait_for_steps(ownership.consumer, limit, timeout_s)
            return self._pending.take(limit)
        self._settle()
        while True:
            commands = self._take_ready(limit)
            now = time.monotonic()
            left_s = until - now
            if commands or left_s <= 0 or source.was_woken:
                source.was_woken = False
                return commands
            if self._uncommitted and now - self._uncommitted_since > IDLE_COMMIT_AFTER_S:
                self._commit_by_itself()
            source.wait(ownership.consumer, left_s, max(1, limit))
            self._settle()

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        """The partition of a workflow id, and the last command taken from it."""
        partition = self._layout.place_of(workflow_id)
        return partition, self._pending.last_offset(partition)

    def commit(self, batch: Batch) -> None:
        """Commit a batch in one transaction, or in none if there is nothing to record.

        Commands that left nothing at all (a wait for the end of a run, a heartbeat) may be handed
        out again after a crash: their offsets go with the next transaction.
        """
        pending = self._pending
        if batch.events or pending.asides or _has_records(batch):
            self._commit(batch)
        elif pending.covered:
            self._uncommitted_since = self._uncommitted_since if self._uncommitted else time.monotonic()
            self._uncommitted.update(pending.covered)
        pending.settle()
        self._source.note_steps(batch)
        if local := [each for each in batch.replies if type(addresses.parse(each[0])) is addresses.Local]:
            self._channel.deliveries.deliver(Batch(replies=local))

    def can_answer(self, address: str, command: AnyCommand) -> bool:
        """Whether a client waits for replies at the address. Kafka does not know who reads a
        partition, so the age of the command decides whether its client still waits.
        """
        match addresses.parse(address):
            case addresses.Caller(partition):
                is_old = self._pending.age_s(command) > GIVEN_UP_S
                return not is_old and partition < self._layout.count_of(self._layout.replies)
            case addresses.DeadLetter() | addresses.Workflow():
                return True
            case _:
                return self._channel.deliveries.has_subscriber(address)

    def abort(self) -> None:
        """Hand out again what was taken."""
        self._pending.abort()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands from any thread. Those for partitions of another engine are sent there
        with the next transaction.
        """
        self._channel.submit(commands)

    def wake(self) -> None:
        """From any thread."""
        self._woken.set()
        self._channel.wake()

    def close(self) -> None:
        """Leave the group; others take over immediately."""
        self._is_opening = False
        self._ownership.close()
        self._pending.forget()
        self._uncommitted.clear()
        self._source.steps.clear()

    # ---- taking

    def _has_open_batch(self) -> bool:
        return self._pending.has_taken if self._owner is None else self._owner.has_open_batch

    def _take_ready(self, limit: int) -> list[AnyCommand]:
        """Take the ready commands; records that were set aside alone are written immediately."""
        pending = self._pending
        self._source.look(self._ownership.consumer.consume(max(1, limit - pending.waiting), 0))
        while limit > 0 and pending.has_ready:
            commands = pending.take(limit)
            if commands or not pending.asides:
                return commands
            if not self._commit_by_itself():
                break
        return []

    def _commit_by_itself(self) -> bool:
        """Commit records that were set aside, and pending offsets."""
        try:
            self._commit(Batch())
        except CommitAborted as error:
            self.status.report(f"{error}; no data lost, retrying")
            self.abort()
            self._settle()
            return False
        self._pending.settle()
        return True

    # ---- committing

    def _commit(self, batch: Batch) -> None:
        pending, writer = self._pending, self._writer
        place_of = self._layout.place_of
        # Every partition that the batch concerns, also one from which no command was taken (a timer
        # fired there): its offset is what the group's generation fences.
        concerned = self._uncommitted | pending.covered.keys()
        concerned.update(
            record.input_partition if record.input_partition >= 0 else place_of(record.workflow_id)
            for record, _ in batch.events
        )
        concerned.update(place_of(removed.run.workflow_id) for removed in batch.removed)
        self._ownership.check(concerned)
        writer.prepare(
            batch, pending.places_of([each.command for each in batch.letters]) if batch.letters else NOWHERE
        )

        def write(producer: Producer) -> None:
            writer.write(producer, batch)
            if pending.asides:
                writer.write_asides(producer, pending.asides)

        try:
            self._ownership.run(write, {partition: pending.offset_of(partition) for partition in concerned})
        except TooLarge:
            pending.note_too_large()
            raise
        self._uncommitted.clear()
        writer.count(pending.asides)
        if writer.ends:
            self._restorer.reached(writer.ends)

    # ---- ownership; no batch is open

    def _settle(self) -> None:
        ownership = self._ownership
        if ownership.wake_for_heartbeat():
            if self._source.has_recovered:
                self.status.clear_wait()
            if self.status.is_lag_wanted:
                last_offset = self._pending.last_offset
                self.status.lag = lag_of(
                    ownership.consumer, self._layout.commands, ownership.live, last_offset
                )
        ownership.settle()

    def _on_gained(self, partitions: list[Restored]) -> None:
        for each in partitions:
            self._pending.gain(each.partition, each.offset)
        if self._owner is not None:
            self._owner.partitions_gained([each.partition for each in partitions])

    def _on_lost(self, partitions: set[int]) -> None:
        self._pending.lose(partitions)
        self._uncommitted -= partitions
        self._source.steps.clear()
        if self._owner is not None:
            self._owner.partitions_lost(partitions)

    def _is_given_up(self) -> bool:
        return self._is_opening and self._woken.is_set()

    def _on_error(self, message: str) -> None:
        self.status.trouble = message


def _is_elsewhere(address: str) -> bool:
    return isinstance(addresses.parse(address), addresses.Caller | addresses.DeadLetter)


def _has_records(batch: Batch) -> bool:
    return bool(
        batch.tasks
        or batch.states
        or batch.records
        or batch.streams
        or batch.removed
        or batch.cancelled
        or batch.letters
        or batch.commands
        or any(_is_elsewhere(address) for address, _ in batch.replies)
    )
