"""A namespace mirrored to another Kafka, so that engines can continue there when the first one is
lost: `perdure topics mirror`.

A copy of records alone is not enough. Events name the offset of the command that caused them, and
what engines have committed are offsets of
commands: a takeover compares the two. So commands and tasks keep their offsets: where the source
    has no record (markers of transactions,
aborted records, what was deleted by age) the mirror has padding, which engines and workers skip.
The other topics are copied record by record, in transactions with the position in the source, so
that a mirror that is killed continues without a loss or a repeat.

The source may be lost at any moment of a round, so a round has an order:
1. read what engines and workers have committed, then where events and the like end, then where the
commands end;
2. copy the commands: the mirror has the command of every event that follows. Without it, its offset
would be given to another command, which
   engines would take for one that is done;
3. copy events, states and the like, up to the ends of step 1 and no further;
4. copy the tasks. A task without its events would be run in vain; events without their task are
repaired by step 5;
5. write what was committed. Until then events are ahead of the committed offset, which engines take
for a transaction that was split: they
   pass over its commands and dispatch its tasks again (`takeover.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.admin.admin import Topics
from perdure.adapters.kafka.admin.mirrored import (
    REQUEST_TIMEOUT_S,
    WRITE_S,
    BoundedReader,
    CopyWriter,
    ExactWriter,
    Place,
)
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.metadata import TOPICS as FACT_OF_TOPICS
from perdure.adapters.kafka.namespace.topics import AUDIT, COMMANDS, DEAD_LETTERS, EVENTS, META, STATE
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from confluent_kafka import Message

    from perdure.engine.operator_log import Report

COPIED: Final = tuple(topic.part for topic in (META, EVENTS, STATE, DEAD_LETTERS, AUDIT))
TASKS: Final = "tasks."
RETRY_AFTER_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""A single round is tried again this long: topics that were just made have no leader for a moment,
seconds."""


@dataclass(frozen=True, slots=True)
class Round:
    """Result of one round.

    Attributes:
        copied: records.
        padding: records that stand for offsets without one.
        took_s: seconds.
    """

    copied: int
    padding: int
    took_s: float


class Mirror:
    """Copies until it is stopped. One at a time for a namespace: a second one fences the first.

    Args:
        namespace: the prefix of the topics, the same in both.
        source: settings of librdkafka of the Kafka that is in use.
        target: of the other, on which nothing of the namespace may run.
        report: called with messages for the operator.

    Raises:
        UsageError: a setting is ours.
    """

    def __init__(
        self, namespace: str, source: Mapping[str, object], target: Mapping[str, object], *, report: Report
    ) -> None:
        self._namespace = namespace
        self._source = of_librdkafka(checked(source))
        self._target = of_librdkafka(checked(target))
        self._report = report
        self._stopping = threading.Event()

    def run(
        self,
        every_s: float = RETRY_AFTER_S,
        *,
        once: bool = False,
        done: Callable[[Round], None] = lambda _: None,
    ) -> None:
        """Run round after round; after a failure it resumes from the mirror's position.

        Args:
            every_s: pause between rounds.
            once: end after the first.
            done: called after each round.

        Raises:
            InfrastructureError: the mirror cannot work, or the only round fails again and again;
                the message says what to do.
            UsageError: both are the same Kafka.
        """
        began = time.monotonic()
        while not self._stopping.is_set():
            try:
                with _Session(
                    self._namespace, self._source, self._target, is_stopping=self._stopping.is_set
                ) as session:
                    while True:
                        done(session.round())
                        if once or self._stopping.wait(every_s):
                            return
            except KafkaException as exception:
                if self._stopping.is_set():
                    return
                said = f"the mirror of {self._namespace} could not continue: {in_words(error_of(exception))}"
                if once and time.monotonic() - began > PATIENCE_S:
                    raise InfrastructureError(said) from None
                self._report(f"{said}; it resumes where it stopped")
                self._stopping.wait(RETRY_AFTER_S)

    def request_stop(self) -> None:
        """Ask for a stop, and return immediately; any thread."""
        self._stopping.set()


