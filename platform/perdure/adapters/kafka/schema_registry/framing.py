"""Records framed by the id of their schema, for readers that know a schema registry and not us
(`codec.frames`).

The ids are in `<namespace>.meta`, since `perdure topics apply` has registered the schemas.
Producers frame; what is read may be framed or not, always, so that it can be switched on and off
while everything runs. Without the setting `schema.registry.url` there is no `FramingProducer`, and
nothing here is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from perdure import schemas
from perdure.adapters.kafka.namespace.metadata import ids_of, read_facts
from perdure.adapters.kafka.namespace.topics import META, name_of
from perdure.adapters.kafka.schema_registry.client import Registry, RegistryDown, registry_of
from perdure.adapters.kafka.settings import of_librdkafka
from perdure.codec.avro import HEADER
from perdure.codec.frames import FRAMED, frame
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.adapters.kafka.status import Status

RETRY_AFTER_S: Final = 0.5
ANSWER_S: Final = 5.0
"""For the meta topic: an engine asks again, a client writes without frames; seconds."""


class Framing:
    """Framing of a process's producers.

    Args:
        namespace: the prefix of the topics.
        settings: of librdkafka, and of the registry.

    Attributes:
        is_on: whether a registry is named. Until `load`, records are written without frames all the
            same.
    """

    def __init__(self, namespace: str, settings: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._settings = of_librdkafka(settings)
        self._address = registry_of(settings)
        self.is_on = self._address is not None
        self._frames: dict[bytes, tuple[bytes, tuple[str, bytes]]] = {}

    def framed(self, value: bytes, header: bytes) -> tuple[bytes, tuple[str, bytes]] | None:
        """A record with its frame, and its header then; None: it stays as it is."""
        found = self._frames.get(header)
        return None if found is None else (found[0] + value, found[1])

    def load(self) -> None:
        """Frame from now on, by the ids of the meta topic. Does nothing when it is off, or done.

        Raises:
            InfrastructureError: the topic cannot be read, or has no ids.
        """
        if not self.is_on or self._frames:
            return
        self._take(self._ids())

    def load_or_tell(self, on_trouble: Callable[[str], None]) -> None:
        """Like `load`, but only reports errors; records stay unframed, which every engine can
        read.
        """
        try:
            self.load()
        except InfrastructureError as error:
            on_trouble(str(error))

    def open(self, status: Status, is_given_up: Callable[[float], bool]) -> None:
        """As `load`, when the registry has the same schemas under these ids. Waits for it and for
        the ids, and reports the reason.

        Args:
            status: records waits.
            is_given_up: waits for some seconds; True ends the wait.

        Raises:
            InfrastructureError: the registry has other schemas, or denies access; or the wait was
                given up.
        """
        if self._address is None:
            return
        registry = Registry(self._address, tries=1)
        while True:
            try:
                ids = self._ids()
            except InfrastructureError as error:
                status.waits(str(error))
            else:
                try:
                    if faults := faults_of(registry, ids):
                        raise InfrastructureError("; ".join(faults))
                except RegistryDown as error:
                    status.waits(str(error))
                else:
                    status.clear_wait()
                    self._take(ids)
                    return
            if is_given_up(RETRY_AFTER_S):
                raise InfrastructureError(f"stopped while waiting: {status.waiting_for}")

    def _ids(self) -> dict[str, int]:
        topic = name_of(self._namespace, META)
        try:
            ids = ids_of(read_facts(self._settings, topic, ANSWER_S))
        except KafkaException as error:
            raise InfrastructureError(f"topic {topic} cannot be read: {error}") from None
        if missing := sorted(_headers() - ids.keys()):
            raise InfrastructureError(
                f"topic {topic} has no id for {', '.join(missing)}: `perdure topics apply --set "
                "schema.registry.url=…` registers them"
            )
        return ids

    def _take(self, ids: Mapping[str, int]) -> None:
        self._frames = {
            header.encode(): (frame(number), (HEADER, header.encode() + FRAMED))
            for header, number in ids.items()
        }


class FramingProducer(Producer):
    """A producer of records that are framed when their header is one of ours.

    Args:
        config: of librdkafka.
        framing: how.
    """

    def __init__(self, config: dict[str, Any], framing: Framing) -> None:
        super().__init__(config)
        self._framing = framing

    def produce(  # type: ignore[override]
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int = -1,
        on_delivery: Any = None,
        *,
        headers: Any = None,
    ) -> None:
        if value is not None and headers:
            for index, (name, header) in enumerate(headers):
                if name == HEADER and (found := self._framing.framed(value, header)) is not None:
                    value, headers = found[0], [*headers[:index], found[1], *headers[index + 1 :]]
                    break
        super().produce(topic, value, key, partition, on_delivery, headers=headers)


def producer_of(config: dict[str, Any], framing: Framing) -> Producer:
    """One that frames when that is on."""
    return FramingProducer(config, framing) if framing.is_on else Producer(config)


def faults_of(registry: Registry, ids: Mapping[str, int]) -> list[str]:
    """Schemas that the registry does not have under their ids, as text.

    Raises:
        InfrastructureError: it does not answer, or denies access.
    """
    faults: list[str] = []
    for header in sorted(_headers() & ids.keys()):
        found = registry.schema_of(ids[header])
        name, version, fingerprint = header.split("/")
        if found is None or schemas.Schema(name, int(version), found).fingerprint != fingerprint:
            which = "no schema" if found is None else "another schema"
            faults.append(
                f"the registry at {registry.url} has {which} under {ids[header]}, the id of {header}: is it "
                "the registry that "
                "`perdure topics apply` used? Apply again to register there"
            )
    return faults


def _headers() -> set[str]:
    return {schemas.current(name).header.decode() for name in schemas.NAMES}
