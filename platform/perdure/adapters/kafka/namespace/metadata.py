"""Facts about a namespace that Kafka itself cannot store, in the compacted topic
`<namespace>.meta`, one partition, JSON.

- `topics`: the topics as they were made (`Made`): partition counts, which are frozen, and topic
  ids, by which one that was deleted and made again is recognised.
- `owner`: the deployment that the topics belong to (`owner.py`); none when `perdure topics apply`
  was never given one.
- `schema/<name>/<version>/<fingerprint>`: each schema that the namespace's processes write, the
  .avsc itself. A process that finds a record of an unknown schema looks here.
- `schema-id/<name>/<version>/<fingerprint>`: its id in the schema registry, when there is one
  (`framing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from perdure import schemas
from perdure.adapters.kafka.callbacks import as_raised
from perdure.codec.avro import WIRES
from perdure.errors import InfrastructureError

TOPICS: Final = "topics"
OWNER: Final = "owner"
SCHEMA: Final = "schema/"
SCHEMA_ID: Final = "schema-id/"
_ANSWER_S: Final = 30.0


class MadeTopic(msgspec.Struct, frozen=True):
    """A topic as it was made.

    Attributes:
        partitions: their number, frozen.
        id: Kafka's.
    """

    partitions: int
    id: str


class Made(msgspec.Struct, frozen=True):
    """The topics as created by `perdure topics apply`.

    Attributes:
        replication: replicas of every topic.
        topics: by what follows the namespace and a dot.
    """

    replication: int
    topics: dict[str, MadeTopic]


def read_facts(settings: Mapping[str, Any], topic: str, answer_s: float = _ANSWER_S) -> dict[str, bytes]:
    """All facts, by name.

    Args:
        settings: of librdkafka.
        topic: `<namespace>.meta`, which must exist.
        answer_s: how long to wait for Kafka.

    Raises:
        InfrastructureError: it cannot be read.
    """
    ours = {
        "group.id": topic,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({**settings, **ours})
    facts: dict[str, bytes] = {}
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message: Any = consumer.poll(answer_s)
            if message is None:
                raise InfrastructureError(f"topic {topic} could not be read within {answer_s:.0f} s")
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  so named by the client
                    return facts
                raise InfrastructureError(f"topic {topic} cannot be read: {error.str()}")
            name, fact = (message.key() or b"").decode(errors="replace"), message.value()
            if fact is None:
                facts.pop(name, None)
            else:
                facts[name] = fact
    finally:
        consumer.close()


def write_facts(settings: Mapping[str, Any], topic: str, facts: Mapping[str, bytes]) -> None:
    """Write facts; returns when they are durable.

    Raises:
        InfrastructureError: one is not.
    """
    faults: list[str] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            faults.append(error.str())

    producer = Producer({**settings, "acks": "all"})
    try:
        for name, fact in facts.items():
            producer.produce(topic, fact, name, on_delivery=as_raised(delivered))
        missing = producer.flush(_ANSWER_S)
    except KafkaException as error:
        raise InfrastructureError(f"topic {topic} cannot be written: {error}") from None
    if faults or missing:
        raise InfrastructureError(f"topic {topic} cannot be written: {faults[0] if faults else 'no answer'}")


def made_of(facts: Mapping[str, bytes]) -> Made | None:
    """The topics as recorded; None: nothing is recorded.

    Raises:
        InfrastructureError: the fact is damaged.
    """
    fact = facts.get(TOPICS)
    try:
        return None if fact is None else msgspec.json.decode(fact, type=Made)
    except msgspec.MsgspecError as error:
        raise InfrastructureError(
            f"the fact {TOPICS!r} of the namespace's meta topic cannot be read: {error}"
        ) from None


def owner_of(facts: Mapping[str, bytes]) -> str:
    """The deployment that the topics belong to; empty: none is recorded."""
    return facts.get(OWNER, b"").decode(errors="replace")


def facts_of(made: Made, owner: str = "") -> dict[str, bytes]:
    """The facts that the meta topic should hold: topics, owner if any, and this version's
    schemas.
    """
    written = {
        SCHEMA + schema.header.decode(): schema.text.encode()
        for schema in map(schemas.current, schemas.NAMES)
    }
    owned = {OWNER: owner.encode()} if owner else {}
    return {TOPICS: msgspec.json.format(msgspec.json.encode(made)), **owned, **written}


def facts_of_ids(ids: Mapping[str, int]) -> dict[str, bytes]:
    """Ids of schemas in the registry.

    Args:
        ids: by header.
    """
    return {SCHEMA_ID + header: str(number).encode() for header, number in ids.items()}


def ids_of(facts: Mapping[str, bytes]) -> dict[str, int]:
    """By header, the ids that are recorded."""
    return {
        name.removeprefix(SCHEMA_ID): int(fact)
        for name, fact in facts.items()
        if name.startswith(SCHEMA_ID) and fact.isdigit() and len(fact) < 20
    }


def learn_schemas(facts: Mapping[str, bytes]) -> None:
    """Teach the wires every schema of the facts that they do not know."""
    for name, fact in facts.items():
        header = name.removeprefix(SCHEMA).encode()
        wire = WIRES.get(header.decode().partition("/")[0])
        if name.startswith(SCHEMA) and wire is not None and not wire.knows(header):
            wire.learn(header, fact.decode())