class _Session:
    """The clients of both sides, from a start to the first failure."""

    def __init__(
        self,
        namespace: str,
        source: Mapping[str, Any],
        target: Mapping[str, Any],
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._namespace = namespace
        self._target = target
        self._source = source
        self._theirs = PlainClients(namespace, "mirror", source)
        self._ours = PlainClients(namespace, "mirror", target)
        self._is_stopping = is_stopping
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._refuse_itself()
            self._ends = self._closed(stack, self._theirs.tail(_nobody, isolation="read_uncommitted"))
            self._positions = self._closed(stack, self._group(self._target, f"{self._namespace}.mirror"))
            readers = [self._closed(stack, self._theirs.tail(_nobody)) for _ in range(3)]
            self._commands, self._others, self._tasks = (
                BoundedReader(each, self._is_stopping) for each in readers
            )
            faults: list[KafkaError] = []
            exact = self._ours.producer(_nobody, lambda error, _: faults.append(error) if error else None)
            self._exact = ExactWriter(exact, faults)
            copier = EngineClients(self._namespace, "mirror", self._target).producer(
                _nobody, f"{self._namespace}.mirror"
            )
            copier.init_transactions(WRITE_S)
            self._copies = CopyWriter(copier, self._positions, self._is_own_fact)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def round(self) -> Round:
        """Copy the current records, in the order that the module describes."""
        began, copied, padding = time.monotonic(), self._copied, self._exact.padding
        topics = self._topics()
        committed = self._committed(topics)
        copies = [place for place in topics if self._part(place) in COPIED]
        commands = [place for place in topics if self._part(place) == COMMANDS.part]
        others, until = self._ends_of(copies), self._ends_of(commands)
        self._begin_exactly(topics, committed)
        self._commands.read_from({place: self._exact.positions[place] for place in commands})
        self._commands.until(until, self._exact.write)
        self._exact.flush()
        self._others.read_from(self._where(copies))
        self._others.until(others, self._copies.write)
        tasks = [place for place in topics if self._part(place).startswith(TASKS)]
        self._tasks.read_from({place: self._exact.positions[place] for place in tasks})
        self._tasks.until(self._ends_of(tasks), self._exact.write)
        self._exact.flush()
        self._commit(committed)
        return Round(self._copied - copied, self._exact.padding - padding, time.monotonic() - began)

    @property
    def _copied(self) -> int:
        return self._exact.copied + self._copies.copied

    # ---- what there is

    def _refuse_itself(self) -> None:
        admins: list[Any] = [self._theirs.admin(_nobody), self._ours.admin(_nobody)]
        ids = {
            each.describe_cluster(request_timeout=REQUEST_TIMEOUT_S).result(REQUEST_TIMEOUT_S).cluster_id
            for each in admins
        }
        if len(ids) == 1:
            raise UsageError(
                f"both addresses belong to the same Kafka cluster, {ids.pop()}: mirror to another one"
            )

    def _topics(self) -> list[Place]:
        """The partitions that are mirrored; topics that the mirror does not have are made."""
        found: Any = self._ends.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        parts = {
            name.removeprefix(f"{self._namespace}."): len(topic.partitions)
            for name, topic in found.items()
            if name.startswith(f"{self._namespace}.")
        }
        wanted = {
            part: count
            for part, count in parts.items()
            if part in (*COPIED, COMMANDS.part) or part.startswith(TASKS)
        }
        if not {COMMANDS.part, EVENTS.part} <= wanted.keys():
            raise InfrastructureError(
                f"the source has no namespace {self._namespace}: it lacks the commands and events topics"
            )
        there: Any = self._positions.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        if any(f"{self._namespace}.{part}" not in there for part in wanted):
            topics = Topics(self._namespace, self._target)
            queues = [part.removeprefix(TASKS) for part in wanted if part.startswith(TASKS)]
            topics.apply(topics.plan(partitions=wanted[COMMANDS.part], queues=queues))
            there = self._positions.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        for part, count in wanted.items():
            if len(there[f"{self._namespace}.{part}"].partitions) < count:
                raise InfrastructureError(
                    f"topic {self._namespace}.{part} has {count} partitions, but fewer in the mirror"
                )
        return [
            (f"{self._namespace}.{part}", number) for part, count in wanted.items() for number in range(count)
        ]

    def _ends_of(self, places: Sequence[Place]) -> dict[Place, int]:
        return {
            place: self._ends.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)[1]
            for place in places
        }

    def _part(self, place: Place) -> str:
        return place[0].removeprefix(f"{self._namespace}.")

    def _is_own_fact(self, record: Message) -> bool:
        """Facts that each Kafka records itself: the created topics and their ids."""
        return record.topic() == f"{self._namespace}.{META.part}" and record.key() == FACT_OF_TOPICS.encode()

    # ---- positions

    def _where(self, places: Sequence[Place]) -> dict[Place, int]:
        """The position in the source, as committed by the mirror's group."""
        found = self._positions.committed(
            [TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_S
        )
        return {(each.topic, each.partition): max(each.offset, 0) for each in found}

    def _begin_exactly(
        self, topics: Sequence[Place], committed: Mapping[str, Sequence[TopicPartition]]
    ) -> None:
        """A partition of the mirror ends where it was copied to. An empty one begins where engines
        and workers are: padded, then trimmed.
        """
        done = {(each.topic, each.partition): each.offset for places in committed.values() for each in places}
        for place in topics:
            if place in self._exact.positions or self._part(place) in COPIED:
                continue
            low, high = self._positions.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)
            self._exact.positions[place] = high
            if low == high == 0 and (
                first := done.get(
                    place, self._ends.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)[0]
                )
            ):
                self._exact.pad(place, first)
                self._exact.flush()
                admin: Any = self._ours.admin(_nobody)
                for deleted in admin.delete_records(
                    [TopicPartition(*place, first)], request_timeout=REQUEST_TIMEOUT_S
                ).values():
                    deleted.result(REQUEST_TIMEOUT_S)

    def _groups(self, topics: Sequence[Place]) -> dict[str, list[Place]]:
        """Groups whose offsets are mirrored."""
        groups: dict[str, list[Place]] = {}
        for place in topics:
            part = self._part(place)
            if part == COMMANDS.part:
                groups.setdefault(f"{self._namespace}.engine", []).append(place)
            elif part.startswith(TASKS):
                groups.setdefault(self._theirs.group_of(part.removeprefix(TASKS)), []).append(place)
        return groups

    def _committed(self, topics: Sequence[Place]) -> dict[str, list[TopicPartition]]:
        """By group, as they are in the source."""
        found: dict[str, list[TopicPartition]] = {}
        for group, places in self._groups(topics).items():
            with ExitStack() as stack:
                asks = self._closed(stack, self._group(self._source, group))
                answers = asks.committed(
                    [TopicPartition(*place) for place in places], timeout=REQUEST_TIMEOUT_S
                )
                found[group] = [each for each in answers if each.offset >= 0]
        return found

    def _commit(self, committed: Mapping[str, Sequence[TopicPartition]]) -> None:
        for group, places in committed.items():
            # the owner stays behind
            offsets = [TopicPartition(each.topic, each.partition, each.offset) for each in places]
            with ExitStack() as stack:
                tells = self._closed(stack, self._group(self._target, group))
                try:
                    if offsets:
                        tells.commit(offsets=offsets, asynchronous=False)
                except KafkaException as exception:
                    if error_of(exception).code() != KafkaError.UNKNOWN_MEMBER_ID:
                        raise
                    raise InfrastructureError(
                        f"the group {group} is active in the mirror: the mirror is in use, so nothing may "
                        "be copied to it any more"
                    ) from None

    def _group(self, settings: Mapping[str, Any], group: str) -> Consumer:
        """A consumer that reads and commits the group's offsets without being a member."""
        return Consumer(
            {
                **settings,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
            }
        )

    def _closed(self, stack: ExitStack, consumer: Consumer) -> Consumer:
        stack.callback(consumer.close)
        return consumer


def _nobody(_: str) -> None:
    """Ignore an error report: errors are raised, and the watch of each cluster reports an
    outage.
    """
