"""The record of an exception, and its size limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

FAILURE_BYTES: Final = 8 * 1024
"""The most bytes of one recorded exception with all its parts: message, fields, notes, tracebacks,
causes, members of a group."""
BRIEF_BYTES: Final = 1024
"""The same for each attempt of an activity after the tenth that fails in another way."""

CUT: Final = re.compile(r"… \(\d+ characters\)\Z")
"""Suffix of a text that was cut."""
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
_OWN_BYTES: Final = 48
"""An upper bound for the fixed fields of one exception, in msgpack and in Avro, bytes."""
_TEXT_BYTES: Final = 5
"""The same for the length before a text."""
_LEAST_BYTES: Final = 256
"""An exception with less room than this is left out: nothing useful would remain."""
_COUNT_BYTES: Final = 64
"""Bytes for the note with the number of exceptions of a group that were left out."""


class FailureInfo(Struct, array_like=True, frozen=True, omit_defaults=True):
    """An exception as recorded.

    Attributes:
        type: the class, as `module:QualName`.
        message: `str(exception)`.
        fields: JSON of the dataclass fields by name; of other classes an array of `args`, or an
            object of `args` and `attributes` where it has some; empty when they have no JSON, are
            too large, or `message` is the only argument.
        is_final: a `Failure`, a mistake in workflow code (`UsageError`), or a group with one in it:
            no attempt follows.
        traceback: as text, cut to your frames.
        cause: the exception that it was raised from.
        retry_after_us: the delay that the error asked for; -1 when it asked for none.
        attempts: the number of attempts, for an activity that failed; otherwise 0.
        bases: its base classes below `Exception`, each as `module:QualName`; `Retry(never=…)` is
            compared with them.
        notes: the texts given to `add_note`.
        exceptions: the members of an exception group; None: it is not a group.
    """

    type: str
    message: str = ""
    fields: bytes = b""
    is_final: bool = False
    traceback: str = ""
    cause: FailureInfo | None = None
    retry_after_us: int = -1
    attempts: int = 0
    bases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exceptions: tuple[FailureInfo, ...] | None = None


def as_json(failure: FailureInfo) -> bytes:
    """A failure as JSON, where a schema cannot hold it; `from_json` reads it."""
    return msgspec.json.encode(failure)


def from_json(data: bytes) -> FailureInfo:
    """The failure that `as_json` has written.

    Raises:
        msgspec.MsgspecError: it has not.
    """
    return msgspec.json.decode(data, type=FailureInfo)


def members_of(failure: FailureInfo) -> Iterator[FailureInfo]:
    """The failure and, for a group, all its members at any depth."""
    yield failure
    for member in failure.exceptions or ():
        yield from members_of(member)


def size_of(failure: FailureInfo) -> int:
    """An upper bound for its size as msgpack or Avro, bytes."""
    size = _own_size(failure)
    if failure.cause is not None:
        size += size_of(failure.cause)
    return size + sum(map(size_of, failure.exceptions or ()))


def bounded(failure: FailureInfo, limit: int = FAILURE_BYTES) -> FailureInfo:
    """The failure, cut to the limit.

    Half of the room is for the exception itself and half for its cause and members, unless one half
    needs less. Of an exception, the type, its bases and the beginning of the message come first;
    fields are kept whole or not at all; a traceback keeps its end, where the exception was raised.

    Args:
        failure: any.
        limit: bytes, at least 1,024.
    """
    return failure if size_of(failure) <= limit else _cut(failure, limit)


def text_of(failure: FailureInfo) -> str:
    """Class and message, as in `KeyError: 'missing'`."""
    name = failure.type.rpartition(":")[2]
    return f"{name}: {failure.message}" if failure.message else name


def place_of(failure: FailureInfo) -> str:
    """File and line where it was raised, as in `app.py:31`; empty if unknown."""
    lines = _FRAME.findall(failure.traceback)
    if not lines:
        return ""
    file, line = lines[-1]
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{line}"


def described(failure: FailureInfo) -> str:
    """Class, message and place, as in `KeyError: 'missing' (app.py:31)`."""
    place = place_of(failure)
    return f"{text_of(failure)} ({place})" if place else text_of(failure)


def explained(failure: FailureInfo) -> Iterator[str]:
    """Lines for people: the exception and its place, notes, members of a group, the traceback, then
    the same for its cause.

    Args:
        failure: any.
    """
    yield described(failure)
    for note in failure.notes:
        yield from (f"  {line}" for line in note.splitlines())
    yield from failure.traceback.rstrip().splitlines()
    for number, member in enumerate(failure.exceptions or (), 1):
        lines = list(explained(member))
        yield f"  {number}. {lines[0]}"
        yield from (f"     {line}" for line in lines[1:])
    if failure.cause is not None:
        lines = list(explained(failure.cause))
        yield f"caused by {lines[0]}"
        yield from lines[1:]


def head(text: str, limit: int) -> str:
    """The beginning of a text, with its whole length at the end if it was cut.

    Args:
        text: any.
        limit: bytes of UTF-8.
    """
    if _length(text) <= limit:
        return text
    cut_before = CUT.search(text)
    mark = cut_before[0] if cut_before else f"… ({len(text)} characters)"
    return text.encode()[: max(0, limit - len(mark) - 2)].decode("utf-8", "ignore") + mark


def tail(text: str, limit: int) -> str:
    """The last whole lines of a text.

    Args:
        text: a traceback.
        limit: bytes of UTF-8.
    """
    if _length(text) <= limit:
        return text
    mark = "  [...]\n"
    if limit <= len(mark):
        return ""
    kept = text.encode()[-(limit - len(mark)) :].decode("utf-8", "ignore").partition("\n")[2]
    return mark + kept if kept else ""


def _cut(failure: FailureInfo, limit: int) -> FailureInfo:
    cause, members = failure.cause, failure.exceptions or ()
    others = [*([] if cause is None else [cause]), *members]
    needed = sum(map(size_of, others))
    own = _cut_own(failure, max(limit - needed, limit // 2) - (_COUNT_BYTES if members else 0))
    left = limit - _own_size(own) - (_COUNT_BYTES if members else 0)
    kept: list[FailureInfo | None] = []
    for i, other in enumerate(others):
        share = left // min(len(others) - i, max(1, left // _LEAST_BYTES))
        fits = other if size_of(other) <= share else _cut(other, share) if share >= _LEAST_BYTES else None
        kept.append(fits)
        left -= 0 if fits is None else size_of(fits)
    if cause is not None:
        own = replace(own, cause=kept.pop(0))
    exceptions = tuple(each for each in kept if each is not None)
    notes = own.notes
    if len(exceptions) < len(members):
        notes = (*notes, f"{len(members) - len(exceptions)} more exceptions were not recorded")
    return replace(own, exceptions=None if failure.exceptions is None else exceptions, notes=notes)


def _cut_own(failure: FailureInfo, limit: int) -> FailureInfo:
    """The failure without its cause and members, cut to the limit."""
    room = limit - _OWN_BYTES - 4 * _TEXT_BYTES
    kind = head(failure.type, room // 4)
    left = room - _length(kind)
    bases = _those_that_fit(failure.bases, room // 4)
    left -= _size_of_texts(bases)
    message = head(failure.message, left // 2)
    left -= _length(message)
    fields = failure.fields if len(failure.fields) <= left else b""
    left -= len(fields)
    notes = _those_that_fit(failure.notes, left)
    left -= _size_of_texts(notes)
    return replace(
        failure,
        type=kind,
        message=message,
        fields=fields,
        traceback=tail(failure.traceback, left),
        cause=None,
        bases=bases,
        notes=notes,
        exceptions=None,
    )


def _those_that_fit(texts: tuple[str, ...], limit: int) -> tuple[str, ...]:
    kept: list[str] = []
    for text in texts:
        limit -= _length(text) + _TEXT_BYTES
        if limit < 0:
            break
        kept.append(text)
    return tuple(kept)


def _own_size(failure: FailureInfo) -> int:
    texts = (failure.type, failure.message, failure.traceback)
    return (
        _OWN_BYTES
        + _TEXT_BYTES
        + len(failure.fields)
        + sum(map(_size_of_texts, (texts, failure.bases, failure.notes)))
    )


def _size_of_texts(texts: tuple[str, ...]) -> int:
    return sum(map(_length, texts)) + _TEXT_BYTES * len(texts)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
