"""Decodes the records that a projector reads."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from perdure.adapters.kafka.namespace.metadata import learn_schemas, read_facts
from perdure.adapters.kafka.settings import of_librdkafka
from perdure.codec.avro import EVENTS, STATE
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.ports.projection import ReadRecords, Topic, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.adapters.kafka.clients.plain import PlainClients

_EVENT_ID: Final = re.compile("[0-9]{1,18}")
REQUEST_TIMEOUT_S: Final = 5.0
RELEARN_AFTER_S: Final = 10.0
"""A schema that is not known is looked for in the meta topic at most this often, seconds."""


class ProjectionDecoder:
    """Decodes states and events; looks up schemas of newer versions.

    Args:
        clients: have the namespace and its settings.
        on_error: called with the current problem, as text.
    """

    def __init__(self, clients: PlainClients, on_error: Callable[[str], None]) -> None:
        self._clients = clients
        self._on_error = on_error
        self._learned_at = -RELEARN_AFTER_S

    def put(
        self,
        topic: Topic,
        number: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        header: bytes | None,
        taken: ReadRecords,
    ) -> None:
        """Decode a record into `taken`: as what it is, or as unreadable."""
        try:
            self._decode(topic, key, value, header, taken)
        except UndecodableRecord as fault:
            if fault.reason == "unknown_schema" and self._has_learned(header):
                self.put(topic, number, offset, key, value, header, taken)
                return
            schema = (header or b"").decode(errors="replace")
            taken.unreadable.append(
                Unreadable(
                    topic,
                    number,
                    offset,
                    reason=fault.reason,
                    message=str(fault),
                    key=key,
                    value=value,
                    schema=schema,
                )
            )

    def _decode(
        self, topic: Topic, key: bytes | None, value: bytes | None, header: bytes | None, taken: ReadRecords
    ) -> None:
        if topic == "events" and value is not None:
            taken.events.append(EVENTS.decode(value, header))
            return
        try:
            name = (key or b"").decode()
        except UnicodeDecodeError as error:
            raise UndecodableRecord("undecodable", f"its key is not text: {error}") from None
        if topic == "state":
            state = STATE.decode(value, header) if value is not None else None
            if state is not None and state.workflow_id != name:
                raise UndecodableRecord(
                    "undecodable", f"it belongs to {state.workflow_id!r}, but its key to {name!r}"
                )
            taken.states[name] = state
            return
        parts = name.rsplit("/", 2)
        if len(parts) != 3 or not _EVENT_ID.fullmatch(parts[2]):
            raise UndecodableRecord("undecodable", f"its key {name!r} is not an event key")
        taken.ended.append((parts[0], parts[1], int(parts[2])))

    def _has_learned(self, header: bytes | None) -> bool:
        """Look into the meta topic for the schema."""
        now = time.monotonic()
        if header is None or now - self._learned_at < RELEARN_AFTER_S:
            return False
        self._learned_at = now
        try:
            learn_schemas(
                read_facts(
                    of_librdkafka(self._clients.settings), self._clients.topic("meta"), REQUEST_TIMEOUT_S
                )
            )
        except (InfrastructureError, KafkaException) as error:
            self._on_error(
                f"the schema {header.decode(errors='replace')} could not be looked up in the meta topic: "
                f"{error}"
            )
            return False
        return EVENTS.knows(header) or STATE.knows(header)
