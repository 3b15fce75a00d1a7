"""The state of one workflow, read from its partition of `<namespace>.state`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from msgspec.structs import replace

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.records import header_of
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.model.states import Status, WorkflowState

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.plain import PlainClients

STILL_S: Final = 10.0
"""Without any record for this long, the broker does not answer; seconds."""
FEW: Final = 4
"""This number of states is read one by one."""
OPEN_S: Final = 2.0
"""How long a read waits for an open transaction, seconds. An engine that died in one leaves it open
for longer; then the state is the one before it."""


class SingleStates:
    """Reads states one by one, as long as few are asked for: a command that shows one workflow must
    not load a million. A client that reads on needs the table of all of them.

    Args:
        clients: makes the consumers.

    Attributes:
        left: the number of states that are still read one by one.
    """

    def __init__(self, clients: PlainClients) -> None:
        self._clients = clients
        self._ends = Ends(clients, clients.topic("state"), lambda _: None)
        self.left = FEW

    def read(self, workflow_id: str) -> WorkflowState | None:
        """One state, with everything that the topic has at the time of the call.

        Raises:
            InfrastructureError: Kafka cannot be read, or there is no such topic.
        """
        self.left -= 1
        partition = partition_of(workflow_id.encode(), self._ends.count())
        return one_state(self._clients, workflow_id, partition, self._ends.of([partition])[partition])

    def close(self) -> None:
        """Idempotent."""
        self._ends.close()


def one_state(clients: PlainClients, workflow_id: str, partition: int, end: int) -> WorkflowState | None:
    """The state of a workflow; None: there is none.

    Reads the whole partition and keeps one record: the memory that it takes does not grow with the
    number of workflows, and the time only with those of one partition, which are not decoded.

    Args:
        clients: makes the consumer.
        workflow_id: of the workflow.
        partition: that it is on.
        end: of the partition: everything before it is seen.

    Raises:
        InfrastructureError: Kafka cannot be read.
    """
    topic, key = clients.topic("state"), workflow_id.encode()
    consumer = clients.tail(lambda _: None, 10)
    found: Any = None
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        for message in _until(consumer, end):
            if message.key() == key:
                found = message
    except KafkaException as exception:
        why = in_words(error_of(exception))
        raise InfrastructureError(f"the states in {topic} cannot be read: {why}") from None
    except TimeoutError:
        raise InfrastructureError(
            f"the states in {topic} cannot be read; no data for {STILL_S:.0f} s"
        ) from None
    finally:
        consumer.close()
    if found is None or found.value() is None:
        return None
    try:
        return STATE.decode(found.value(), header_of(found))
    except UndecodableRecord as fault:
        return unreadable(workflow_id, None, str(fault))


def unreadable(workflow_id: str, before: WorkflowState | None, reason: str) -> WorkflowState:
    """The state shown for a record that cannot be read: that fact, plus the last known state."""
    if before is None:
        return WorkflowState(
            workflow_id,
            "",
            "",
            status=Status.SUSPENDED,
            started_at=0,
            updated_at=0,
            closed_at=0,
            history_length=0,
            reason=reason,
        )
    return replace(before, reason=reason)


def _until(consumer: Consumer, end: int) -> Any:
    """The records before an end."""
    position, moved_at, is_loaded = 0, time.monotonic(), end == 0
    while position < end:
        messages = consumer.consume(5_000, 0.1)
        now = time.monotonic()
        if messages:
            moved_at = now
        elif now - moved_at > (OPEN_S if is_loaded else STILL_S):
            if is_loaded:
                return
            raise TimeoutError
        for message in messages:
            if (error := message.error()) is None:
                position = (message.offset() or 0) + 1
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                position, is_loaded = max(position, message.offset() or 0), True
            else:
                raise KafkaException(error)
