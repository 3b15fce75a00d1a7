"""Dead letters of a namespace: `ports.dead_letters.DeadLetters` on `<namespace>.dead-letters`.

The topic itself is never edited. That a letter was retried or dropped is recorded in
`<namespace>.meta`, under the key `dead-letter/<partition>/<offset>`. A retried record and its fact
are written in one transaction.

A record of another system's topic is not written to that topic again, since other systems read it,
too. It goes to `<namespace>.ingest`, with its original place in a header, and the triggers get it
again. If the letter lacks the record's value, it is read from the original place, as long as it
exists.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from perdure.adapters.kafka.admin.retried import Place, Retried
from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.engine.author_records import FORBIDDEN, NO_TOPIC, REFUSED
from perdure.adapters.kafka.error_classes import ErrorClass, class_of, error_of, in_words
from perdure.adapters.kafka.headers import headers_left
from perdure.adapters.kafka.namespace.metadata import learn_schemas, read_facts
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.namespace.topics import COMMANDS as COMMANDS_TOPIC
from perdure.adapters.kafka.namespace.topics import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from perdure.adapters.kafka.namespace.topics import INGEST, META, RECORD_BYTES, name_of
from perdure.adapters.kafka.reachability import watched
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.codec.avro import COMMANDS, DEAD_LETTERS, HEADER
from perdure.errors import InfrastructureError, UndecodableRecord, UsageError
from perdure.model.commands import AnyCommand
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.ports.dead_letters import (
    LetterPage,
    OpenLetter,
    Outcome,
    RetriedRecord,
    preview,
    size_of,
    without_client,
)
from perdure.triggers.binding import Source
from perdure.triggers.decoding import TOMBSTONE
from perdure.triggers.offering import offered_headers

FACT: Final = "dead-letter/"
ANSWER_S: Final = 30.0
_ID: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")

_Record = tuple[str, bytes | None, bytes | str | None, int, list[Any]]
"""Topic, value, key, partition (-1: any), headers."""


class KafkaDeadLetters:
    """The dead letters of a namespace.

    Args:
        namespace: the prefix of its topics.
        settings: of librdkafka: `bootstrap.servers`, security and what else is not ours.

    Raises:
        UsageError: a setting is ours, or the namespace cannot be part of a topic's name.
        InfrastructureError: a setting is wrong.
    """

    def __init__(self, namespace: str, settings: Mapping[str, object]) -> None:
        self._namespace = namespace
        self._commands = name_of(namespace, COMMANDS_TOPIC)
        self._topic = name_of(namespace, DEAD_LETTERS_TOPIC)
        self._meta = name_of(namespace, META)
        self._ingest = name_of(namespace, INGEST)
        self._settings: dict[str, Any] = {**of_librdkafka(checked(settings)), **watched(settings)}
        self._stale: list[str] = []
        self._before: dict[int, int] = {}
        self._again: dict[str, Place] = {}
        try:
            self._admin: Any = AdminClient({**self._settings})
        except KafkaException as exception:
            raise InfrastructureError(f"invalid Kafka setting: {in_words(error_of(exception))}") from None

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """The open letters, partition by partition."""
        begin = _place_of(after) if after else (0, -1)
        partitions = self._count_of(self._topic)
        done = self._done()
        letters: list[OpenLetter] = []
        self._stale = []
        with self._reading() as consumer:
            for partition in range(partitions):
                low, high = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), ANSWER_S)
                self._stale += [FACT + place for place in done if _is_before(place, partition, low)]
                first = low if partition > begin[0] else max(low, begin[1] + 1)
                if partition < begin[0] or first >= high or len(letters) > limit:
                    continue
                for record in _records(consumer, self._topic, partition, first):
                    place = f"{partition}/{record.offset()}"
                    if place not in done:
                        letters.append(preview(place, _opened(self._topic, partition, record)))
                    if len(letters) > limit:
                        break
        return LetterPage(letters[:limit], letters[limit - 1].id if len(letters) > limit else "")

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The complete letters with these ids."""
        found: list[OpenLetter] = []
        partitions, done = self._count_of(self._topic), self._done()
        with self._reading() as consumer:
            for each in ids:
                if each in done or not _ID.fullmatch(each):
                    continue
                partition, offset = _place_of(each)
                if (
                    partition < partitions
                    and (record := _record_at(consumer, self._topic, partition, offset)) is not None
                ):
                    letter = _opened(self._topic, partition, record)
                    if self._is_of_others(letter):
                        letter = _with_source(self._settings, self._topic, letter)
                    found.append(OpenLetter(each, letter, size_of(letter)))
        return found

    def _done(self) -> set[str]:
        """The ids of letters that were retried or dropped."""
        self._count_of(self._meta)
        facts = read_facts(self._settings, self._meta)
        learn_schemas(facts)
        return {name.removeprefix(FACT) for name in facts if name.startswith(FACT)}

    @contextmanager
    def _reading(self) -> Generator[Any]:
        consumer = Consumer({**self._settings, **_READING, "group.id": self._topic})
        try:
            yield consumer
        except KafkaException as exception:
            raise InfrastructureError(
                f"topic {self._topic} cannot be read: {in_words(error_of(exception))}"
            ) from None
        finally:
            consumer.close()

    def fault_of(self, letter: OpenLetter) -> str:
        """Why a retry cannot succeed now; empty: it may."""
        found = letter.letter
        is_task = found.topic.startswith(f"{self._namespace}.tasks.")
        is_produced = found.reason in {NO_TOPIC, REFUSED} and not is_task and found.offset < 0
        if self._is_of_others(found):
            return self._fault_of_offer(found)
        if found.value is None and not is_produced:
            return "its value was not kept; it can only be dropped"
        if found.topic == self._commands:
            try:
                _command_of(found)
            except UndecodableRecord as error:
                return (
                    f"it still cannot be read ({error}); `perdure topics apply` of the version that wrote "
                    "it may help, or drop it"
                )
            return ""
        if is_produced:
            return (
                ""
                if self._count_of(found.topic, is_needed=False)
                else f"topic {found.topic} does not exist: create it"
            )
        if found.reason == FORBIDDEN:
            return f"workflow code may not write to {found.topic}; it can only be dropped"
        if not is_task:
            return f"it was found in {found.topic}, a topic that perdure does not write to"
        if not self._count_of(found.topic, is_needed=False):
            return f"topic {found.topic} does not exist; create it with `perdure topics apply --queue …`"
        return ""

    def retry(self, letters: Sequence[OpenLetter]) -> dict[str, RetriedRecord]:
        """Write letters back to their topics: commands under the key and on the partition of their
        workflow id, other records under their original key.
        """
        partitions = self._count_of(self._commands)
        with self._reading() as consumer:
            for partition in range(self._count_of(self._topic)):
                if partition not in self._before:
                    place = TopicPartition(self._topic, partition)
                    self._before[partition] = consumer.get_watermark_offsets(place, ANSWER_S)[1]
        records: list[_Record] = []
        for letter in letters:
            found = letter.letter
            headers: list[Any] = [(header.name, header.value) for header in found.headers]
            if self._is_of_others(found):
                records.append(self._offer(found))
            elif found.topic == self._commands:
                records.append(_retried_command(found, headers, partitions))
            else:
                records.append((found.topic, found.value, found.key, -1, headers))
        puts = self._write(records, letters, "retried")
        for letter, put in zip(letters, puts, strict=True):
            is_of_others = self._is_of_others(letter.letter)
            first = letter.letter
            self._again[letter.id] = (
                (first.topic, first.partition, first.offset)
                if is_of_others
                else (put.topic, put.partition, put.offset)
            )
        return {letter.id: put for letter, put in zip(letters, puts, strict=True)}

    def failed_again(self, retried: Mapping[str, RetriedRecord], within_s: float) -> Outcome:
        """Wait until the engines and triggers, if any, have processed the retried records."""
        groups = {self._commands: f"{self._namespace}.engine", self._ingest: f"{self._namespace}.ingest"}
        looking = Retried(
            self._commands,
            groups,
            has_members=partial(_has_members, self._admin),
            consumer=partial(_of_group, self._settings),
            letters_after=partial(_letters_after, self._reading, self._topic, self._before),
        )
        places = {each: self._again[each] for each in retried if each in self._again}
        try:
            return looking.outcome(retried, places, within_s)
        except KafkaException as exception:
            raise InfrastructureError(
                f"they are retried; what became of them cannot be read: {in_words(error_of(exception))}"
            ) from None

    def _is_of_others(self, letter: DeadLetter) -> bool:
        """Whether the letter is of a trigger."""
        return letter.offset >= 0 and not letter.topic.startswith(f"{self._namespace}.")

    def _fault_of_offer(self, letter: DeadLetter) -> str:
        if not self._count_of(self._ingest, is_needed=False):
            return f"topic {self._ingest} does not exist; create it with `perdure topics apply`"
        if (
            letter.value is None
            and letter.reason != TOMBSTONE
            and _found_at(self._settings, self._topic, letter) is None
        ):
            return f"the record is no longer in {letter.topic}; it can only be dropped"
        return ""

    def _offer(self, letter: DeadLetter) -> _Record:
        headers: list[tuple[str, bytes | None]] = [(header.name, header.value) for header in letter.headers]
        key, value = letter.key, letter.value
        if value is None and (found := _found_at(self._settings, self._topic, letter)) is not None:
            key, value, headers = found.key(), found.value(), headers_left(found)
        source = Source(letter.topic, letter.partition, letter.offset, key, value, headers)
        return (self._ingest, value, key, -1, offered_headers(source))

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Mark letters as dropped. The records stay in the topic until its retention ends."""
        self._write([], letters, "dropped")

    def _write(
        self, records: Sequence[_Record], letters: Sequence[OpenLetter], became: str
    ) -> list[RetriedRecord]:
        """Write everything in one transaction, and return where the records are."""
        fact = msgspec.json.encode({"became": became, "at_ms": time.time_ns() // 1_000_000})
        facts: list[_Record] = [(self._meta, fact, f"{FACT}{letter.id}", 0, []) for letter in letters]
        # their letters' retention has ended
        swept: list[_Record] = [(self._meta, None, name, 0, []) for name in self._stale]
        producer = Producer({**self._settings, **_WRITING, "transactional.id": f"{self._topic}.cli"})
        written: list[int] = []
        puts: dict[int, RetriedRecord] = {}

        def delivered(error: KafkaError | None, record: Any, number: int) -> None:
            if error is not None:
                return
            if record.topic() == self._meta:
                written.append(record.offset())
            elif number < len(records):
                puts[number] = RetriedRecord(record.topic(), record.partition(), record.offset())

        try:
            producer.init_transactions(ANSWER_S)
            producer.begin_transaction()
            for number, (topic, value, key, partition, headers) in enumerate((*records, *facts, *swept)):
                told = as_raised(partial(delivered, number=number))
                producer.produce(topic, value, key, partition, on_delivery=told, headers=headers)
            _commit(producer)
        except KafkaException as exception:
            error = error_of(exception)
            if class_of(error) is ErrorClass.ABORT:
                producer.abort_transaction(ANSWER_S)
            raise InfrastructureError(
                f"nothing was {became}: {in_words(error)}; is another `perdure dead-letters` running? Retry."
            ) from None
        _await_visible(self._settings, self._meta, max(written))
        return [puts[number] for number in range(len(records))]

    def _count_of(self, topic: str, *, is_needed: bool = True) -> int:
        """Number of partitions of a topic.

        Raises:
            InfrastructureError: Kafka does not answer, or a topic that is needed is not there.
        """
        try:
            found: Any = self._admin.list_topics(topic, timeout=ANSWER_S).topics.get(topic) if topic else None
        except KafkaException as exception:
            raise InfrastructureError(f"Kafka does not respond: {in_words(error_of(exception))}") from None
        count = 0 if found is None or found.error is not None else len(found.partitions)
        if is_needed and not count:
            raise InfrastructureError(f"topic {topic} does not exist; create it with `perdure topics apply`")
        return count


_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 4_096,  # a page is read, not a topic
    "fetch.message.max.bytes": 1_048_576,
    "allow.auto.create.topics": False,
}
_WRITING: Final[dict[str, Any]] = {"partitioner": "murmur2", "message.max.bytes": RECORD_BYTES}


def _has_members(admin: Any, group: str) -> bool:
    try:
        answers: Any = admin.describe_consumer_groups([group], request_timeout=ANSWER_S)
        return bool(answers[group].result().members)
    except KafkaException:
        return False


def _with_source(settings: dict[str, Any], group: str, letter: DeadLetter) -> DeadLetter:
    """Complete the letter of a refused trigger command, which has only the place of the record:
    key, value and headers are read from there, as long as the record exists.
    """
    if letter.value is not None or letter.key is not None:
        return letter
    if letter.reason == TOMBSTONE or (record := _found_at(settings, group, letter)) is None:
        return letter
    headers = tuple(RecordHeader(name, value) for name, value in headers_left(record))
    return msgspec.structs.replace(
        letter, key=_bytes(record.key()), value=_bytes(record.value()), headers=headers
    )


def _letters_after(
    reading: Callable[[], AbstractContextManager[Any]], topic: str, ends: Mapping[int, int]
) -> list[DeadLetter]:
    """Those that were written after these offsets, by partition."""
    with reading() as consumer:
        return [
            _opened(topic, partition, record)
            for partition, first in ends.items()
            for record in _records(consumer, topic, partition, first)
        ]


def _of_group(settings: dict[str, Any], config: dict[str, Any]) -> Consumer:
    """A consumer for the committed offsets of a group, without being a member."""
    return Consumer({**settings, **_READING, "isolation.level": "read_uncommitted", **config})


def _await_visible(settings: dict[str, Any], meta: str, offset: int) -> None:
    """A commit returns a moment before readers see its records: wait until they do."""
    consumer = Consumer({**settings, **_READING, "group.id": meta})
    until = time.monotonic() + ANSWER_S
    try:
        while consumer.get_watermark_offsets(TopicPartition(meta, 0), ANSWER_S)[1] <= offset:
            if time.monotonic() > until:
                return
            time.sleep(0.01)
    except KafkaException:
        return  # it is durable; that is enough
    finally:
        consumer.close()


def _found_at(settings: dict[str, Any], group: str, letter: DeadLetter) -> Any:
    """The record itself, where it was found; None: it is not there any more."""
    place = TopicPartition(letter.topic, letter.partition, letter.offset)
    consumer = Consumer({**settings, **_READING, "group.id": group})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(letter.topic, letter.partition), ANSWER_S)
        if not low <= letter.offset < high:
            return None
        consumer.assign([place])
        record: Any = consumer.poll(ANSWER_S)
        return (
            record
            if record is not None and record.error() is None and record.offset() == letter.offset
            else None
        )
    except KafkaException:
        return None
    finally:
        consumer.close()


def _records(consumer: Any, topic: str, partition: int, first: int) -> Iterator[Any]:
    """The records of a partition, from an offset to where it ends now."""
    consumer.assign([TopicPartition(topic, partition, first)])
    while True:
        record = consumer.poll(ANSWER_S)
        if record is None:
            raise InfrastructureError(f"topic {topic} could not be read within {ANSWER_S:.0f} s")
        if (error := record.error()) is None:
            yield record
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  so named by the client
            return
        else:
            raise KafkaException(error)


def _record_at(consumer: Any, topic: str, partition: int, offset: int) -> Any:
    """The record there; None: there is none."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), ANSWER_S)
    record = next(_records(consumer, topic, partition, offset), None) if low <= offset < high else None
    return record if record is not None and record.offset() == offset else None


