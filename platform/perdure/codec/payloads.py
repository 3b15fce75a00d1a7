"""User values as JSON by annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.app import App
from perdure.codec.arguments import Arguments, arguments_of
from perdure.codec.failures import failure_of, info_of
from perdure.codec.produced import encoded
from perdure.codec.values import encoder_for, from_json, to_json_as, to_json_of_unknown
from perdure.codec.wrapping import Wrapping
from perdure.errors import PayloadError
from perdure.model.failure import FailureInfo
from perdure.model.limits import PAYLOAD_BYTES, STORED_BYTES
from perdure.model.payloads import UNKNOWN, AnyCodec, AvroSchema, ObjectStore, PayloadCodec

__all__ = ["JsonPayloads", "PayloadCodec"]

_NUL: Final = b"\0"


class JsonPayloads:
    """The implementation of `perdure.model.payloads.Payloads`.

    Args:
        codec: encrypts or compresses what is written; payloads without it are read as they are.
        store: of large payloads.
        above_bytes: payloads larger than this go to the store, if there is one.
        validate_on_encode: refuse values that would change when decoded. False is for tools that
            trust their values.
        limit_bytes: of one payload; by default 1 MiB, and 64 MiB with a store.

    Raises:
        UsageError: the name of the codec cannot be written with a payload.
    """

    def __init__(
        self,
        codec: AnyCodec | None = None,
        *,
        store: ObjectStore | None = None,
        above_bytes: int = PAYLOAD_BYTES,
        validate_on_encode: bool = True,
        limit_bytes: int | None = None,
    ) -> None:
        self._wrapping = Wrapping(codec, store, above_bytes)
        self._wraps = codec is not None or store is not None
        self._validates = validate_on_encode
        self._limit = limit_bytes or (PAYLOAD_BYTES if store is None else STORED_BYTES)
        self._record_limit = limit_bytes or PAYLOAD_BYTES
        self._arguments: dict[Callable[..., Any], Arguments] = {}

    @classmethod
    def of(cls, app: App) -> JsonPayloads:
        """The payloads that an app defines.

        Raises:
            UsageError: something that its store needs is not installed.
        """
        large = app.large
        if large is None:
            return cls(app.codec)
        return cls(app.codec, store=large.opened(), above_bytes=large.above_bytes)

    @classmethod
    def over(cls, wrapping: Wrapping) -> JsonPayloads:
        """Payloads that are unwrapped in another way."""
        made = cls()
        made._wrapping, made._wraps = wrapping, True
        return made

    @property
    def may_wait(self) -> bool:
        """See the port."""
        return self._wrapping.has_store

    @property
    def wraps(self) -> bool:
        """Whether a codec or a store is configured here."""
        return self._wraps

    def check(self, fn: Callable[..., Any], *, what: str) -> None:
        """Check, at registration, whether the arguments of a function can be decoded.

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
        return self._wrapped(data, what) if self._wraps else data

    def encode_plainly(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
    ) -> bytes:
        """See the port."""
        arguments = self._arguments.get(fn) or self._of(fn)
        return arguments.encode(args, kwargs, what, is_checked=self._validates)

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See the port."""
        arguments = self._arguments.get(fn) or self._of(fn)
        try:
            return arguments.decode(self._unwrap(payload, what), what)
        except (UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(f"{what}: the arguments are not valid JSON: {error}") from None

    def encode(self, value: object, annotation: Any = UNKNOWN, *, what: str, most: int = 0) -> bytes:
        """See the port."""
        try:
            if annotation is UNKNOWN:
                data = to_json_of_unknown(value)
            else:
                data = to_json_as(value, annotation) if self._validates else encoder_for(annotation)(value)
        except PayloadError as error:
            raise type(error)(f"{what} {error}") from None
        if len(data) > (limit := most or self._limit):
            raise _too_large(f"{what} is", len(data), limit, "")
        return self._wrapped(data, what) if self._wraps else data

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
        if data is not None and len(data) > self._record_limit:
            raise _too_large(f"{what} is", len(data), self._record_limit, "")
        return data, content_type

    def encode_failure(self, error: BaseException) -> FailureInfo:
        """See the port."""
        return self._wrapping.hide(info_of(error))

    def decode_failure(self, info: FailureInfo) -> BaseException:
        """See the port."""
        return failure_of(self._wrapping.reveal(info))

    def open_failure(self, info: FailureInfo) -> FailureInfo:
        """See the port."""
        return self._wrapping.reveal(info)

    def to_json(self, payload: bytes, *, what: str) -> bytes:
        """The JSON in a payload, for people.

        Raises:
            ValueUnavailable: its codec, key or object is missing here.
        """
        return self._unwrap(payload, what)

    def of_json(self, data: bytes, *, what: str) -> bytes:
        """The payload of JSON that another program has written.

        Raises:
            PayloadError: it is over the limit, or cannot be encoded now.
        """
        if len(data) > self._limit:
            raise _too_large(f"{what} is", len(data), self._limit, "")
        return self._wrapped(data, what) if self._wraps and data[:1] != _NUL else data

    def _of(self, fn: Callable[..., Any]) -> Arguments:
        arguments = self._arguments[fn] = arguments_of(fn)
        return arguments

    def _wrapped(self, data: bytes, what: str) -> bytes:
        wrapped = self._wrapping.wrap(data, what)
        if len(wrapped) > self._limit:
            detail = f"as the codec {self._wrapping.codec_name!r} made it"
            raise _too_large(f"{what} is", len(wrapped), self._limit, detail)
        return wrapped

    def _unwrap(self, payload: bytes, what: str) -> bytes:
        return payload if payload[:1] != _NUL else self._wrapping.unwrap(payload, what)


def _too_large(subject: str, size: int, limit: int, detail: str) -> PayloadError:
    return PayloadError(
        f"{subject} {size} bytes long, the limit is {limit}{f' ({detail})' if detail else ''}. "
        "Store large data elsewhere and pass its address."
    )
