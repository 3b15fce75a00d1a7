"""Command source. Alternates between polling Kafka and draining the in-process channel, because
librdkafka cannot wait on both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.kafka.error_classes import in_words
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.pending_commands import PendingCommands
    from perdure.adapters.kafka.status import Status
    from perdure.adapters.process.channel import Channel
    from perdure.engine.ports import Batch

POLL_S: Final = 0.05
"""Maximum delay of an in-process command after a quiet while, seconds."""

TURN_LENGTH_S: Final = 0.000_5
"""While commands of this process are expected, Kafka and they are looked at in turns of this
length, seconds."""

JOIN_S: Final = 0.005
"""Interval of polls of Kafka while a batch waits for steps, seconds: longer than the engine lets it
wait."""

FAST_POLL_FOR_S: Final = 1.0
"""After a command of this process, others are expected for this time, seconds."""

ERROR_OVER_AFTER_S: Final = 10.0
"""A consumer error that has not recurred for this long is over, seconds."""


class CommandSource:
    """Reads from both and hands commands to the intake.

    Args:
        clients: named in messages.
        topic: of the commands.
        channel: what this process submits.
        intake: takes it.
        status: shows what is waited for.

    Attributes:
        was_woken: whether `Log.wake` was called, or this process submitted something, since it was
            last reset.
        steps: that are out, by (run id, activity number): their reports are looked for more often.
    """

    def __init__(
        self,
        clients: EngineClients,
        topic: str,
        channel: Channel,
        *,
        pending: PendingCommands,
        status: Status,
    ) -> None:
        self.was_woken = False
        self.steps: set[tuple[str, int]] = set()
        self._clients = clients
        self._topic = topic
        self._channel = channel
        self._pending = pending
        self._status = status
        self._fast_until = 0.0
        self._erred_at = 0.0

    @property
    def has_recovered(self) -> bool:
        """Whether the consumer's last error has not recurred for a while."""
        return time.monotonic() - self._erred_at > ERROR_OVER_AFTER_S

    def wait_for_steps(self, consumer: Consumer, limit: int, timeout_s: float) -> None:
        """For a batch that is open: wait until one of its steps reports."""
        pending, channel = self._pending, self._channel
        until = time.monotonic() + timeout_s
        while not pending.has_ready:
            left_s = until - time.monotonic()
            is_woken = left_s > 0 and channel.wait(min(left_s, JOIN_S))
            self.look(consumer.consume(max(1, limit), 0))
            if is_woken or left_s <= 0:
                self.was_woken |= is_woken
                break

    def look(self, records: list[Any]) -> None:
        """Take in the waiting records of Kafka and commands of this process."""
        if records:
            self._erred_at = 0.0
            self._pending.put_records(
                record for record in records if record.error() is None or self._note_error(record.error())
            )
        channel = self._channel
        if channel.wait(0):
            self.was_woken = True
            commands = channel.take(1 << 30)
            channel.settle()
            if commands:
                self._pending.put_local(commands)
                self._fast_until = time.monotonic() + FAST_POLL_FOR_S

    def wait(self, consumer: Consumer, left_s: float, limit: int) -> None:
        """Wait a moment for the first record or command of this process."""
        channel = self._channel
        # librdkafka cannot wait for the channel, too. While steps run or clients are busy, look at
        # both in short turns; otherwise block in the client, which costs no processor time.
        if not self.steps and time.monotonic() > self._fast_until:
            record = consumer.poll(min(left_s, POLL_S))
            if record is not None:
                self.look([record, *consumer.consume(limit, 0)])
            return
        until = time.monotonic() + min(left_s, POLL_S)
        while time.monotonic() < until:
            if channel.wait(TURN_LENGTH_S):
                self.was_woken = True
                return
            record = consumer.poll(0)
            if record is not None:
                self.look([record, *consumer.consume(limit, 0)])
                return

    def _note_error(self, error: KafkaError) -> bool:
        """An error instead of a record.

        Raises:
            InfrastructureError: it is fatal.
        """
        if error.fatal():
            raise InfrastructureError(
                f"this engine's membership of group {self._clients.group} has ended ({in_words(error)}); if "
                "another process runs as "
                f"{self._clients.instance!r}, give each its own name"
            )
        self._status.trouble = in_words(error)
        self._status.waits(f"commands of {self._topic}")
        self._erred_at = time.monotonic()
        return False

    def note_steps(self, batch: Batch) -> None:
        """Those that are still out: their reports are looked for more often."""
        if batch.tasks:
            self.steps.update(key for key, task in batch.tasks.items() if not task.queue)
        if self.steps:
            self.steps -= batch.tasks_ended
