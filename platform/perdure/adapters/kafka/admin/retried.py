"""Outcomes of retried dead letters: whether their consumer groups have taken the records, and
whether there is a new dead letter for the same place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, TopicPartition

from perdure.ports.dead_letters import Outcome

if TYPE_CHECKING:
    from perdure.model.dead_letters import DeadLetter
    from perdure.ports.dead_letters import RetriedRecord

POLL_INTERVAL_S: Final = 0.1
ANSWER_S: Final = 10.0

Place = tuple[str, int, int]
"""Topic, partition and offset."""


class Retried:
    """Checks one namespace until every outcome is known, or the time has passed.

    Args:
        commands: the topic of the engines' group.
        groups: the consumer group of each topic that retried records go to; other topics are not
            checked.
        has_members: whether a group has any.
        consumer: makes a consumer of a group that is no member of it, from settings of librdkafka.
        letters_after: the dead letters that were written after some offsets, by partition.
    """

    def __init__(
        self,
        commands: str,
        groups: Mapping[str, str],
        *,
        has_members: Callable[[str], bool],
        consumer: Callable[[dict[str, Any]], Consumer],
        letters_after: Callable[[], list[DeadLetter]],
    ) -> None:
        self._commands = commands
        self._groups = groups
        self._has_members = has_members
        self._consumer = consumer
        self._letters_after = letters_after

    def outcome(
        self, puts: Mapping[str, RetriedRecord], places: Mapping[str, Place], within_s: float
    ) -> Outcome:
        """The outcomes of the retried records.

        Args:
            puts: where each record was written, by the letter's id.
            places: the place that a new dead letter of each record would name.
            within_s: how long to wait, seconds.
        """
        until = time.monotonic() + within_s
        waiting = {each for each, put in puts.items() if put.topic in self._groups}
        running = {group for group in self._groups.values() if self._has_members(group)}
        consumers = {group: self._consumer({"group.id": group}) for group in running}
        try:
            while True:
                waiting -= {each for each in waiting if self._is_taken(puts[each], consumers)}
                heard = {each for each in waiting if self._groups[puts[each].topic] in running}
                if not heard or time.monotonic() > until:
                    break
                time.sleep(POLL_INTERVAL_S)
        finally:
            for consumer in consumers.values():
                consumer.close()
        found = {(each.topic, each.partition, each.offset): each.message for each in self._letters_after()}
        failed = {each: found[place] for each, place in places.items() if place in found}
        return Outcome(failed, waiting - failed.keys())

    def _is_taken(self, put: RetriedRecord, consumers: Mapping[str, Consumer]) -> bool:
        """Whether the group has taken the record. For a trigger's record, the engines must also
        have taken all commands, since it may have become one of them.
        """
        consumer = consumers.get(self._groups[put.topic])
        if consumer is None or _committed(consumer, put.topic, put.partition) <= put.offset:
            return False
        if put.topic == self._commands:
            return True
        engines = consumers.get(self._groups[self._commands])
        return engines is not None and self._has_taken_all(engines)

    def _has_taken_all(self, engines: Consumer) -> bool:
        metadata: Any = engines.list_topics(self._commands, timeout=ANSWER_S)
        for partition in metadata.topics[self._commands].partitions:
            place = TopicPartition(
                self._commands, partition, max(0, _committed(engines, self._commands, partition))
            )
            engines.assign([place])
            # what is behind the committed offset may be markers of transactions only
            message = engines.poll(ANSWER_S)
            if message is not None and message.error() is None:
                return False
        return True


def _committed(consumer: Consumer, topic: str, partition: int) -> int:
    """The offset after the last record that the group has taken; -1001: none yet."""
    found: Any = consumer.committed([TopicPartition(topic, partition)], timeout=ANSWER_S)[0]
    return int(found.offset)