def _opened(topic: str, partition: int, record: Any) -> DeadLetter:
    """The fields of a record; if it cannot be read, the record itself."""
    offset, timestamp_ms = record.offset(), record.timestamp()[1]
    try:
        return DEAD_LETTERS.decode(record.value() or b"", dict(headers_left(record)).get(HEADER))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the others can be read
        reason = error.reason if isinstance(error, UndecodableRecord) else "undecodable"
        key, value = _bytes(record.key()), _bytes(record.value())
        return DeadLetter(
            topic,
            partition,
            offset,
            timestamp_ms=timestamp_ms,
            reason=reason,
            message=str(error),
            found_at=timestamp_ms * 1_000,
            key=key,
            value=value,
        )


def _bytes(data: bytes | str | None) -> bytes | None:
    return data.encode(errors="surrogateescape") if isinstance(data, str) else data


def _place_of(letter_id: str) -> tuple[int, int]:
    """Partition and offset.

    Raises:
        UsageError: it is not a letter's id.
    """
    found = _ID.fullmatch(letter_id)
    if found is None:
        raise UsageError(
            f"{letter_id[:60]!r} is not the id of a dead letter; see `perdure dead-letters list`"
        )
    return int(found[1]), int(found[2])


def _command_of(letter: DeadLetter) -> AnyCommand:
    """The command in a record.

    Raises:
        UndecodableRecord: no command.
    """
    header = next((header.value for header in letter.headers if header.name == HEADER), None)
    return COMMANDS.decode(letter.value or b"", header)


def _retried_command(letter: DeadLetter, headers: list[Any], partitions: int) -> _Record:
    """A command without the address of its client."""
    command, value = _command_of(letter), letter.value
    key = command.workflow_id.encode(errors="surrogatepass")
    if (changed := without_client(command)) is not command:
        value = COMMANDS.encode(changed)
        headers = [COMMANDS.header, *(each for each in headers if each[0] != HEADER)]
    return (letter.topic, value, key, partition_of(key, partitions), headers)


def _is_before(place: str, partition: int, low: int) -> bool:
    number, _, offset = place.partition("/")
    return number == str(partition) and re.fullmatch("[0-9]{1,19}", offset) is not None and int(offset) < low


def _commit(producer: Producer) -> None:
    """Commit, and repeat that until the outcome is known."""
    while True:
        try:
            producer.commit_transaction(ANSWER_S)
        except KafkaException as exception:
            if class_of(error_of(exception)) is not ErrorClass.AGAIN:
                raise
        else:
            return
