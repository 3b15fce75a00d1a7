"""Records that workflow code sends to your topics, in the same transaction as the history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from perdure.model.dead_letters import RecordHeader
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from perdure.model.runtime import WorkflowRuntime

TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
"""
KEY_BYTES: Final = 64 * 1024
HEADERS_BYTES: Final = 16 * 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Avro:
    """The Avro schema of a record's value.

    Attributes:
        schema: JSON text.
        id: its id in a schema registry, if any: the value is then framed as Confluent's clients do
            it.
    """

    schema: str
    id: int | None = None


async def produce(
    topic: str,
    value: object,
    *,
    key: str | bytes | None = None,
    headers: Mapping[str, str | bytes] | None = None,
    avro: Avro | None = None,
    cloudevent: str | None = None,
) -> None:
    """Send a record to a topic, exactly once: it is written in the transaction that records it in
    the history, or neither is.

    Returns immediately; a reader with `isolation.level=read_committed` sees it when that
    transaction is committed. A topic that does not exist, or may not be written to, stops nothing:
    the record becomes a dead letter, which `perdure dead-letters retry` sends. On one machine,
    without Kafka, it goes to the table `records`, where triggers of the app find it.

    Args:
        topic: its name.
        value: anything that can be an argument, sent as JSON; `bytes` as they are; None for a
            tombstone.
        key: decides the partition, by the hash of Java's clients (murmur2); without a key, any
            partition is used.
        headers: of the record, beside `content-type`.
        avro: send the value as Avro.
        cloudevent: send it as a CloudEvent 1.0 of this type, in binary mode; its id is unique for
            the run and the record.

    Raises:
        UsageError: this is not workflow code, it only reads, or the topic, key or headers cannot be
            those of a record.
        PayloadError: the value cannot be encoded, or is larger than 1 MiB.
    """
    runtime = current()
    if runtime is None:
        raise misuse("workflow.produce is for workflow code; no run is being executed here.")
    fault = _fault(topic, value, key, cloudevent)
    if fault:
        raise misuse(f"workflow.produce: {fault}.")
    own = _own(headers or {})
    if cloudevent is not None:
        own += _cloudevent(runtime, cloudevent)
    raw_key = key.encode() if isinstance(key, str) else key
    runtime.produce(topic, raw_key, value, own, None if avro is None else (avro.schema, avro.id))


def _fault(topic: Any, value: object, key: object, cloudevent: object) -> str:
    if not isinstance(topic, str) or not TOPIC.fullmatch(topic) or topic in {".", ".."}:
        return f"{topic!r} cannot be a topic: use up to 249 letters, digits, '.', '_' and '-'"
    if key is not None and not isinstance(key, str | bytes):
        return f"the key must be text or bytes, not {type(key).__name__}"
    if value is None and key is None:
        return "a tombstone needs a key: it deletes the record with that key"
    if isinstance(key, str) and not _is_text(key):
        return "the key is not valid Unicode"
    if key is not None and (size := len(key.encode() if isinstance(key, str) else key)) > KEY_BYTES:
        return f"the key is {size} bytes long, the limit is {KEY_BYTES}"
    if cloudevent is not None and (
        not isinstance(cloudevent, str) or not cloudevent or not _is_text(cloudevent)
    ):
        return f"the type of a CloudEvent is text, such as 'com.shop.order.shipped', not {cloudevent!r}"
    return ""


def _own(headers: Mapping[str, str | bytes]) -> list[RecordHeader]:
    found: list[RecordHeader] = []
    for name, value in headers.items():
        if not _is_header(name, value):
            raise misuse(
                f"workflow.produce: the header {name!r} must be text, with text or bytes, not {value!r}."
            )
        found.append(RecordHeader(name, value.encode() if isinstance(value, str) else value))
    if (size := sum(len(each.name.encode()) + len(each.value or b"") for each in found)) > HEADERS_BYTES:
        raise misuse(f"workflow.produce: the headers are {size} bytes long, the limit is {HEADERS_BYTES}.")
    return found


def _cloudevent(runtime: WorkflowRuntime, type: str) -> list[RecordHeader]:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md,
    binary content mode.
    """
    info = runtime.info()
    attributes = {
        "specversion": "1.0",
        "type": type,
        "source": f"/perdure/{quote(info.type, safe='')}",
        "id": f"{info.run_id}/{runtime.records + 1}",
        "subject": info.workflow_id,
        "time": (_EPOCH + timedelta(microseconds=runtime.now_us())).isoformat().replace("+00:00", "Z"),
    }
    return [RecordHeader(f"ce_{name}", value.encode()) for name, value in attributes.items()]


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and _is_text(name)
        and (isinstance(value, bytes) or (isinstance(value, str) and _is_text(value)))
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
