"""A dead letter of any record is one that Kafka takes, with its place and reason."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perdure.adapters.kafka.clients.transactional import MAX_RECORD_BYTES
from perdure.adapters.kafka.engine.batch_writer import BatchWriter
from perdure.adapters.kafka.engine.pending_commands import DeadLettered
from perdure.adapters.kafka.letters import LETTER_BYTES, bare, encode_letter, fitting
from perdure.adapters.kafka.status import Status
from perdure.codec.avro import DEAD_LETTERS
from perdure.model.dead_letters import DeadLetter, RecordHeader
from tests.unit.log.kafka.stand_ins import Found, Recorder, layout

LARGE = bytes(MAX_RECORD_BYTES)
"""Kafka takes a record of this size, and larger ones when they are compressed."""
SMALL = DeadLetter(
    "ns.commands",
    1,
    6,
    timestamp_ms=-1,
    reason="undecodable",
    message="no Avro",
    found_at=7,
    key=b"k",
    value=b"?",
    headers=(RecordHeader("a", b"b"),),
)
MANY = (RecordHeader("a" * 100, None),) * 150_000


@pytest.mark.parametrize(
    "letter",
    [
        replace(SMALL, value=LARGE),
        replace(SMALL, key=LARGE),
        replace(SMALL, key=LARGE[: len(LARGE) // 2]),
        replace(SMALL, headers=(RecordHeader("a", LARGE),)),
        replace(SMALL, headers=MANY),
        replace(SMALL, message="é" * len(LARGE)),
        replace(SMALL, message="\ud800", value=LARGE),
        replace(SMALL, value=LARGE, key=LARGE, headers=(RecordHeader("a" * len(LARGE), LARGE),)),
    ],
    ids=["value", "key", "half a key", "header", "headers", "message", "no Unicode", "everything"],
)
def test_a_letter_of_a_large_record_fits_and_says_what_is_missing(letter: DeadLetter) -> None:
    value, key = encode_letter(letter)
    assert len(value) + len(key or b"") < MAX_RECORD_BYTES - 500_000
    found = DEAD_LETTERS.decode(value, DEAD_LETTERS.header[1])
    assert (found.topic, found.partition, found.offset, found.reason) == ("ns.commands", 1, 6, "undecodable")
    assert "too large to be stored here" in found.message
    assert found.value is None
    value, key = encode_letter(bare(letter))  # for a topic that takes less, and refuses it
    assert len(value) + len(key or b"") < 10_000


def test_a_letter_that_fits_is_complete() -> None:
    large = replace(SMALL, value=bytes(LETTER_BYTES - 10_000))
    assert fitting(SMALL) is SMALL
    assert fitting(large) is large
    assert bare(SMALL).headers == SMALL.headers
    assert bare(SMALL).key == b"k"


def test_an_engine_writes_the_letter_of_a_large_key_whatever_its_topic_takes() -> None:
    def report(_message: str, /, **_where: str | int) -> None: ...

    record = Found("ns.commands", 1, 6, key=LARGE, value=b"?", headers=[("a", LARGE)], at_ms=77)
    for is_cut in (False, True):
        writer, recorder = BatchWriter(layout(), Status(report)), Recorder()
        made: Any = recorder
        writer.write_asides(made, [(DeadLettered("undecodable", "no Avro", is_cut), 1, 6, record)])
        (sent,) = recorder.sent
        assert (sent.topic, sent.key) == ("ns.dead-letters", None)
        assert len(sent.value) < 10_000
