"""Dead letters, for operators: records that could not be processed, to be listed, retried or
dropped.

`perdure dead-letters` is thin over this. The adapters are `adapters/sqlite/dead_letters.py` and
`adapters/kafka/admin/dead_letters.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from msgspec.structs import replace

from perdure.model import addresses
from perdure.model.commands import AnyCommand, Request
from perdure.model.dead_letters import DeadLetter, RecordHeader

PAGE_LIMIT: Final = 1_000
PREVIEW_BYTES: Final = 1_024
"""The most bytes of a value in a list, and of each other part."""
PREVIEW_HEADERS: Final = 16
MESSAGE_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter that is neither retried nor dropped.

    Attributes:
        id: its id for `retry` and `drop`.
        letter: the letter; in a list, only the beginning of each part.
        size: bytes of the whole value; -1: it was not kept.
    """

    id: str
    letter: DeadLetter
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether the letter has all of the value."""
        return self.size < 0 or self.size == len(self.letter.value or b"")


@dataclass(frozen=True, slots=True)
class LetterPage:
    """A page of dead letters.

    Attributes:
        letters: previews, oldest first.
        next: `after` of the page that follows; empty: there is none.
    """

    letters: list[OpenLetter]
    next: str = ""


@dataclass(frozen=True, slots=True)
class RetriedRecord:
    """The place of a retried record: topic, partition and offset."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcomes of retried dead letters.

    Attributes:
        failed: letters whose records are dead letters again: the message, by the old id.
        waiting: ids of letters whose records were not processed yet.
    """

    failed: dict[str, str]
    waiting: set[str]


class DeadLetters(Protocol):
    """The dead letters of one platform. Each can be read, however damaged its record is. Reading
    does not block writers.
    """

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """A page of the open letters, oldest first, as previews.

        Args:
            limit: the most letters, up to `PAGE_LIMIT`.
            after: `next` of the previous page.

        Raises:
            UsageError: `after` is not from a page.
            InfrastructureError: they cannot be read.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The complete open letters with these ids, in this order."""
        ...

    def fault_of(self, letter: OpenLetter) -> str:
        """Why a retry cannot succeed now; empty: it may.

        Args:
            letter: a letter from `get`.
        """
        ...

    def retry(self, letters: Sequence[OpenLetter]) -> Mapping[str, RetriedRecord]:
        """Write letters back where they came from, and end them; all or none.

        Retried commands have no client any more (`without_client`).

        Args:
            letters: letters from `get`.

        Returns:
            The place of each, by its id.
        """
        ...

    def failed_again(self, retried: Mapping[str, RetriedRecord], within_s: float) -> Outcome:
        """The outcomes of retried letters, as far as they are known within some time.

        Args:
            retried: the result of `retry`.
            within_s: how long to wait for the processes that take them, seconds; processes that do
                not run are not waited for.
        """
        ...

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Drop letters; all or none."""


def pages(letters: DeadLetters, limit: int = 100) -> Iterator[list[OpenLetter]]:
    """All open letters, page by page; those of a page may be retried or dropped before the next one
    is read.
    """
    after, is_last = "", False
    while not is_last:
        page = letters.page(limit, after)
        if page.letters:
            yield page.letters
        after, is_last = page.next, not page.next


def preview(id: str, letter: DeadLetter) -> OpenLetter:
    """A letter as a list has it: the beginning of each part."""
    headers = letter.headers[:PREVIEW_HEADERS]
    shown = replace(
        letter,
        message=letter.message[:MESSAGE_CHARACTERS],
        key=_beginning(letter.key),
        value=_beginning(letter.value),
        headers=tuple(RecordHeader(each.name[:PREVIEW_BYTES], _beginning(each.value)) for each in headers),
    )
    return OpenLetter(id, shown, size_of(letter))


def size_of(letter: DeadLetter) -> int:
    """Bytes of its value; -1: it was not kept."""
    return -1 if letter.value is None else len(letter.value)


def without_client(command: AnyCommand) -> AnyCommand:
    """A command for a retry, without its client, which has its answer or has stopped waiting: a
    second refusal must be a dead letter again.
    """
    if not isinstance(command, Request):
        return command
    is_of_client = isinstance(addresses.parse(command.reply_to), addresses.CLIENTS)
    return cast("AnyCommand", replace(command, reply_to="")) if is_of_client else command


def _beginning(data: bytes | None) -> bytes | None:
    return None if data is None else data[:PREVIEW_BYTES]
