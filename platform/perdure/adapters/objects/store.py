"""Large payloads in a file system of fsspec.

An object is written under another name first and then renamed where the file system can do that, so
that a crash leaves no half of one under its hash.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from uuid import uuid4

from perdure.errors import UsageError

fsspec: Any = import_module("fsspec")  # it has no types
CACHED_BYTES: Final = 64 * 1024 * 1024
"""Objects that were read or written last are kept in memory: a replay reads each of its history."""

ANSWER_S: Final = 15.0
"""How long an object store may take to give or to take an object."""


class FsspecStore:
    """`model.payloads.ObjectStore`.

    Args:
        url: of a directory, as fsspec writes it.
        options: of the file system.

    Raises:
        UsageError: no module is installed for the URL's scheme, or it does not understand the URL.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise UsageError(f"payloads={url!r}: {error}") from None
        self._files, self._root = found
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, /) -> None:
        """See the port."""
        self._write(self._path(key), data)  # also when it is cached: somebody may have deleted it
        self._remember(key, data)

    def get(self, key: str, /) -> bytes:
        """See the port."""
        if (known := self._recall(key)) is not None:
            return known
        data: bytes = self._asked("cat_file", self._path(key))
        self._remember(key, data)
        return data

    def _write(self, path: str, data: bytes) -> None:
        if self._is_local:
            self._write_file(path, data)
        else:  # an object store shows an object when all of it is there
            self._asked("pipe_file", path, data)

    def _asked(self, method: str, *args: Any) -> Any:
        """Call a method of the file system. An engine waits for it within a batch, and the modules
        of object stores repeat requests for minutes: here that has an end.
        """
        files = self._files
        if not files.async_impl:
            return getattr(files, method)(*args)
        answer = asyncio.run_coroutine_threadsafe(getattr(files, f"_{method}")(*args), files.loop)
        try:
            return answer.result(ANSWER_S)
        except TimeoutError:
            answer.cancel()
            raise TimeoutError(f"the store did not answer within {ANSWER_S:g} s") from None

    def _write_file(self, path: str, data: bytes) -> None:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        unfinished = f"{path}.{uuid4().hex}"
        with open(unfinished, "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)  # noqa: PTH105
        directory = os.open(os.path.dirname(path), os.O_RDONLY)  # noqa: PTH120
        try:
            os.fsync(directory)  # the name is durable, too
        finally:
            os.close(directory)

    @property
    def _is_local(self) -> bool:
        protocol: Any = self._files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def _path(self, key: str) -> str:
        if not (len(key) == 64 and key.isalnum()):
            raise FileNotFoundError(key)  # a foreign record says anything
        return f"{self._root}/{key[:2]}/{key}"

    def _recall(self, key: str) -> bytes | None:
        with self._lock:
            data = self._cache.get(key)
            if data is not None:
                self._cache.move_to_end(key)
            return data

    def _remember(self, key: str, data: bytes) -> None:
        with self._lock:
            if key in self._cache:
                return
            self._cache[key] = data
            self._cached += len(data)
            while self._cached > CACHED_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1])
