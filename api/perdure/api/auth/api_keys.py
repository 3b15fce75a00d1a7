"""Verifies the API keys of requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.api.auth.key_file import PREFIX, StoredKey, UnreadableKeys, hash_of, read_keys
from perdure.api.auth.principal import Principal
from perdure.api.auth.refusals import Unauthenticated
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.engine.operator_log import Report

_NEVER: Final = (-1, -1, -1)
_NO_HASH: Final = hash_of("")
_REFUSED: Final = "the API key is unknown, revoked or expired; `perdure api-keys create` makes one"


def _now() -> datetime:
    return datetime.now(UTC)


class ApiKeys:
    """The keys of a file, reloaded when the file changes.

    An invalid file is reported, and the previous keys stay valid, so that a typing error locks out
    no caller. If the file is missing or unreadable, no key is valid.

    Args:
        path: the file.
        report: called with a message if the file is invalid.
        now: the time.

    Raises:
        UsageError: the file is invalid at the start.
    """

    def __init__(self, path: Path, report: Report, now: Callable[[], datetime] = _now) -> None:
        self._path = path
        self._report = report
        self._now = now
        self._seen = _version_of(path)
        self._keys = _by_id(path)
        self._is_unreadable = False

    @staticmethod
    def is_meant(credential: str) -> bool:
        """Whether the text has the form of a perdure API key."""
        return credential.startswith(PREFIX)

    def verify(self, credential: str) -> Principal:
        """Verify a key; returns its principal.

        Raises:
            Unauthenticated: the key is invalid.
        """
        self._look_again()
        key = self._keys.get(credential.removeprefix(PREFIX).partition("_")[0])
        is_right = compare_digest(hash_of(credential), key.hash if key is not None else _NO_HASH)
        if key is None or not is_right or key.has_expired(self._now()):
            raise Unauthenticated(_REFUSED, is_given=True)
        return Principal(f"key:{key.id} {key.name}", key.role, key.namespaces)

    def _look_again(self) -> None:
        found = _version_of(self._path)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._keys = _by_id(self._path)
        except UnreadableKeys as error:
            self._keys = {}
            self._seen = _NEVER  # check again at the next request
            if not self._is_unreadable:
                self._report(f"{error}; until this is fixed, every API key is rejected")
            self._is_unreadable = True
            return
        except UsageError as error:
            self._report(f"{error} The keys loaded before stay valid.")
        self._is_unreadable = False


def _by_id(path: Path) -> dict[str, StoredKey]:
    return {key.id: key for key in read_keys(path)}


def _version_of(path: Path) -> tuple[int, int, int]:
    """A value that changes when the file is written or replaced. Follows links, since mounted
    secrets are links.
    """
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
