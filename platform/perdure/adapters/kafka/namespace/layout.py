"""The topics of a namespace as an engine finds them: names, partition counts, and where a workflow
id lies.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace import topics
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.namespace.topics import name_of
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from perdure.adapters.kafka.status import Status

REMEMBERED: Final = 200_000
REQUEST_TIMEOUT_S: Final = 2.0
MISSING_FOR_S: Final = 5.0
"""A topic that was not there is asked for again after this time, seconds."""


_PARTS: Final = frozenset(topic.part for topic in topics.FIXED)


class Layout:
    """Topic names and partition counts of a namespace.

    Args:
        namespace: the prefix.
        status: records waits.
        is_given_up: asked now and then while the broker does not answer; True ends the wait.

    Attributes:
        partitions: of the commands and of the events, 0 before `open`.
    """

    def __init__(self, namespace: str, status: Status, is_given_up: Callable[[], bool]) -> None:
        self.commands = name_of(namespace, topics.COMMANDS)
        self.events = name_of(namespace, topics.EVENTS)
        self.state = name_of(namespace, topics.STATE)
        self.replies = name_of(namespace, topics.REPLIES)
        self.cancellations = name_of(namespace, topics.CANCELLATIONS)
        self.dead_letters = name_of(namespace, topics.DEAD_LETTERS)
        self.streams = name_of(namespace, topics.STREAMS)
        self.partitions = 0
        self._namespace = namespace
        self._admin: AdminClient | None = None
        self._status = status
        self._is_given_up = is_given_up
        self._places: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._missing: dict[str, float] = {}

    def open(self, admin: AdminClient) -> None:
        """Wait until the topics exist, and report the reason.

        Args:
            admin: to ask.

        Raises:
            InfrastructureError: it was given up, or the topics do not fit; the message says what to
                do.
        """
        self._admin = admin
        while missing := [name for name in self._needed if not self.count_of(name, again=True)]:
            self._status.waits(f"topics {', '.join(missing)}, which do not exist (perdure topics apply)")
            self._pause()
        self._status.clear_wait()
        self.partitions = self._counts[self.commands]
        if self._counts[self.events] != self.partitions:
            raise InfrastructureError(
                f"topic {self.commands} has {self.partitions} partitions and {self.events} "
                f"{self._counts[self.events]}: they must "
                "have the same number, and must never be given more. Create them again with `perdure topics "
                "apply`."
            )

    def place_of(self, workflow_id: str) -> int:
        """The partition of a workflow id, of commands and events."""
        place = self._places.get(workflow_id)
        if place is None:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            place = self._places[workflow_id] = partition_of(
                workflow_id.encode(errors="surrogatepass"), self.partitions
            )
        return place

    def tasks(self, queue: str) -> str:
        """The topic of a task queue."""
        return name_of(self._namespace, topics.tasks_of(queue))

    def is_ours(self, topic: str) -> bool:
        """Whether it is one of the namespace's own topics, which nothing else writes to."""
        prefix, dot, part = topic.partition(".")
        return bool(dot) and prefix == self._namespace and (part in _PARTS or part.startswith("tasks."))

    def count_of(self, topic: str, *, again: bool = False) -> int:
        """Number of partitions of a topic; 0: it does not exist. Waits for the broker, and reports
        why.

        Args:
            topic: its name.
            again: ask, though it was missing a moment ago.

        Raises:
            InfrastructureError: it was given up.
        """
        count = self._counts.get(topic, 0)
        if count or (
            not again and time.monotonic() - self._missing.get(topic, -MISSING_FOR_S) < MISSING_FOR_S
        ):
            return count
        found = self._described(topic)
        if found.error is not None or not found.partitions:
            self._missing[topic] = time.monotonic()
            return 0
        self._counts[topic] = len(found.partitions)
        return len(found.partitions)

    def _described(self, topic: str) -> Any:
        assert self._admin is not None
        while True:
            try:
                found = self._admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
            except KafkaException as exception:
                self._status.trouble = self._status.trouble or in_words(error_of(exception))
                self._status.waits(f"an answer about topic {topic}")
                self._pause()
            else:
                self._status.clear_wait()
                return found

    @property
    def _needed(self) -> list[str]:
        return [self.commands, self.events, self.state, self.replies, self.dead_letters]

    def _pause(self) -> None:
        if self._is_given_up():
            raise InfrastructureError("stopped while waiting for the broker")
        assert self._admin is not None
        self._admin.poll(0.2)
