"""The identity of an answer from outside, used to recognise repeats."""

from __future__ import annotations

import msgspec

from perdure.model.failure import FailureInfo


def answer_of(answer: bytes | FailureInfo) -> int:
    """A hash of a value or a failure; valid only within this process, never 0.

    Senders format the same JSON differently, so the parsed value is hashed. Encrypted payloads may
    differ each time although their content is the same, so all of them count as equal.
    """
    if isinstance(answer, FailureInfo):
        return hash(("failed", answer.type, answer.message, answer.fields)) or 1
    if answer.startswith(b"\0"):
        return hash(b"\0") or 1
    try:
        return hash(msgspec.json.encode(msgspec.json.decode(answer), order="sorted")) or 1
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return hash(answer) or 1
