"""Commands that other processes wrote into the medium, on their way through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.codec.records import encode_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.adapters.process.channel import Channel
    from perdure.model.commands import AnyCommand


class ExternalCommands:
    """Puts durable commands into the channel's inbox and knows which of them a commit covers.

    Attributes:
        position: of the last command that was read; those after it are still to be read.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._positions: dict[int, int] = {}
        self._waiting = 0
        self.position = 0

    def room(self, limit: int) -> int:
        """How many more commands may be read now, so that no more than `limit` wait in memory."""
        return limit - self._waiting

    def put(self, commands: Sequence[tuple[int, AnyCommand]]) -> None:
        """Hand over commands with their positions, in order."""
        if not commands:
            return
        for position, command in commands:
            # the channel keeps the object, and so its id, until it is settled
            self._positions[id(command)] = position
            self.position = position
        self._waiting += len(commands)
        self._channel.submit([command for _, command in commands])

    def take(self, limit: int) -> list[AnyCommand]:
        """Take commands of this and of other processes."""
        commands = self._channel.take(limit)
        if self._waiting:
            self._waiting -= self._count(commands)
        return commands

    def abort(self) -> None:
        """Hand out again what was taken."""
        if self._positions:
            self._waiting += self._count(self._channel.taken)
        self._channel.abort()

    def consumed(self) -> int:
        """The position up to which commands were taken and are done with by the next commit; 0 when
        there are none.
        """
        positions = self._positions
        if not positions:
            return 0
        return max((positions.get(id(command), 0) for command in self._channel.taken), default=0)

    def position_of(self, command: AnyCommand) -> int:
        """Of a command that was taken, as another process wrote it; 0 for one of this process."""
        return self._positions.get(id(command), 0)

    def settle(self) -> None:
        """The taken commands are committed."""
        if self._positions:
            for command in self._channel.taken:
                self._positions.pop(id(command), None)
        self._channel.settle()

    def forget(self) -> None:
        """Forget the commands of other processes; the medium's next owner reads them again."""
        self._channel.abort()
        if self._positions:
            self._channel.remove(self._positions)
            self._positions.clear()
        self._waiting = 0
        self.position = 0

    def _count(self, commands: Sequence[AnyCommand]) -> int:
        positions = self._positions
        return sum(id(command) in positions for command in commands)


def record_of(command: AnyCommand) -> bytes:
    """A command as a row of `commands` has it; empty when it cannot be written."""
    try:
        return encode_command(command)
    except Exception:  # noqa: BLE001 - of this process, which may put anything into a command
        return b""
