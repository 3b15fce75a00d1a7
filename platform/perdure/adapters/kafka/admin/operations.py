"""Task queues and workers of a namespace, as Kafka knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.plain import PlainClients

REQUEST_TIMEOUT_S: Final = 10.0
COUNTED: Final = 10_000
"""A longer backlog is counted by offsets, which include transaction markers."""


class KafkaOperations:
    """Asks the broker each time.

    Args:
        clients: makes Kafka clients.
    """

    def __init__(self, clients: PlainClients) -> None:
        self._clients = clients
        self._prefix = clients.topic("tasks.")

    def queues(self) -> list[dict[str, Any]]:
        """Task queues, each with its number of unfinished tasks and of workers.

        Raises:
            InfrastructureError: Kafka does not answer.
        """
        try:
            topics = self._clients.admin(_nobody).list_topics(timeout=REQUEST_TIMEOUT_S).topics
            members = self._members(
                [name.removeprefix(self._prefix) for name in topics if name.startswith(self._prefix)]
            )
            return [
                {
                    "name": queue,
                    "backlog": self._backlog(queue, len(topics[self._prefix + queue].partitions)),
                    "workers": len(found),
                }
                for queue, found in sorted(members.items())
            ]
        except KafkaException as exception:
            raise InfrastructureError(f"Kafka does not respond: {in_words(error_of(exception))}") from None

    def workers(self) -> list[dict[str, Any]]:
        """Each by its name, with the queues that it serves and where it runs.

        Raises:
            InfrastructureError: Kafka does not answer.
        """
        queues: dict[str, set[str]] = {}
        hosts: dict[str, str] = {}
        try:
            topics = self._clients.admin(_nobody).list_topics(timeout=REQUEST_TIMEOUT_S).topics
            members = self._members(
                [name.removeprefix(self._prefix) for name in topics if name.startswith(self._prefix)]
            )
        except KafkaException as exception:
            raise InfrastructureError(f"Kafka does not respond: {in_words(error_of(exception))}") from None
        for queue, found in members.items():
            for name, host in found:
                queues.setdefault(name, set()).add(queue)
                hosts[name] = host
        return [
            {"name": name, "queues": sorted(queues[name]), "host": hosts[name]} for name in sorted(queues)
        ]

    def _members(self, queues: list[str]) -> dict[str, list[tuple[str, str]]]:
        if not queues:
            return {}
        groups = {self._clients.group_of(queue): queue for queue in queues}
        found: dict[str, list[tuple[str, str]]] = {queue: [] for queue in queues}
        admin: Any = self._clients.admin(_nobody)
        answers: Any = admin.describe_consumer_groups(list(groups), request_timeout=REQUEST_TIMEOUT_S)
        for group, answer in answers.items():
            try:
                described = answer.result(2 * REQUEST_TIMEOUT_S)
            except KafkaException:
                continue  # no worker has served it yet
            found[groups[group]] = [
                (member.client_id, member.host.lstrip("/")) for member in described.members
            ]
        return found

    def _backlog(self, queue: str, partitions: int) -> int:
        topic = self._prefix + queue
        consumer = self._clients.queue_offsets(queue, _nobody)
        ends = Ends(self._clients, topic, _nobody)
        try:
            last = ends.of(range(partitions))
            committed = consumer.committed(
                [TopicPartition(topic, each) for each in range(partitions)], timeout=REQUEST_TIMEOUT_S
            )
            begins = {
                each.partition: max(each.offset, 0)
                for each in committed
                if last[each.partition] > max(each.offset, 0)
            }
            behind = sum(last[partition] - offset for partition, offset in begins.items())
            return behind if behind > COUNTED or not begins else self._count(topic, begins)
        finally:
            ends.close()
            consumer.close()

    def _count(self, topic: str, begins: dict[int, int]) -> int:
        """The records from there on: offsets count the markers of transactions, too."""
        consumer = self._clients.tail(_nobody, 10)
        count, open_ends = 0, set(begins)
        try:
            consumer.assign(
                [TopicPartition(topic, partition, offset) for partition, offset in begins.items()]
            )
            while open_ends and (message := consumer.poll(REQUEST_TIMEOUT_S)) is not None:
                if (error := message.error()) is None:
                    count += 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                    open_ends.discard(message.partition())
                else:
                    raise KafkaException(error)
            return count
        finally:
            consumer.close()


def _nobody(_: str) -> None:
    """Ignore an error report: the calls return errors."""
