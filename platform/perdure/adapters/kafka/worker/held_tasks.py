"""Tasks that a worker has taken and not finished, and the offsets that may be committed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.partition_state import Place

SETTLED_KEPT: Final = 10_000


class _Partition:
    """Offsets that are held, oldest first."""

    __slots__ = ("committed", "open", "position")

    def __init__(self) -> None:
        self.open: OrderedDict[int, str] = OrderedDict()
        self.position = -1
        self.committed = -1

    @property
    def prefix(self) -> int:
        """Everything before this offset is done with; -1 when nothing was taken."""
        return next(iter(self.open), self.position)


class HeldTasks:
    """A task's offset is held from `take` to `release`. Any thread may call anything.

    A task is *out* until it has ended, also when its offset was released early because the attempt
    is leased. Of one that has ended the token is remembered for a while: delivered once more, it is
    not run once more.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._partitions: dict[Place, _Partition] = {}
        self._places: dict[str, list[tuple[Place, int]]] = {}
        self._out: set[str] = set()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._reporting: set[str] = set()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._to_stop: list[str] = []

    def __len__(self) -> int:
        """Number of unfinished tasks."""
        return len(self._out)

    def wait_until_fewer_than(self, limit: int, timeout_s: float) -> bool:
        """Wait until fewer than `limit` are out; False when the time has passed."""
        with self._lock:
            return self._lock.wait_for(lambda: len(self._out) < limit, timeout_s)

    # ---- tasks

    def take(self, place: Place, offset: int, token: str, *, reports_stop: bool = False) -> bool:
        """Add a task that was found.

        Args:
            place: where.
            offset: the same.
            token: of the attempt.
            reports_stop: the run waits for the end of the attempt, also when it is cancelled.

        Returns:
            Whether it is to be run. It is not when its partition is not ours (any more), when it
            has ended, or when it is out already: then its offset is held until that one has ended.
        """
        with self._lock:
            partition = self._partitions.get(place)
            if partition is None:
                return False  # taken from us with the same poll that brought it: another worker gets it
            if partition.position < 0:
                partition.committed = offset  # from there it would be delivered again anyway
            partition.position = offset + 1
            if token in self._settled and not (reports_stop and token in self._cancelled):
                return False
            partition.open[offset] = token
            self._places.setdefault(token, []).append((place, offset))
            if token in self._out:
                return False
            self._out.add(token)
            if reports_stop:
                self._reporting.add(token)
                if token in self._cancelled:
                    self._to_stop.append(token)
            return True

    def cancel(self, tokens: Iterable[str]) -> None:
        """These are to stop, here or wherever they are. Those of which an end is reported are out
        until it is durable.
        """
        with self._lock:
            tokens = [token for token in tokens if token not in self._reporting]
            self.end(tokens)
            self._cancelled.update(dict.fromkeys(tokens))
            while len(self._cancelled) > SETTLED_KEPT:
                self._cancelled.popitem(last=False)

    def to_stop(self) -> list[str]:
        """The tokens of tasks that were cancelled before they were taken; once."""
        if not self._to_stop:
            return []
        with self._lock:
            found, self._to_stop = self._to_stop, []
        return found

    def release(self, tokens: Iterable[str]) -> None:
        """Release attempts that are leased: the engine watches them from now on."""
        with self._lock:
            for token in tokens:
                self._release(token)
            self._lock.notify_all()

    def end(self, tokens: Iterable[str], *, is_settled: bool = True) -> None:
        """End tasks that have ended durably, or whose results are not wanted any more.

        Args:
            tokens: of the attempts, out or not.
            is_settled: not to be run if they return.
        """
        with self._lock:
            for token in tokens:
                self._release(token)
                self._out.discard(token)
                self._reporting.discard(token)
                self._cancelled.pop(token, None)
                if is_settled:
                    self._settled[token] = None
            while len(self._settled) > SETTLED_KEPT:
                self._settled.popitem(last=False)
            self._lock.notify_all()

    def drop(self, tokens: Iterable[str]) -> None:
        """Drop tasks that other workers will run: they are not out any more, and their offsets stay
        held.
        """
        with self._lock:
            tokens = list(tokens)
            self._out.difference_update(tokens)
            self._reporting.difference_update(tokens)
            self._lock.notify_all()

    def _release(self, token: str) -> None:
        for place, offset in self._places.pop(token, ()):
            if (partition := self._partitions.get(place)) is not None:
                partition.open.pop(offset, None)

    # ---- partitions

    def gain(self, places: Iterable[Place]) -> None:
        """This worker owns the partitions from now on."""
        with self._lock:
            for place in places:
                self._partitions[place] = _Partition()

    def lose(self, places: Iterable[Place]) -> None:
        """Other workers own these partitions now. Running tasks continue."""
        with self._lock:
            for place in places:
                if (partition := self._partitions.pop(place, None)) is None:
                    continue
                for token in partition.open.values():
                    left = [each for each in self._places.pop(token, ()) if each[0] != place]
                    if left:
                        self._places[token] = left

    def held(self, places: Collection[Place]) -> list[str]:
        """The tokens whose offsets are held there."""
        with self._lock:
            return [
                token
                for place in places
                if (found := self._partitions.get(place))
                for token in found.open.values()
            ]

    def wait_until_released(self, places: Collection[Place], timeout_s: float) -> bool:
        """Wait until no offset is held there; False when the time has passed."""
        with self._lock:
            return self._lock.wait_for(
                lambda: not any(found.open for place in places if (found := self._partitions.get(place))),
                timeout_s,
            )

    def due(self, topic: str) -> list[tuple[Place, int]]:
        """Offsets that may be committed and are not yet: by partition, the offset before which
        every task is finished.
        """
        with self._lock:
            found: list[tuple[Place, int]] = []
            for place, partition in self._partitions.items():
                prefix = partition.prefix
                if place[0] == topic and prefix > partition.committed:
                    partition.committed = prefix
                    found.append((place, prefix))
            return found

    def not_committed(self, places: Iterable[Place]) -> None:
        """A commit has failed: what was due there is due again."""
        with self._lock:
            for place in places:
                if (partition := self._partitions.get(place)) is not None:
                    partition.committed = -1
