"""Identity of a topic: a name may be reused when a topic is deleted and created again, an id may
not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status

REQUEST_TIMEOUT_S: Final = 2.0
RETRY_AFTER_S: Final = 0.2


def identity_of_events(clients: EngineClients, status: Status, is_given_up: Callable[[float], bool]) -> str:
    """The events topic of a namespace, as text: cluster, topic id, namespace. Waits for the broker
    and the topic, and reports the reason.

    Args:
        clients: makes the client.
        status: records waits.
        is_given_up: waits for some seconds; True ends the wait.

    Raises:
        InfrastructureError: it was given up.
    """
    topic = f"{clients.namespace}.events"

    def on_trouble(message: str) -> None:
        status.trouble = message

    admin: Any = clients.admin(on_trouble)
    while True:
        try:
            cluster = (
                admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S).result(REQUEST_TIMEOUT_S).cluster_id
            )
            found = admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_TIMEOUT_S)[
                topic
            ].result(REQUEST_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            waits_for = f"an answer about topic {topic}"
            if isinstance(error, KafkaException):
                status.trouble = in_words(error_of(error))
                if error_of(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    waits_for = f"topic {topic}, which does not exist (perdure topics apply)"
            status.waits(waits_for)
        else:
            status.clear_wait()
            return f"{cluster}/{found.topic_id}/{clients.namespace}"
        if is_given_up(RETRY_AFTER_S):
            raise InfrastructureError(f"stopped while waiting for the broker ({status.trouble})")
