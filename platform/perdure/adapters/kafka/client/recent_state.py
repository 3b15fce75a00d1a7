"""The state of one workflow that has changed lately, read from the end of `<namespace>.state`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.records import header_of
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.model.states import WorkflowState

REQUEST_TIMEOUT_S: Final = 5.0
SKEW_S: Final = 300.0
"""The clocks of the caller and of the engines may differ by so much."""


def recent_state(clients: PlainClients, workflow_id: str, since: float, timeout_s: float) -> WorkflowState:
    """The state of a workflow, once it has closed.

    Reads the records of one partition that are newer than `since`, and keeps one of them: what it
    takes does not grow with the number of workflows, as a `StateTable` does.

    Args:
        clients: makes the consumer.
        workflow_id: of the workflow.
        since: when it was started, or before; seconds since 1970.
        timeout_s: how long to wait for its end.

    Raises:
        InfrastructureError: Kafka cannot be read, or the topic does not have it in time.
    """
    topic = clients.topic("state")
    consumer = clients.tail(lambda _: None)
    until = time.monotonic() + timeout_s
    try:
        partitions = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions
        if not partitions:
            raise InfrastructureError(f"topic {topic} does not exist: create it with `perdure topics apply`")
        place = TopicPartition(
            topic,
            partition_of(workflow_id.encode(), len(partitions)),
            int((since - SKEW_S) * 1_000),
        )
        consumer.assign(consumer.offsets_for_times([place], timeout=REQUEST_TIMEOUT_S))
        while time.monotonic() < until:
            found = _read(consumer.poll(0.1), workflow_id)
            if found is not None and found.status.is_closed:
                return found
    except KafkaException as exception:
        why = in_words(error_of(exception))
        raise InfrastructureError(f"the states in {topic} cannot be read: {why}") from None
    finally:
        consumer.close()
    raise InfrastructureError(f"{topic} has no closed state of {workflow_id} after {timeout_s:g} s")


def _read(message: Any, workflow_id: str) -> WorkflowState | None:
    if message is None:
        return None
    if (error := message.error()) is not None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
            return None
        raise KafkaException(error)
    if message.key() != workflow_id.encode() or message.value() is None:
        return None
    return STATE.decode(message.value(), header_of(message))
