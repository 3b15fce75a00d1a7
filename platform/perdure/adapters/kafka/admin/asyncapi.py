"""The topics of a namespace as an AsyncAPI 3 document, made from their registry and their schemas,
for who reads or writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from perdure import schemas
from perdure.adapters.kafka.namespace.topics import AUDIT, COMMANDS, INGEST, META, Topic, name_of, topics_of
from perdure.codec.avro import HEADER
from perdure.codec.frames import FRAMED

AVRO: Final = "application/vnd.apache.avro;version=1.12.0"
_TITLE: Final = "perdure"
_JSON: Final = {META: "fact", AUDIT: "audit-entry"}
_FOREIGN: Final = {INGEST: "record"}
_FORMS: Final = (
    "With /confluent, five bytes precede the Avro: a NUL, and the id of the schema in the registry. Readers "
    "accept both."
)


def document(namespace: str, queues: Sequence[str]) -> dict[str, Any]:
    """The document, as JSON.

    Args:
        namespace: the prefix of the topics.
        queues: the task queues.

    Raises:
        UsageError: a name cannot be part of a topic's.
    """
    topics = topics_of(queues)
    used = sorted({topic.schema for topic in topics if topic.schema})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"{_TITLE}: {namespace}",
            "version": str(max(schemas.current(name).version for name in used)),
            "description": "Records are written in transactions: read committed. Keys are partitioned by "
            "Kafka's "
            "murmur2.",
        },
        "defaultContentType": AVRO,
        "channels": {_id(topic): _channel(namespace, topic) for topic in topics},
        "operations": {
            f"{_verb(topic)}-{_id(topic)}": _operation(topic) for topic in topics if topic.is_public
        },
        "components": {
            "messages": {
                **{name: _message(name) for name in used},
                **{
                    name: {"contentType": "application/json", "summary": topic.title}
                    for topic, name in _JSON.items()
                },
                **{name: {"summary": topic.title} for topic, name in _FOREIGN.items()},
            },
        },
    }


def _id(topic: Topic) -> str:
    return topic.part.replace(".", "-")


def _verb(topic: Topic) -> str:
    """AsyncAPI operation of other systems on the topic."""
    return "send" if topic is COMMANDS else "receive"


def _operation(topic: Topic) -> dict[str, Any]:
    return {"action": _verb(topic), "channel": {"$ref": f"#/channels/{_id(topic)}"}, "summary": topic.title}


def _channel(namespace: str, topic: Topic) -> dict[str, Any]:
    message = topic.schema or {**_JSON, **_FOREIGN}[topic]
    return {
        "address": name_of(namespace, topic),
        "description": f"{topic.title} Key: {topic.key}.",
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "bindingVersion": "0.5.0",
                "topicConfiguration": {
                    "cleanup.policy": topic.cleanup.split(","),
                    **({"retention.ms": topic.retention_ms} if topic.retention_ms else {}),
                },
            }
        },
    }


def _message(name: str) -> dict[str, Any]:
    schema = schemas.current(name)
    header = schema.header.decode()
    return {
        "name": name,
        "contentType": AVRO,
        "headers": {
            "type": "object",
            "required": [HEADER],
            "properties": {
                HEADER: {"type": "string", "enum": [header, header + FRAMED.decode()], "description": _FORMS}
            },
        },
        "payload": {"schemaFormat": AVRO, "schema": schema.parsed()},
        "bindings": {"kafka": {"bindingVersion": "0.5.0", "key": {"type": "string"}}},
    }
