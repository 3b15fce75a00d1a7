"""The Avro schemas of every topic, each released version: the authoritative wire format.

`v1/commands.avsc` is version 1 of the schema `commands`; the highest version there is, is the one
that is written. A released file is never edited; `docs/internals/schemas.md` has the rules by which
the next version may differ. Imports nothing of ours; fastavro computes fingerprints.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

NAMES: Final = (
    "commands", "events", "tasks", "replies", "state", "dead-letters", "cancellations", "streams",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one schema.

    Attributes:
        name: one of `NAMES`.
        version: from 1.
        text: the .avsc file.
    """

    name: str
    version: int
    text: str

    @property
    def fingerprint(self) -> str:
        """CRC-64-AVRO of the parsing canonical form, in the byte order of Avro's single-object
        encoding, 16 hexadecimal digits.

        Two schemas that write the same bytes have the same one: documentation, defaults and logical
        types do not count.
        """
        return _fingerprint(self.text)

    @property
    def header(self) -> bytes:
        """The header of a record written with it: name, version and fingerprint."""
        return f"{self.name}/{self.version}/{self.fingerprint}".encode()

    def parsed(self) -> Any:
        """As JSON."""
        return json.loads(self.text)


@cache
def released(name: str) -> tuple[Schema, ...]:
    """Every version, oldest first.

    Args:
        name: one of `NAMES`.
    """
    found: dict[int, str] = {}
    for folder in files(__name__).iterdir():
        file = folder / f"{name}.avsc"
        if (version := re.fullmatch(r"v(\d+)", folder.name)) and file.is_file():
            found[int(version[1])] = file.read_text("utf-8")
    return tuple(Schema(name, version, found[version]) for version in sorted(found))


def current(name: str) -> Schema:
    """The version that is written.

    Args:
        name: one of `NAMES`.
    """
    return released(name)[-1]


@cache
def _fingerprint(text: str) -> str:
    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    return fingerprint(to_parsing_canonical_form(cast("Any", parse_schema(json.loads(text)))), "CRC-64-AVRO")
