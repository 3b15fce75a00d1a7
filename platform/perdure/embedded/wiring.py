"""Creates log, store and related parts for a platform's address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from perdure.adapters.process.channel import Channel
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.codec.columns import Shape
    from perdure.engine.ports import Log, Store

NO_SHAPES: Final[Mapping[str, Shape]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Adapters:
    """The adapters of an engine and its clients."""

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
            f'the address {url!r} does not name a file; write "sqlite:///app.db", or '
            '"sqlite:////var/lib/app.db" for an absolute path'
        )
    return path


def adapters_of(url: str, shapes: Mapping[str, Shape] = NO_SHAPES) -> Adapters:
    """The adapters for an address; nothing is opened yet.

    Args:
        url: `sqlite:///app.db`, or `memory://` for one that ends with the process.
        shapes: the columns of workflow types' views, which become SQL views.

    Raises:
        UsageError: the address is not understood.
    """
    channel = Channel()
    if url == "memory://":
        from perdure.adapters.memory.log import MemoryLog
        from perdure.adapters.memory.medium import MemoryMedium
        from perdure.adapters.memory.reader import MemoryReader
        from perdure.adapters.memory.store import MemoryStore

        medium = MemoryMedium()
        return Adapters(
            MemoryLog(channel, medium), MemoryStore(medium), channel, lambda: MemoryReader(medium)
        )
    from perdure.adapters.sqlite.file import SqliteFile
    from perdure.adapters.sqlite.log import SqliteLog
    from perdure.adapters.sqlite.reader import SqliteReader
    from perdure.adapters.sqlite.store import SqliteStore

    path = path_of(url)
    file = SqliteFile(path, shapes=shapes)
    return Adapters(SqliteLog(file, channel), SqliteStore(file), channel, lambda: SqliteReader(path))
