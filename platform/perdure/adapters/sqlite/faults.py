"""Explains SQLite's errors to operators."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from perdure.errors import CommitAborted, InfrastructureError

if TYPE_CHECKING:
    from pathlib import Path


_OF_VALUES: Final = (
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_MISUSE,
)


def is_about_values(error: sqlite3.Error) -> bool:
    """Whether an error is about the values to write, not about the database: the next value may be
    written.
    """
    code = getattr(error, "sqlite_errorcode", None)
    # Without a code it is Python that could not bind a value. A key that is there already is about
    # the database: two engines own it.
    return code is None or code & 0xFF in _OF_VALUES or code == sqlite3.SQLITE_CONSTRAINT_NOTNULL


def fault(error: sqlite3.Error, path: Path) -> InfrastructureError:
    """Convert an SQLite error into one of ours.

    `CommitAborted` if a retry may help (busy, full, I/O), `InfrastructureError` if an operator must
    act first.

    Source: https://sqlite.org/rescode.html; the primary code is in the low byte.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return CommitAborted(
                f"the database {path} is locked by another process; end that process (a shell with an open "
                "transaction, a backup)"
            )
        case sqlite3.SQLITE_FULL:
            return CommitAborted(f"no space left for the database {path}; free some space on that disk")
        case sqlite3.SQLITE_IOERR:
            return CommitAborted(
                f"the disk under the database {path} fails ({name}); look at the system's log"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return InfrastructureError(
                f"the database {path} is read-only for this user; give write access to the file and its "
                "directory"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return InfrastructureError(
                f"the database {path} cannot be opened; check that it is a file, and that this user may "
                "read and write it and its directory"
            )
        case sqlite3.SQLITE_NOTADB:
            return InfrastructureError(f"{path} is not a database; name another file, or move this one away")
        case sqlite3.SQLITE_CORRUPT:
            return InfrastructureError(f"the database {path} is damaged ({error}); restore it from a backup")
        case _:
            return InfrastructureError(f"the database {path} cannot be used ({name}): {error}")
