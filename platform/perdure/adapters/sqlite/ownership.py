"""One engine for one database: an exclusive lock on a file beside it, which the system releases
when the process dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from perdure.errors import InfrastructureError

_PROBED_FOR_S: Final = 0.3
"""Clients look whether there is an owner by taking the lock for an instant; an owner to be tries
for longer than that."""

_held: Final = set[int]()


def _let_go_in_child() -> None:
    """A child that an activity forks must not keep the lock when its parent dies."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Ownership:
    """Held from `take` to `release`.

    Args:
        database: the lock is the file `<database>-owner`, which holds the owner's process id.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = lock_path(database)
        self._file = -1

    def take(self) -> None:
        """Become the owner.

        Raises:
            InfrastructureError: another process is, or the file cannot be written.
        """
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise InfrastructureError(
                f"the directory {self._database.parent} does not exist; create it, or name another file"
            ) from None
        except OSError as error:
            raise InfrastructureError(
                f"cannot write {self._path} ({error.strerror}); give this user write access to it and its "
                "directory"
            ) from None
        until = time.monotonic() + _PROBED_FOR_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.02)
                    continue
                os.close(file)
                raise InfrastructureError(
                    f"the database {self._database} is in use by {_named(owner_of(self._database))}; stop "
                    "that process, or name another file"
                ) from None
            break
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        _held.add(file)

    def release(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            _held.discard(self._file)
            os.close(self._file)
            self._file = -1


def lock_path(database: Path) -> Path:
    """The file that the owner of a database holds locked."""
    return database.with_name(database.name + "-owner")


def owner_of(database: Path) -> int:
    """The process id in the lock file; 0 when it holds none."""
    try:
        text = lock_path(database).read_text()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0


def is_owned(database: Path) -> bool:
    """Whether a process runs an engine on the database."""
    try:
        file = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _named(pid: int) -> str:
    return f"process {pid}" if pid else "another process"
