"""The durable part of the in-memory log and store: what survives a simulated crash."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from perdure.adapters.memory.fold import Fold
from perdure.codec.records import decode_command, encode_command
from perdure.model.streams import StreamRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.engine.ports import Batch
    from perdure.model.commands import AnyCommand
    from perdure.model.dead_letters import DeadLetter
    from perdure.model.events import RecordProduced
    from perdure.model.replies import AnyReply


class MemoryMedium:
    """Outlives the logs and stores that are opened on it; forgets nothing until it is dropped.

    A new log on the same medium is a restart: it takes over, and the one before can commit no more.

    Attributes:
        batches: what was committed, in order.
        commands: appended by "other processes", or sent by batches, and not yet done with, each
            with its position.
        replies: to "other processes".
        records: for your topics, in order.
        streams: the values of all streams, in order; an offset is an index, from 1.
        letters: commands that became dead letters.
        written: the fold of all of them, for readers and for what the log finds again.
        stored: the store's part; behind `batches` when the crash came between commit and apply.
        epoch: how many logs were opened on it.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.commands: list[tuple[int, AnyCommand]] = []
        self.replies: list[tuple[str, AnyReply]] = []
        self.records: list[RecordProduced] = []
        self.streams: list[StreamRecord] = []
        self._numbers: set[tuple[str, str, int, int, int]] = set()
        self.letters: list[DeadLetter] = []
        self.written = Fold()
        self.stored = Fold()
        self.epoch = 0
        self._appended = 0
        self.lock = Lock()
        self._wake: Callable[[], None] | None = None

    def take_over(self, wake: Callable[[], None]) -> int:
        """Become the owner, which is woken when commands are appended.

        Returns:
            The owner's epoch.
        """
        with self.lock:
            self.epoch += 1
            self._wake = wake
            return self.epoch

    def release(self) -> None:
        """Stop being the owner."""
        with self.lock:
            self._wake = None

    def append(self, commands: Sequence[AnyCommand]) -> None:
        """Append as another process would: durably, immediately, from any thread."""
        with self.lock:
            self._append(commands)
            wake = self._wake
        if wake is not None:
            wake()

    def _append(self, commands: Sequence[AnyCommand]) -> None:
        for command in commands:
            self._appended += 1
            self.commands.append((self._appended, command))

    def appended_after(self, position: int, limit: int) -> list[tuple[int, AnyCommand]]:
        """Commands of other processes, from the one after `position`."""
        with self.lock:
            return [each for each in self.commands if each[0] > position][:limit]

    def write(
        self,
        batch: Batch,
        consumed: int,
        replies: list[tuple[str, AnyReply]],
        letters: Sequence[DeadLetter] = (),
    ) -> None:
        """Record a batch, and that the commands up to the position `consumed` are done with."""
        # fails as a real log does
        sent = [decode_command(encode_command(command)) for command in batch.commands]
        kept = replace(
            batch,
            events=list(batch.events),
            states=dict(batch.states),
            tasks=dict(batch.tasks),
            tasks_ended=set(batch.tasks_ended),
            timers=set(batch.timers),
            timers_ended=set(batch.timers_ended),
            records=list(batch.records),
            cancelled=[],
            replies=[],
            letters=[],
            commands=[],
            streams=[],
            closed=list(batch.closed),
            followed=[],
            removed=list(batch.removed),
            states_ended=set(batch.states_ended),
        )
        with self.lock:
            self.batches.append(kept)
            self.catch_up(self.written)
            self.commands = [each for each in self.commands if each[0] > consumed]
            self.replies.extend(replies)
            self.letters.extend(letters)
            self._append(sent)
            self.records += [record for _, record in batch.records]
            if gone := {removed.run.run_id for removed in batch.removed}:
                self._forget(gone)
            for each in batch.streams:
                key = (each.run_id, each.name, each.activity, each.attempt, each.number)
                if key not in self._numbers:
                    self._numbers.add(key)
                    self.streams.append(each)

    def _forget(self, gone: set[str]) -> None:
        """Drop what was written of runs that are removed. The streams keep their offsets."""
        for each in self.batches:
            each.events[:] = [event for event in each.events if event[0].run_id not in gone]
        for index, value in enumerate(self.streams):
            if value.run_id in gone:
                self.streams[index] = StreamRecord("", "", "", 0, b"", value.at)

    def lose_store(self) -> None:
        """Simulate a lost disk of the store: it is folded again from the log."""
        self.stored = Fold()

    def catch_up(self, fold: Fold) -> None:
        """Fold the batches that are missing."""
        for position in range(fold.checkpoint, len(self.batches)):
            fold.add(position, self.batches[position])
