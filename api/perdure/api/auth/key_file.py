"""The file of API keys: its format, and changes to it.

A key is shown once, when it is created; the file has its SHA-256. A fast hash is enough, since a
key has 256 random bits and cannot be guessed; a slow one would only delay every request. Anyone may
read the file, and only its owner may write it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from perdure.api.auth.principal import EVERY_NAMESPACE
from perdure.api.roles import Role
from perdure.errors import UsageError

PREFIX: Final = "perdure_"
"""Prefix of every key, so that people and secret scanners recognise one."""
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_LONGEST_NAME: Final = 100
_HEADING: Final = """\
# API keys of perdure: `perdure api-keys` writes this file. It stores no key, only the hash of each.
# Changes take effect with the next request.
"""


class UnreadableKeys(UsageError):
    """The file does not exist, or cannot be read."""


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as stored: its hash, never the key itself.

    Attributes:
        id: the part of the key that is not secret.
        name: the holder's name, for people and the audit log.
        role: the role of its holder.
        namespaces: the namespaces where it is valid; `*` for all.
        hash: `sha256:` and the hash of the whole key in hex.
        created: when it was created.
        expires: when it expires; None: never.
    """

    id: str
    name: str
    role: Role
    namespaces: tuple[str, ...]
    hash: str
    created: datetime
    expires: datetime | None = None

    def __post_init__(self) -> None:
        if len(self.hash) != 71 or not self.hash.startswith("sha256:"):
            raise ValueError(f"the hash of key {self.id!r} is not sha256: and 64 hex digits")
        if any(moment is not None and moment.tzinfo is None for moment in (self.created, self.expires)):
            raise ValueError(f"a time of key {self.id!r} has no time zone; write 2027-01-31T00:00:00Z")

    def has_expired(self, now: datetime) -> bool:
        """Whether the key has expired."""
        return self.expires is not None and now >= self.expires


class _Contents(msgspec.Struct, forbid_unknown_fields=True):
    keys: tuple[StoredKey, ...] = ()


def hash_of(key: str) -> str:
    """The hash of a key, as stored in the file."""
    return "sha256:" + sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> tuple[StoredKey, ...]:
    """The keys of a file.

    Raises:
        UsageError: the file cannot be read, is writable by others, or is invalid; the message says
            what to do.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o002:
                raise UsageError(
                    f"{path} is writable by everyone, so anyone could add a key: chmod 600 {path}"
                )
            data = file.read()
    except OSError as error:
        raise UnreadableKeys(f"the API keys in {path} cannot be read: {error.strerror}") from error
    try:
        keys = msgspec.toml.decode(data, type=_Contents).keys
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not a file of API keys: {error}. `perdure api-keys create` writes one."
        ) from None
    if len({key.id for key in keys}) < len(keys):
        raise UsageError(f"{path} has two keys with the same id; remove one of them")
    return keys


def create_key(
    path: Path, name: str, role: Role, namespaces: Sequence[str], expires: datetime | None = None
) -> tuple[str, StoredKey]:
    """Create a key and add it to the file, which is created if it does not exist.

    Args:
        path: the file.
        name: the name of the holder.
        role: the role of its holder.
        namespaces: the namespaces where it is valid.
        expires: when it expires; None: never.

    Returns:
        The key, which only the caller has from now on, and its stored form.

    Raises:
        UsageError: an argument is invalid, or the file cannot be changed.
    """
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise UsageError(f"invalid key name {name!r}: use 1 to {_LONGEST_NAME} printable characters")
    if not namespaces or not all(namespaces):
        raise UsageError(f"name the namespaces that the key is valid in, or {EVERY_NAMESPACE} for all")
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    now = datetime.now(UTC).replace(microsecond=0)
    stored = StoredKey(
        key_id, name, role, namespaces=tuple(namespaces), hash=hash_of(key), created=now, expires=expires
    )
    if stored.has_expired(now):
        raise UsageError(f"the expiry {expires} is in the past")
    _change(path, lambda keys: (*keys, stored), is_made=True)
    return key, stored


def revoke_key(path: Path, key_id: str) -> StoredKey:
    """Remove a key from the file; the next request with it is refused.

    Raises:
        UsageError: no key has this id, or the file cannot be changed.
    """
    found: list[StoredKey] = []

    def without(keys: tuple[StoredKey, ...]) -> tuple[StoredKey, ...]:
        found.extend(key for key in keys if key.id == key_id)
        return tuple(key for key in keys if key.id != key_id)

    _change(path, without)
    if not found:
        raise UsageError(f"{path} has no key {key_id!r}; `perdure api-keys list` lists its keys")
    return found[0]


def _change(
    path: Path, change: Callable[[tuple[StoredKey, ...]], tuple[StoredKey, ...]], *, is_made: bool = False
) -> None:
    """Read, change and atomically replace the file, under an exclusive lock."""
    try:
        with _alone(path.parent):
            keys = read_keys(path) if not is_made or path.exists() else ()
            _replace(path, _HEADING + "".join(map(_written, change(keys))))
    except OSError as error:
        raise UsageError(f"the API keys in {path} cannot be written: {error.strerror}") from error


@contextmanager
def _alone(directory: Path) -> Generator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _written(key: StoredKey) -> str:
    """The keys as TOML. Its basic strings are those of JSON, except for U+007F, which our names
    never contain.
    """
    lines = [
        f"id = {_quoted(key.id)}",
        f"name = {_quoted(key.name)}",
        f"role = {_quoted(key.role.value)}",
        f"namespaces = [{', '.join(map(_quoted, key.namespaces))}]",
        f"hash = {_quoted(key.hash)}",
        f"created = {_moment(key.created)}",
    ]
    if key.expires is not None:
        lines.append(f"expires = {_moment(key.expires)}")
    return "\n".join(["", "[[keys]]", *lines, ""])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
