"""Commands that other processes wrote into the medium, on their way through a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.log.channel import Channel
    from perdure.model.commands import AnyCommand


class Outside:
    """Puts durable commands into the channel's inbox and knows which of them a commit covers.

    Attributes:
        position: of the last command that was read; those after it are still to be read.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._positions: dict[int, int] = {}
        self.position = 0

    def room(self, limit: int) -> int:
        """How many more may be read now: what was read and not committed is held in memory, and bounded."""
        return limit - len(self._positions)

    def put(self, commands: Sequence[tuple[int, AnyCommand]]) -> None:
        """Hand over commands with their positions, in order."""
        if not commands:
            return
        for position, command in commands:
            self._positions[id(command)] = position  # the channel keeps the object, and so its id, until it is settled
            self.position = position
        self._channel.submit([command for _, command in commands])

    def consumed(self) -> int:
        """The position up to which commands were taken and are done with by the next commit; 0 when there are none."""
        positions = self._positions
        if not positions:
            return 0
        return max((positions.get(id(command), 0) for command in self._channel.taken), default=0)

    def settle(self) -> None:
        """Forget what was taken; before the channel does."""
        if self._positions:
            for command in self._channel.taken:
                self._positions.pop(id(command), None)
