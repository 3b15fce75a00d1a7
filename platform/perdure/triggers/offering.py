"""Records that are offered to the triggers once more: they keep their first place, so that what
they have led to already is not done again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from perdure.model import addresses
from perdure.triggers.binding import Source

FIRST_PLACE: Final = "perdure-first-place"
"""The header that has it: topic/partition/offset."""


def offered_headers(source: Source) -> list[tuple[str, bytes | None]]:
    """The headers of a record that is offered once more."""
    kept = [(name, value) for name, value in source.headers if name != FIRST_PLACE]
    return [
        *kept,
        (FIRST_PLACE, f"{source.topic}/{source.partition}/{source.offset}".encode(errors="surrogatepass")),
    ]


def first_source(source: Source) -> Source:
    """A record as it was found first; itself when it does not say where."""
    place = next((value for name, value in source.headers if name == FIRST_PLACE and value is not None), b"")
    topic, _, rest = place.decode(errors="replace").partition("/")
    partition, _, offset = rest.partition("/")
    found = addresses.parse(f"dead-letter:{topic}/{partition}/{offset}")  # the header says anything
    if not isinstance(found, addresses.DeadLetter):
        return source
    headers = [(name, value) for name, value in source.headers if name != FIRST_PLACE]
    return replace(source, topic=found.topic, partition=found.partition, offset=found.offset, headers=headers)
