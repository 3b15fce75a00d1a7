"""CloudEvents 1.0 in Kafka records, both modes.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

STRUCTURED: Final = "application/cloudevents+json"
PREFIX: Final = "ce_"


class CloudEvent(msgspec.Struct, Generic[T], frozen=True):
    """An event with its context, for `workflow.trigger(topic, CloudEvent[Order], …)`.

    Attributes:
        id: unique for its source.
        source: URI reference of who says so.
        type: what has happened.
        data: the value.
        subject: what it is about.
        time: when.
    """

    id: str
    source: str
    type: str
    data: T
    subject: str = ""
    time: datetime | None = None


class Parts(msgspec.Struct, frozen=True):
    """A CloudEvent taken apart.

    Attributes:
        attributes: by name, without a prefix.
        content_type: of the data; empty: it is JSON already.
        data: its bytes.
    """

    attributes: dict[str, Any]
    content_type: str
    data: bytes | None


class _Structured(msgspec.Struct):
    id: str
    source: str
    specversion: str
    type: str
    subject: str = ""
    time: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    data_base64: str | None = None
    datacontenttype: str = "application/json"


def parts_of(value: bytes | None, headers: Mapping[str, bytes]) -> Parts | None:
    """The parts; None: the record is no CloudEvent.

    Args:
        value: of the record.
        headers: names in lower case.

    Raises:
        ValueError: it says that it is one, and is none.
    """
    content_type = headers.get("content-type", b"").decode(errors="replace").partition(";")[0].strip().lower()
    if content_type == STRUCTURED:
        try:
            found = msgspec.json.decode(value or b"", type=_Structured)
        except msgspec.MsgspecError as error:
            raise ValueError(f"it is not a structured CloudEvent: {error}") from None
        data = b64decode(found.data_base64) if found.data_base64 is not None else bytes(found.data)
        kept = {
            "id": found.id,
            "source": found.source,
            "type": found.type,
            "subject": found.subject,
            "time": found.time,
        }
        return Parts(
            kept, found.datacontenttype if found.data_base64 is not None else "application/json", data
        )
    if f"{PREFIX}specversion" not in headers:
        return None
    attributes: dict[str, Any] = {
        name.removeprefix(PREFIX): text.decode(errors="replace")
        for name, text in headers.items()
        if name.startswith(PREFIX)
    }
    if missing := [name for name in ("id", "source", "type") if not attributes.get(name)]:
        raise ValueError(f"it is a CloudEvent without {PREFIX}{missing[0]}")
    return Parts(attributes, content_type, value)
