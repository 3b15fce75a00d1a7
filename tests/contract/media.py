"""The media that the contract suites run on, each with what a test needs around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.adapters.memory.log import MemoryLog
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.reader import MemoryReader
from perdure.adapters.memory.store import MemoryStore
from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.file import SqliteFile, connect
from perdure.adapters.sqlite.log import SqliteLog
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.adapters.sqlite.store import SqliteStore
from perdure.codec.records import decode_reply, encode_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perdure.client.ports import Reader
    from perdure.engine.ports import Batch, Log, Store
    from perdure.model.commands import AnyCommand
    from perdure.model.replies import AnyReply


@dataclass
class Node:
    """The adapters of one engine."""

    log: Log
    store: Store
    channel: Channel

    def open(self) -> Node:
        self.log.open()
        self.store.open()
        return self

    def write(self, batch: Batch) -> None:
        self.log.commit(batch)
        self.store.apply(batch)

    def close(self) -> None:
        self.store.close()
        self.log.close()


class Media(ABC):
    """One medium; nodes come and go on it."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._readers: list[Reader] = []

    def node(self) -> Node:
        """A node that is not open yet."""
        node = self._new_node()
        self._nodes.append(node)
        return node

    def crash(self, node: Node) -> None:
        """The node is gone; what its process held in memory, too."""
        self._nodes.remove(node)
        self._kill(node)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        for node in self._nodes:
            node.close()

    def reader(self) -> Reader:
        """Closed with the medium, if it is not before."""
        reader = self._new_reader()
        self._readers.append(reader)
        return reader

    @abstractmethod
    def _new_node(self) -> Node: ...

    @abstractmethod
    def _kill(self, node: Node) -> None: ...

    @abstractmethod
    def append(self, commands: Sequence[AnyCommand]) -> None:
        """As another process: durably, whether or not there is an owner."""

    @abstractmethod
    def replies_to(self, address: str) -> list[AnyReply]:
        """The data that another process finds."""

    @abstractmethod
    def _new_reader(self) -> Reader: ...


class MemoryMedia(Media):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.medium = MemoryMedium()

    def _new_node(self) -> Node:
        channel = Channel()
        return Node(MemoryLog(channel, self.medium), MemoryStore(self.medium), channel)

    def _kill(self, node: Node) -> None:
        """Nothing tells memory of a death."""

    def append(self, commands: Sequence[AnyCommand]) -> None:
        self.medium.append(commands)

    def replies_to(self, address: str) -> list[AnyReply]:
        return [reply for reply_to, reply in self.medium.replies if reply_to == address]

    def _new_reader(self) -> Reader:
        return MemoryReader(self.medium)


class SqliteMedia(Media):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "app.db"
        self._files: dict[int, SqliteFile] = {}

    def _new_node(self) -> Node:
        channel, file = Channel(), SqliteFile(self.path, busy_s=0.2)
        node = Node(SqliteLog(file, channel), SqliteStore(file), channel)
        self._files[id(node)] = file
        return node

    def _kill(self, node: Node) -> None:
        """As near as one comes within a process: `test_sqlite_crash.py` kills real ones."""
        self._files[id(node)]._disconnect()
        node.close()

    def append(self, commands: Sequence[AnyCommand]) -> None:
        with closing(connect(self.path, 5.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO commands (record) VALUES (?)", [(encode_command(each),) for each in commands]
            )
            connection.execute("COMMIT")

    def replies_to(self, address: str) -> list[AnyReply]:
        with closing(connect(self.path, 5.0)) as connection:
            rows = connection.execute(
                "SELECT record FROM replies WHERE reply_to = ? ORDER BY position", (address,)
            ).fetchall()
        return [decode_reply(row[0]) for row in rows]

    def _new_reader(self) -> Reader:
        return SqliteReader(self.path)


MEDIA: dict[str, type[MemoryMedia | SqliteMedia]] = {"memory": MemoryMedia, "sqlite": SqliteMedia}
