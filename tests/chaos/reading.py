"""Reads the topics of a namespace from their beginning, as no member of any group."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import confluent_kafka.admin as kafka_admin
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from perdure.adapters.kafka.records import header_of
from tests.chaos.contents import Commit, Contents, Found, Place, places_of

REQUEST_TIMEOUT_S: Final = 20.0
OFFSETS: Final = "__consumer_offsets"
END_OF_PARTITION: Final[Any] = KafkaError._PARTITION_EOF
EARLIEST: Final = cast("Any", kafka_admin).OffsetSpec.earliest()
LATEST: Final = cast("Any", kafka_admin).OffsetSpec.latest()
PARTS: Final = ("commands", "events", "state", "replies", "dead-letters")


def read(namespace: str, settings: Mapping[str, str]) -> Contents:
    """The current contents.

    Args:
        namespace: prefix of the topics.
        settings: of librdkafka, bootstrap.servers among them.

    Raises:
        KafkaException: the broker does not answer, or refuses.
    """
    admin = AdminClient({**settings, "log_level": "0"})
    found = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    partitions = {
        name.removeprefix(f"{namespace}."): len(topic.partitions)
        for name, topic in found.items()
        if name.startswith(f"{namespace}.") and topic.error is None
    }
    partitions = {
        part: count for part, count in partitions.items() if part in PARTS or part.startswith("tasks.")
    }
    if "commands" not in partitions:
        raise SystemExit(f"there are no topics of a namespace {namespace!r}")
    contents = Contents([], partitions)
    places = places_of(contents, partitions)
    contents.lows = _offsets(admin, namespace, places, EARLIEST, IsolationLevel.READ_UNCOMMITTED)
    contents.engine_offsets = {
        place[1]: offset
        for place, offset in _committed(
            settings, namespace, f"{namespace}.engine", places_of(contents, ["commands"])
        ).items()
    }
    for topic in partitions:
        if topic.startswith("tasks."):
            group = f"{namespace}.worker.{topic.removeprefix('tasks.')}"
            contents.task_offsets |= _committed(settings, namespace, group, places_of(contents, [topic]))
    contents.records = _records(namespace, settings, places)
    contents.stable_ends = _offsets(admin, namespace, places, LATEST, IsolationLevel.READ_COMMITTED)
    contents.ends = _offsets(admin, namespace, places, LATEST, IsolationLevel.READ_UNCOMMITTED)
    contents.read_at_us = time.time_ns() // 1_000
    if OFFSETS in found:
        contents.commits = _commits(settings, f"{namespace}.engine", len(found[OFFSETS].partitions))
    else:
        contents.notes.append(
            f"{OFFSETS} is not there or may not be read: whether committed offsets went back cannot be told"
        )
    return contents


def _offsets(
    admin: Any, namespace: str, places: list[Place], spec: Any, isolation: IsolationLevel
) -> dict[Place, int]:
    asked = {TopicPartition(f"{namespace}.{topic}", partition): spec for topic, partition in places}
    answers = admin.list_offsets(asked, isolation_level=isolation, request_timeout=REQUEST_TIMEOUT_S)
    return {
        (each.topic.removeprefix(f"{namespace}."), each.partition): answer.result(REQUEST_TIMEOUT_S).offset
        for each, answer in answers.items()
    }


def _committed(
    settings: Mapping[str, str], namespace: str, group: str, places: list[Place]
) -> dict[Place, int]:
    """Without the partitions that have no offset yet. Not asked of an admin client:
    `EngineClients.offsets` says why."""
    consumer = Consumer(
        {**settings, "group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False}
    )
    try:
        found: list[Any] = consumer.committed(
            [TopicPartition(f"{namespace}.{topic}", each) for topic, each in places],
            timeout=REQUEST_TIMEOUT_S,
        )
    finally:
        consumer.close()
    if errors := [each.error for each in found if each.error is not None]:
        raise KafkaException(errors[0])
    return {
        (each.topic.removeprefix(f"{namespace}."), each.partition): each.offset
        for each in found
        if each.offset >= 0
    }


def _records(namespace: str, settings: Mapping[str, str], places: list[Place]) -> list[Found]:
    wanted = [TopicPartition(f"{namespace}.{topic}", partition, 0) for topic, partition in places]
    return [
        Found(
            message.topic().removeprefix(f"{namespace}."),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            header_of(message),
            message.timestamp()[1],
        )
        for message in _messages(settings, wanted)
    ]


def _messages(settings: Mapping[str, str], wanted: list[TopicPartition]) -> list[Any]:
    """Every committed record of the partitions, up to where each ends when that is reached."""
    consumer = Consumer(
        {
            **settings,
            "group.id": "perdure-checker",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        consumer.assign(wanted)
        found, ended = list[Any](), set[tuple[str, int]]()
        deadline = time.monotonic() + 3 * REQUEST_TIMEOUT_S
        while len(ended) < len(wanted):
            for message in consumer.consume(5_000, 0.2):
                each: Any = message
                error = each.error()
                if error is None:
                    found.append(each)
                elif error.code() == END_OF_PARTITION:
                    ended.add((each.topic(), each.partition()))
                elif not error.retriable():
                    raise KafkaException(error)
                deadline = time.monotonic() + 3 * REQUEST_TIMEOUT_S
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(wanted) - len(ended)} partitions could not be read to their end")
        return found
    finally:
        consumer.close()


# ---- what the group coordinator has written down


def _commits(settings: Mapping[str, str], group: str, partitions: int) -> list[Commit]:
    """Every commit of the group that has not been compacted away, in order."""
    place = abs(java_hash(group)) % partitions
    found = (
        commit_of(group, each.key(), each.value())
        for each in _messages(settings, [TopicPartition(OFFSETS, place, 0)])
    )
    return [commit for commit in found if commit is not None]


def commit_of(group: str, key: bytes | None, value: bytes | None) -> Commit | None:
    """The commit in a record of the offsets topic (`OffsetCommitKey`, `OffsetCommitValue` of
    Kafka's group coordinator); None when it is of something else.
    """
    if key is None or value is None or struct.unpack_from(">h", key)[0] not in (0, 1):
        return None
    its_group, at = _text(key, 2)
    topic, at = _text(key, at)
    if its_group != group or not topic.endswith(".commands"):
        return None
    (partition,) = struct.unpack_from(">i", key, at)
    version, offset = struct.unpack_from(">hq", value)
    at = 10 + (4 if version >= 3 else 0)
    owner = _compact_text(value, at) if version >= 4 else _text(value, at)[0]
    return Commit(partition, offset, owner)


def _text(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + size].decode(), at + 2 + size


def _compact_text(data: bytes, at: int) -> str:
    size, shift = 0, 0
    while True:
        size |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return data[at : at + size - 1].decode()


def java_hash(text: str) -> int:
    """`String.hashCode` of ASCII text."""
    value = 0
    for each in text.encode():
        value = (31 * value + each) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
