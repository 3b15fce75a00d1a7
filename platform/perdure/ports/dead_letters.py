"""Dead letters, for operators: which records could not be taken, and what becomes of them.

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
"""Of a value in a list; so much of each of the other parts."""
PREVIEW_HEADERS: Final = 16
MESSAGE_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter that is neither retried nor dropped.

    Attributes:
        id: what `retry` and `drop` know it by.
        letter: what it is; in a list, no more than the beginning of each part.
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
    """Some of them.

    Attributes:
        letters: previews, oldest first.
        next: `after` of the page that follows; empty: there is none.
    """

    letters: list[OpenLetter]
    next: str = ""


@dataclass(frozen=True, slots=True)
class RetriedRecord:
    """Where a retried record was put: its topic, partition and offset."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of retried dead letters.

    Attributes:
        failed: those that are dead letters again: the message, by the id that they had.
        waiting: ids of those that nobody has taken yet.
    """

    failed: dict[str, str]
    waiting: set[str]


class DeadLetters(Protocol):
    """Those of one platform. Each can be read, whatever is wrong with it. Reading keeps no writer
    waiting.
    """

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """Those that are neither retried nor dropped, oldest first, as previews.

        Args:
            limit: at most so many, up to `PAGE_LIMIT`.
            after: `next` of the previous page.

        Raises:
            UsageError: `after` is not from a page.
            InfrastructureError: they cannot be read.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The whole of those of these ids that are open, in this order."""
        ...

    def fault_of(self, letter: OpenLetter) -> str:
        """Why a retry would be useless now; empty: it may succeed.

        Args:
            letter: of `get`.
        """
        ...

    def retry(self, letters: Sequence[OpenLetter]) -> Mapping[str, RetriedRecord]:
        """Put them back where they came from, and forget them; all or none.

        What goes back has no client any more (`without_client`).

        Args:
            letters: of `get`.

        Returns:
            Where each was put, by its id.
        """
        ...

    def failed_again(self, retried: Mapping[str, RetriedRecord], within_s: float) -> Outcome:
        """What became of those that were retried, as far as it is known within some time.

        Args:
            retried: of `retry`.
            within_s: how long to wait for whoever takes them, seconds; nobody is waited for who
                does not run.
        """
        ...

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Forget them; all or none."""


def pages(letters: DeadLetters, limit: int = 100) -> Iterator[list[OpenLetter]]:
    """All that are open, page by page; those of a page may be retried or dropped before the next
    one is read.
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
    """A command as it is retried: its client has its answer, or waits no longer, and a second
    refusal must be a dead letter again.
    """
    if not isinstance(command, Request):
        return command
    is_of_client = isinstance(addresses.parse(command.reply_to), addresses.CLIENTS)
    return cast("AnyCommand", replace(command, reply_to="")) if is_of_client else command


def _beginning(data: bytes | None) -> bytes | None:
    return None if data is None else data[:PREVIEW_BYTES]
