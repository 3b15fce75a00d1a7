"""Encodes dead letters, so that Kafka takes each of them.

A record that cannot be processed may come from any producer and be as large as its topic
permits, or larger if it is compressed. A letter has its key twice, as the key of its own
record and inside. One that Kafka refuses would be written again for ever, and no later record of
the partition would be processed. So a letter that is too large leaves out its value, and then also
its key and headers: `perdure dead-letters` reads them from the record's place while it exists.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from perdure.codec.avro import DEAD_LETTERS
from perdure.model.dead_letters import DeadLetter
from perdure.model.described import clean

LETTER_BYTES: Final = 15 * 1024 * 1024
"""The largest letter: less than our producers take (`clients.transactional`)."""
BARE_BYTES: Final = 1_024
"""The key and headers that a letter keeps if its topic, which takes less than our producers, has
refused it, bytes."""
_MESSAGE: Final = 2_048
_OF_HEADER: Final = 16


def bare(letter: DeadLetter, limit: int = BARE_BYTES) -> DeadLetter:
    """A letter without its value, and without its key and headers if these are large.

    Args:
        letter: one that is too large.
        limit: bytes.
    """
    topic, message = letter.topic[:_MESSAGE], letter.message[:_MESSAGE]
    said = f"{message}; the value is too large to be stored here"
    cut = replace(letter, topic=topic, message=said, value=None)
    if _size(cut) <= limit:
        return cut
    said = f"{message}; the record is too large to be stored here"
    return replace(cut, message=said, key=None, headers=())


def fitting(letter: DeadLetter) -> DeadLetter:
    """A letter without what makes it too large."""
    return letter if _size(letter) <= LETTER_BYTES else bare(letter, LETTER_BYTES)


def encode_letter(letter: DeadLetter) -> tuple[bytes, bytes | None]:
    """The value and the key of the record of a letter."""
    letter = fitting(letter)
    try:
        return DEAD_LETTERS.encode(letter), letter.key
    except Exception:  # noqa: BLE001 - headers of anybody's: without them, the place and the reason are left
        topic, message = clean(letter.topic), clean(letter.message)
        letter = replace(letter, topic=topic, message=message, headers=(), value=None)
        return DEAD_LETTERS.encode(letter), letter.key


def _size(letter: DeadLetter) -> int:
    headers = sum(
        len(each.name.encode(errors="replace")) + len(each.value or b"") + _OF_HEADER
        for each in letter.headers
    )
    texts = 4 * (len(letter.topic) + len(letter.message))
    return headers + texts + 2 * len(letter.key or b"") + len(letter.value or b"")
