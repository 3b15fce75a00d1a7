"""Converts JSON to a payload and back: your codec encodes it, and if the result is large it goes to
a store, so that the record has only its address.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from functools import partial
from hashlib import sha256
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from perdure.errors import PayloadError, UsageError, ValueUnavailable
from perdure.model.described import described
from perdure.model.failure import FAILURE_BYTES, FailureInfo, bounded, size_of
from perdure.model.limits import ID_BYTES
from perdure.model.payloads import AnyCodec, ObjectStore
from perdure.outside import outside

_NUL: Final = b"\0"
_STORED: Final = b"\0@store\0"
_ENCODED: Final = "$encoded"
_FAILURE: Final = f'{{"{_ENCODED}":'.encode()
"""The beginning of the fields of a failure that a codec has encoded."""
_ADVICE: Final = "Give every client, worker and engine of a namespace the same codec (docs/howto/encrypt.md)."

CODEC_STAYS_PLAIN: Final = (ValueUnavailable,)
"""Exceptions that are not encoded, since they say why encoding fails."""


class Wrapping:
    """Encodes payloads, and stores those that are large.

    Args:
        codec: encrypts or compresses payloads; None: no codec.
        store: stores large payloads; None: no store.
        above_bytes: encoded payloads larger than this go to the store.

    Raises:
        UsageError: the name of the codec, or of its key, cannot be written with a payload.
    """

    __slots__ = ("_above", "_codec", "_store")

    def __init__(self, codec: AnyCodec | None, store: ObjectStore | None, above_bytes: int) -> None:
        self._codec: Any = codec
        self._store = store
        self._above = above_bytes
        if codec is not None:
            _checked("name of a payload codec", codec.name)
            if codec.name.startswith("@") or ":" in codec.name:
                raise UsageError(
                    f"the name of a payload codec, {codec.name!r}, must hold no ':' and begin with no '@'"
                )

    @property
    def has_store(self) -> bool:
        """Whether large payloads go to a store."""
        return self._store is not None

    @property
    def codec_name(self) -> str:
        """Empty when payloads are not encoded."""
        return self._codec.name if self._codec is not None else ""

    def wrap(self, data: bytes, what: str) -> bytes:
        """The payload of some JSON.

        Raises:
            ValueUnavailable: the codec or the store failed.
        """
        if self._codec is not None:
            data = self._encoded(data, what)
        if self._store is not None and len(data) > self._above:
            return self._kept(data, what)
        return data

    def unwrap(self, payload: bytes, what: str) -> bytes:
        """The JSON in a payload that begins with NUL.

        Raises:
            ValueUnavailable: its codec, key or object is missing here.
        """
        if payload.startswith(_STORED):
            payload = self._fetched(payload[len(_STORED) :], what)
            if payload[:1] != _NUL:
                return payload
        header, _, data = payload[1:].partition(_NUL)
        name, _, key_id = header.decode("ascii", "replace").partition(":")
        codec = self._codec
        if codec is None or codec.name != name:
            made = f"the codec {name!r}" + (f" with the key {key_id!r}" if key_id else "")
            raise ValueUnavailable(
                f"{what}: the payload was made by {made}, which is not configured here. {_ADVICE}"
            )
        try:
            decode = partial(codec.decode, data, key_id) if _has_keys(codec) else partial(codec.decode, data)
            decoded: bytes = outside(decode)
        except KeyError:
            raise ValueUnavailable(
                f"{what}: the codec {name!r} does not have the key {key_id!r} here; give the key back to it"
            ) from None
        except Exception as error:
            of_key = f" of the key {key_id!r}" if key_id else ""
            raise ValueUnavailable(
                f"{what}: the codec {name!r} cannot read its payload{of_key}: {described(error)}"
            ) from error
        return decoded

    # ---- failures

    def hide(self, failure: FailureInfo) -> FailureInfo:
        """A failure whose message, fields, notes and traceback only the codec can read. The names
        of classes stay, which the retry policy compares.
        """
        if self._codec is None or failure.type in _PLAIN_TYPES:
            return failure
        shown = _outline(failure, f"(encoded by {self._codec.name!r})")
        for limit in (FAILURE_BYTES, FAILURE_BYTES // 2, FAILURE_BYTES // 4):
            packed = zlib.compress(msgspec.msgpack.encode(bounded(failure, limit)))
            try:
                encoded = self._encoded(packed, "the failure")
            except PayloadError as error:
                return replace(shown, message=f"(not recorded: {error})")
            hidden = replace(shown, fields=msgspec.json.encode({_ENCODED: b64encode(encoded).decode()}))
            if size_of(hidden) <= FAILURE_BYTES:
                return hidden
        return shown

    def reveal(self, failure: FailureInfo) -> FailureInfo:
        """Restore the failure that `hide` has encoded, perhaps cut.

        Raises:
            ValueUnavailable: the codec or the key is missing here.
        """
        if encoded := encoded_in(failure):
            what = f"the failure {failure.type}"
            return _unpacked(self.unwrap(encoded, what), what)
        cause = None if failure.cause is None else self.reveal(failure.cause)
        members = failure.exceptions and tuple(self.reveal(each) for each in failure.exceptions)
        if cause is failure.cause and members == failure.exceptions:
            return failure
        return replace(failure, cause=cause, exceptions=members)

    # ---- private

    def _encoded(self, data: bytes, what: str) -> bytes:
        codec = self._codec
        try:
            return outside(partial(_made_by, codec, data))
        except Exception as error:
            raise ValueUnavailable(
                f"{what}: the codec {codec.name!r} cannot encode it: {described(error)}"
            ) from error

    def _kept(self, data: bytes, what: str) -> bytes:
        key = sha256(data).hexdigest()
        try:
            assert self._store is not None
            outside(partial(self._store.put, key, data))
        except Exception as error:
            raise ValueUnavailable(
                f"{what}: its {len(data)} bytes could not be put into the store of large payloads: "
                f"{described(error)}"
            ) from error
        return b"%b%b:%d" % (_STORED, key.encode(), len(data))

    def _fetched(self, address: bytes, what: str) -> bytes:
        key = address.decode("ascii", "replace").partition(":")[0]
        if self._store is None:
            raise ValueUnavailable(
                f"{what} is in a store of large payloads (object {key}), and none is configured here. "
                f"{_ADVICE}"
            )
        try:
            data = outside(partial(self._store.get, key))
        except FileNotFoundError:
            raise ValueUnavailable(
                f"{what}: the object {key} is not in the store of large payloads; put it back"
            ) from None
        except Exception as error:
            raise ValueUnavailable(
                f"{what}: the object {key} could not be read from the store of large payloads: "
                f"{described(error)}"
            ) from error
        if sha256(data).hexdigest() != key:
            raise ValueUnavailable(
                f"{what}: the object {key} of the store of large payloads was changed; put it back"
            )
        return data


def encoded_in(failure: FailureInfo) -> bytes:
    """The payload that a codec has made of a failure; empty: none has, or it is damaged."""
    if not failure.fields.startswith(_FAILURE):
        return b""
    try:
        return b64decode(msgspec.json.decode(failure.fields, type=dict[str, str])[_ENCODED])
    except (ValueError, KeyError, msgspec.MsgspecError):
        return b""


def _unpacked(packed: bytes, what: str) -> FailureInfo:
    """The failure that `hide` has packed.

    Raises:
        ValueUnavailable: it is something else, which another codec may have made of it.
    """
    try:
        data = zlib.decompressobj().decompress(packed, 16 * FAILURE_BYTES)
        return msgspec.msgpack.decode(data, type=FailureInfo)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueUnavailable(f"{what}: what its codec has decoded is no failure: {error}") from None


_PLAIN_TYPES: Final = frozenset(f"{kind.__module__}:{kind.__qualname__}" for kind in CODEC_STAYS_PLAIN)


def described_payload(payload: bytes) -> dict[str, str]:
    """A description of a payload that is encoded or stored: its codec, key and bytes in base64,
    or its object.

    Args:
        payload: one that begins with NUL.
    """
    header, _, data = payload[1:].partition(_NUL)
    name, _, key_id = header.decode(errors="replace").partition(":")
    if payload.startswith(_STORED):
        return {"object": data.decode(errors="replace").partition(":")[0]}
    found = {"codec": name, "base64": b64encode(data).decode()}
    return {**found, "key": key_id} if key_id else found


def _made_by(codec: Any, data: bytes) -> bytes:
    """The payload that a codec makes of JSON, with its name and key."""
    if not _has_keys(codec):
        return b"".join((_NUL, codec.name.encode(), _NUL, codec.encode(data)))
    key_id = codec.key_id
    _checked(f"id of a key of the codec {codec.name!r}", key_id)
    return b"".join((_NUL, f"{codec.name}:{key_id}".encode(), _NUL, codec.encode(data, key_id)))


def _has_keys(codec: Any) -> bool:
    return hasattr(cast("Any", type(codec)), "key_id") or "key_id" in getattr(codec, "__dict__", ())


def _checked(what: str, name: object) -> None:
    if (
        not isinstance(name, str)
        or not name.isascii()
        or not name.isprintable()
        or not 0 < len(name) <= ID_BYTES
    ):
        raise UsageError(f"the {what} is {name!r}; it must be 1 to {ID_BYTES} printable ASCII characters")


def _outline(failure: FailureInfo, message: str) -> FailureInfo:
    """The failure without the parts that may contain your values."""
    return FailureInfo(
        failure.type,
        message,
        is_final=failure.is_final,
        retry_after_us=failure.retry_after_us,
        attempts=failure.attempts,
        bases=failure.bases,
        exceptions=failure.exceptions and tuple(_outline(each, "") for each in failure.exceptions),
    )
