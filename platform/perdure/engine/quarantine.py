"""Quarantine: finds the one command that fails a batch, so that the others can be committed without
it.

A batch is all or nothing. When it cannot be handled or written, and waiting does not help, one of
its commands is to blame. While a command is handled, it is that one. While the batch is written, it
may be any: the batch is aborted, its commands are handled one by one, and the one that fails alone
is to blame.

Workflow code cannot raise past `replay.live` and the payloads: what arrives here is a fault of
ours, of a codec or of a record. An exception that is no `Exception` is not one of these; it stops
the process.

What is blamed becomes a dead letter when it is handed out again. If that cannot be written either,
less of it is kept each time: first the answer to the one who asked is left out, then the command
itself. Only the place and the reason are left then, which can be written whatever the command
holds; if not, nothing can, and the engine stops.
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
"""The strike after which only the place and the reason are kept."""


class Stage(Enum):
    """Stage of a batch in which an error was raised."""

    TAKING = auto()
    """Nothing is handled: no command is to blame."""
    HANDLING = auto()
    WRITING = auto()


class Reaction(Enum):
    """Reaction to an error that no single command is blamed for."""

    RETRY = auto()
    """The same again: nothing is wrong with the batch."""
    WITHOUT_FAREWELLS = auto()
    """The batch again, without replies to the clients of runs that are given up: they may be to
    blame, and those clients ask again by themselves."""
    ONE_BY_ONE = auto()
    """The batch again, command by command: one of them spoils it."""
    RAISE = auto()
    """The engine cannot continue."""


@dataclass(frozen=True, slots=True)
class Poison:
    """The command that is to blame.

    Attributes:
        command: which.
        message: what it led to, for people.
        strikes: how often it was blamed, this time included.
    """

    command: AnyCommand
    message: str
    strikes: int


class Quarantine:
    """Of one engine.

    Attributes:
        current: the command that is being handled; None between commands. The engine's loop sets
            it.
        stage: what the engine's loop is doing.
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
        """Commands are taken for the next batch."""
        self.stage = Stage.TAKING
        self.current = self._last = None
        self._count = 0

    def handle(self, commands: list[AnyCommand]) -> bool:
        """These commands are handled now; after others of the same batch, perhaps.

        Returns:
            Whether some command must not be handled: then ask `found` about each. None is condemned
                while others are handled.
        """
        self.stage = Stage.HANDLING
        if commands:
            self._count += len(commands)
            self._last = commands[-1]
        return bool(self._condemned)

    def write(self) -> None:
        """The batch is written."""
        self.current = None
        self.stage = Stage.WRITING

    @property
    def handled(self) -> int:
        """Commands of this batch."""
        return self._count

    @property
    def is_one_by_one(self) -> bool:
        """Whether a batch may hold one command only."""
        return self._singly > 0

    def count_down(self) -> None:
        """One batch of a single command fewer."""
        if self._singly:
            self._singly -= 1

    # ---- blame

    def blame(self, error: Exception, *, has_farewells: bool = False) -> Reaction | Poison:
        """Find out which command caused an error. The batch must be aborted in any case.

        Args:
            error: raised while commands were taken, handled or written.
            has_farewells: whether the batch also holds replies to the clients of runs that are
                given up.
        """
        if has_farewells and self.stage is Stage.WRITING and not isinstance(error, InfrastructureError):
            return Reaction.WITHOUT_FAREWELLS
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
        """Why a command must not be handled; None: it may be."""
        poison = self._condemned.get(command)
        if poison is not None:
            self._served.append(command)
        return poison

    def settle(self) -> None:
        """The batch is committed: the commands that became dead letters in it are done with."""
        for command in self._served:
            self._condemned.pop(command, None)
        self._served.clear()

    def abort(self) -> None:
        """The batch was aborted: its commands are handed out again."""
        self._served.clear()

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the commands for these workflow ids: their new owner checks them itself."""
        self._condemned = {
            command: each for command, each in self._condemned.items() if not is_gone(command.workflow_id)
        }
