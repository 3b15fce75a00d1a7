"""The log in memory: for tests, with the same promises as the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.adapters.process.external_commands import ExternalCommands, record_of
from perdure.errors import InfrastructureError
from perdure.model import addresses
from perdure.model.dead_letters import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.adapters.memory.medium import MemoryMedium
    from perdure.adapters.process.channel import Channel
    from perdure.engine.ports import Batch, Owner, RefusedCommand
    from perdure.model.commands import AnyCommand


class MemoryLog:
    """`engine.ports.Log` on a `MemoryMedium`.

    Unlike with a file, a crashed owner and a slow one look the same here: the last process that
    opens it owns it, and the previous one is fenced (so does Kafka).

    Args:
        channel: to clients and workers of the process.
        medium: survives this log.
    """

    def __init__(self, channel: Channel, medium: MemoryMedium) -> None:
        self._channel = channel
        self._medium = medium
        self._outside = ExternalCommands(channel)
        self._epoch = 0

    def open(self, owner: Owner | None = None) -> None:
        """Take ownership."""
        self._epoch = self._medium.take_over(self._channel.wake)
        self._outside.forget()
        self._channel.begin()
        self._channel.deliveries.deliver_tasks(
            [task for task in self._medium.written.tasks.values() if task.queue]
        )
        if owner is not None:
            owner.partitions_gained((0,))

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        """The next commands."""
        channel, outside = self._channel, self._outside
        if limit <= 0:
            channel.wait_for_more(timeout_s)
            return []
        if room := outside.room(limit):
            outside.put(self._medium.appended_after(outside.position, room))
        if channel.wait(timeout_s) and (room := outside.room(limit)):
            outside.put(self._medium.appended_after(outside.position, room))
        return outside.take(limit)

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        """Commands of this process have no offset."""
        return -1, -1

    def commit(self, batch: Batch) -> None:
        """All or nothing."""
        if self._epoch != self._medium.epoch:
            raise InfrastructureError("another engine has taken over this log; this one must stop")
        elsewhere = [each for each in batch.replies if type(addresses.parse(each[0])) is addresses.Process]
        letters = [self._letter(each, batch.at) for each in batch.letters]
        self._medium.write(batch, self._outside.consumed(), elsewhere, letters)
        self._outside.settle()
        self._channel.deliveries.deliver(batch)

    def can_answer(self, address: str, command: AnyCommand) -> bool:
        """Whether a client waits for replies at the address. No other process sees this memory."""
        return (
            self._channel.deliveries.has_subscriber(address)
            or type(addresses.parse(address)) is addresses.Workflow
        )

    def _letter(self, refused: RefusedCommand, at: int) -> DeadLetter:
        position = self._outside.position_of(refused.command)
        return DeadLetter(
            "commands",
            0,
            position,
            timestamp_ms=-1,
            reason=refused.reason,
            message=refused.message,
            found_at=at,
            key=None,
            value=None if refused.is_bare else record_of(refused.command),
        )

    def abort(self) -> None:
        """Hand out again what was taken."""
        self._outside.abort()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """From any thread."""
        self._channel.submit(commands)

    def wake(self) -> None:
        """From any thread."""
        self._channel.wake()

    def close(self) -> None:
        """Give up ownership."""
        if self._epoch == self._medium.epoch:
            self._medium.release()
        self._channel.end()
