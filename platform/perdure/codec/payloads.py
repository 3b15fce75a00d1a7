"""User values as JSON by annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from perdure.codec.arguments import Arguments
from perdure.codec.failures import failure_of, info_of
from perdure.codec.produced import encoded
from perdure.codec.values import from_json, to_json, to_json_as, to_json_of_unknown
from perdure.errors import PayloadError
from perdure.model.failure import FailureInfo
from perdure.model.limits import PAYLOAD_BYTES
from perdure.model.payloads import UNKNOWN, AvroSchema

_NUL: Final = b"\0"


class PayloadCodec(Protocol):
    """Encrypts or compresses payloads.

    Attributes:
        name: travels with each payload; printable ASCII.
    """

    @property
    def name(self) -> str: ...

    def encode(self, data: bytes, /) -> bytes: ...

    def decode(self, data: bytes, /) -> bytes: ...


class JsonPayloads:
    """The implementation of `perdure.model.payloads.Payloads`.

    Args:
        codec: encrypts or compresses what is written; payloads without it are read as they are.
            Failures are not passed through it.
        validate_on_encode: refuse values that would not come back as they are. False is for tools
            that trust them.
        limit_bytes: of one payload.
    """

    def __init__(
        self,
        codec: PayloadCodec | None = None,
        *,
        validate_on_encode: bool = True,
        limit_bytes: int = PAYLOAD_BYTES,
    ) -> None:
        self._codec = codec
        self._validates = validate_on_encode
        self._limit = limit_bytes
        self._arguments: dict[Callable[..., Any], Arguments] = {}

    def check(self, fn: Callable[..., Any], *, what: str) -> None:
        """See now, at registration, whether the arguments of a function can be decoded.

        Raises:
            UsageError: an annotation cannot; the message names it.
        """
        self._of(fn).check(what)

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
    ) -> bytes:
        """See the port."""
        arguments = self._arguments.get(fn) or self._of(fn)
        data = arguments.encode(args, kwargs, what, is_checked=self._validates)
        if len(data) > self._limit:
            sizes = arguments.sizes(args, kwargs)
            largest = max(sizes, key=sizes.__getitem__)
            raise _too_large(
                f"{what}: the arguments are",
                len(data),
                self._limit,
                f"the largest is {largest!r} with {sizes[largest]}",
            )
        return data if self._codec is None else self._wrap(data, self._codec, what)

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See the port."""
        arguments = self._arguments.get(fn) or self._of(fn)
        try:
            return arguments.decode(self._unwrap(payload, what), what)
        except (UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(f"{what}: the arguments are not valid JSON: {error}") from None

    def encode(self, value: object, annotation: Any = UNKNOWN, *, what: str) -> bytes:
        """See the port."""
        try:
            if annotation is UNKNOWN:
                data = to_json_of_unknown(value)
            else:
                data = to_json_as(value, annotation) if self._validates else to_json(value)
        except PayloadError as error:
            raise type(error)(f"{what} {error}") from None
        if len(data) > self._limit:
            raise _too_large(f"{what} is", len(data), self._limit, "")
        return data if self._codec is None else self._wrap(data, self._codec, what)

    def decode(self, payload: bytes, annotation: Any, *, what: str) -> Any:
        """See the port."""
        data = self._unwrap(payload, what)
        try:
            return from_json(data, annotation)
        except PayloadError as error:
            raise PayloadError(f"{what} {error}") from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(f"{what} is not valid JSON: {error}") from None

    def encode_record(
        self, value: object, avro: AvroSchema | None, *, what: str
    ) -> tuple[bytes | None, bytes]:
        """See the port."""
        try:
            data, content_type = encoded(value, *(avro or (None, None)))
        except PayloadError as error:
            raise type(error)(f"{what} {error}") from None
        if data is not None and len(data) > self._limit:
            raise _too_large(f"{what} is", len(data), self._limit, "")
        return data, content_type

    def encode_failure(self, error: BaseException) -> FailureInfo:
        """See the port."""
        return info_of(error)

    def decode_failure(self, info: FailureInfo) -> BaseException:
        """See the port."""
        return failure_of(info)

    def to_json(self, payload: bytes, *, what: str) -> bytes:
        """The JSON in a payload, for people.

        Raises:
            PayloadError: its codec is not configured here.
        """
        return self._unwrap(payload, what)

    def _of(self, fn: Callable[..., Any]) -> Arguments:
        arguments = self._arguments[fn] = Arguments(fn)
        return arguments

    def _wrap(self, data: bytes, codec: PayloadCodec, what: str) -> bytes:
        wrapped = b"".join((_NUL, codec.name.encode("ascii"), _NUL, codec.encode(data)))
        if len(wrapped) > self._limit:
            raise _too_large(f"{what} is", len(wrapped), self._limit, f"as the codec {codec.name!r} made it")
        return wrapped

    def _unwrap(self, payload: bytes, what: str) -> bytes:
        if payload[:1] != _NUL:
            return payload
        name, _, data = payload[1:].partition(_NUL)
        codec = self._codec
        if codec is None or codec.name.encode("ascii") != name:
            raise PayloadError(
                f"{what}: the payload was made by the codec {name.decode('ascii', 'replace')!r}, which is "
                "not configured here. "
                "Give every client, worker and engine of a namespace the same codec."
            )
        try:
            return codec.decode(data)
        except Exception as error:
            raise PayloadError(
                f"{what}: the codec {codec.name!r} cannot read its payload: {error!r}"
            ) from error


def _too_large(subject: str, size: int, limit: int, detail: str) -> PayloadError:
    return PayloadError(
        f"{subject} {size} bytes long, the limit is {limit}{f' ({detail})' if detail else ''}. "
        "Store large data elsewhere and pass its address."
    )
