"""Where a platform keeps everything, by the scheme of its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from perdure.errors import UsageError
from perdure.log.channel import Channel

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.engine.ports import Log, Store


@dataclass(frozen=True, slots=True)
class Medium:
    """Log, store and what goes with them."""

    log: Log
    store: Store
    channel: Channel
    reader: Callable[[], Reader]


def path_of(url: str) -> str:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` names.

    Raises:
        UsageError: it names none.
    """
    path = unquote(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path:
        raise UsageError(
            f'the address {url!r} names no file; write "sqlite:///app.db", or "sqlite:////var/lib/app.db" for an absolute path'
        )
    return path


def open_medium(url: str) -> Medium:
    """What is at an address; nothing is opened yet.

    Raises:
        UsageError: the address is not understood.
    """
    channel = Channel()
    if url == "memory://":
        from perdure.log.memory import MemoryLog, MemoryMedium
        from perdure.store.memory import MemoryReader, MemoryStore

        medium = MemoryMedium()
        return Medium(MemoryLog(channel, medium), MemoryStore(medium), channel, lambda: MemoryReader(medium))
    from perdure.log.sqlite import SqliteFile, SqliteLog
    from perdure.store.sqlite import SqliteReader, SqliteStore

    path = path_of(url)
    file = SqliteFile(path)
    return Medium(SqliteLog(file, channel), SqliteStore(file), channel, lambda: SqliteReader(path))
