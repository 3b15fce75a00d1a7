"""The identity of an answer from outside, by which one that is repeated is known."""

from __future__ import annotations

import msgspec

from perdure.model.failure import FailureInfo


def answer_of(answer: bytes | FailureInfo) -> int:
    """A hash of a value or a failure, that only this process understands; never 0.

    Senders write the same JSON in different ways. What a codec has made may differ each time, and
    is all alike here.
    """
    if isinstance(answer, FailureInfo):
        return hash(("failed", answer.type, answer.message, answer.fields)) or 1
    if answer.startswith(b"\0"):
        return hash(b"\0") or 1
    try:
        return hash(msgspec.json.encode(msgspec.json.decode(answer), order="sorted")) or 1
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return hash(answer) or 1
