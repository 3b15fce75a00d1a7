"""Quarantine: finds the one command that fails a batch, so that the others can be committed without
it.

A batch is all or nothing. When it cannot be handled or written, and waiting does not help, one of
its commands is to blame. While a command is handled, it is that one. While the batch is written, it
may be any: the batch is aborted, its commands are handled one by one, and the one that fails alone
is to blame.

`replay.live` and the payloads catch everything that workflow code raises, so an error that arrives
here is a bug of perdure, of a codec, or a damaged record. A `BaseException` that is not an
`Exception` is not one of these; it stops the process.

The command to blame becomes a dead letter when it is handed out again. If the letter cannot be
written either, it keeps less each time: first the answer to the client is left out, then the
command itself. The place and the reason that are left can be written regardless of the command's
content; if even that fails, no batch can be written, and the engine stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from perdure.errors import CommitAborted, InfrastructureError, UndecodableRecord
from perdure.model.described import described

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.commands import AnyCommand

BARE: Final = 3
"""The strike from which only the place and the reason are kept."""


class Stage(Enum):
    """Stage of a batch in which an error was raised."""

    TAKING = auto()
    """No command is being handled, so none is to blame."""
    HANDLING = auto()
    WRITING = auto()


class Reaction(Enum):
    """Reaction to an error that no single command is blamed for."""

    RETRY = auto()
    """Retry the same batch: nothing is wrong with it."""
    WITHOUT_EXTRAS = auto()
    """Retry without what no command asked for, since that may be to blame: replies to clients of
    released runs, which repeat their requests anyway, and the removal of runs, which can wait."""
    ONE_BY_ONE = auto()
    """Retry one command at a time: one of them fails the batch."""
    RAISE = auto()
    """The engine cannot continue."""


@dataclass(frozen=True, slots=True)
class Poison:
    """The command that is to blame.

    Attributes:
        command: the command.
        message: the error, for people.
        strikes: how often it was blamed, this time included.
    """

    command: AnyCommand
    message: str
    strikes: int


class Quarantine:
    """The quarantine of one engine.

    Attributes:
        current: the command that is being handled; None between commands. The engine's loop sets
            it.
        stage: the stage of the current batch.
    """

    __slots__ = ("_condemned", "_count", "_last", "_served", "_singly", "current", "stage")

    def __init__(self) -> None:
        self.current: AnyCommand | None = None
        self._last: AnyCommand | None = None
        self._count = 0
        self._singly = 0
        self.stage = Stage.TAKING
        self._condemned: dict[AnyCommand, Poison] = {}
        self._served: list[AnyCommand] = []

    # ---- the engine's loop says where it is

    def take(self) -> None:
        """Note that commands are being taken for the next batch."""
        self.stage = Stage.TAKING
        self.current = self._last = None
        self._count = 0

    def handle(self, commands: list[AnyCommand]) -> bool:
        """Note that these commands are handled now; others of the same batch may have been handled
        before.

        Returns:
            Whether any command is quarantined; if so, ask `found` about each. No command is added
                while a batch is handled.
        """
        self.stage = Stage.HANDLING
        if commands:
            self._count += len(commands)
            self._last = commands[-1]
        return bool(self._condemned)

    def write(self) -> None:
        """Note that the batch is being written."""
        self.current = None
        self.stage = Stage.WRITING

    @property
    def handled(self) -> int:
        """The number of commands in this batch."""
        return self._count

    @property
    def is_one_by_one(self) -> bool:
        """Whether a batch may hold one command only."""
        return self._singly > 0

    def count_down(self) -> None:
        """Count a finished batch of one command."""
        if self._singly:
            self._singly -= 1

    # ---- blame

    def blame(self, error: Exception, *, has_extras: bool = False) -> Reaction | Poison:
        """Find out which command caused an error. The batch must be aborted in any case.

        Args:
            error: raised while commands were taken, handled or written.
            has_extras: whether the batch also holds what no command asked for.
        """
        if has_extras and self.stage is Stage.WRITING and not isinstance(error, InfrastructureError):
            return Reaction.WITHOUT_EXTRAS
        if isinstance(error, CommitAborted):
            return Reaction.RETRY
        if self.stage is Stage.TAKING or (
            isinstance(error, InfrastructureError) and not isinstance(error, UndecodableRecord)
        ):
            return Reaction.RAISE
        culprit = self.current
        if self.stage is Stage.WRITING:
            if self._count > 1:
                # Twice as many: reports of their steps, and other commands, may come in between.
                self._singly = 2 * self._count
                return Reaction.ONE_BY_ONE
            culprit = self._last
        if culprit is None:
            return Reaction.RAISE
        known = self._condemned.get(culprit)
        strikes = known.strikes + 1 if known is not None else 1
        if strikes > BARE:
            return Reaction.RAISE
        message = known.message if known is not None else described(error)
        poison = self._condemned[culprit] = Poison(culprit, message, strikes)
        return poison

    def found(self, command: AnyCommand) -> Poison | None:
        """Why a command must not be handled; None: it can be handled."""
        poison = self._condemned.get(command)
        if poison is not None:
            self._served.append(command)
        return poison

    def settle(self) -> None:
        """The batch is committed: forget the commands that became dead letters in it."""
        for command in self._served:
            self._condemned.pop(command, None)
        self._served.clear()

    def abort(self) -> None:
        """The batch was aborted: its commands are handed out again."""
        self._served.clear()

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the commands for these workflow ids; the new owner of their partitions checks them
        itself.
        """
        self._condemned = {
            command: each for command, each in self._condemned.items() if not is_gone(command.workflow_id)
        }
