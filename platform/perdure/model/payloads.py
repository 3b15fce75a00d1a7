"""The port for encoding values as payloads; `perdure.codec` implements it.

A payload is bytes that describe themselves: JSON, or, where a codec of the user's is configured, a
NUL byte, the codec's name, a NUL byte, and what the codec made of the JSON. A codec with keys has
`name:key id` there. A large payload is a NUL byte, `@store`, a NUL byte, and the address of the
object that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from perdure.model.failure import FailureInfo

UNKNOWN: Final[Any] = object()
"""The annotation of a value that is encoded for a function whose signature is not known here."""

AvroSchema = tuple[str, int | None]
"""A schema as JSON text, and the id that a schema registry gave to it, if one did."""


class PayloadCodec(Protocol):
    """Encrypts or compresses payloads. Called from several threads.

    Attributes:
        name: travels with each payload; printable ASCII without `:`, and no `@` at its beginning.
    """

    @property
    def name(self) -> str: ...

    def encode(self, data: bytes, /) -> bytes: ...

    def decode(self, data: bytes, /) -> bytes: ...


class KeyedCodec(Protocol):
    """A codec with keys. The id of the key travels with each payload, so that keys can be replaced
    while runs are open: what an old key has encoded is decoded by that key.

    Attributes:
        name: as of `PayloadCodec`.
        key_id: of the key that encodes now; printable ASCII, at most 255 characters.
    """

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> str: ...

    def encode(self, data: bytes, key_id: str, /) -> bytes: ...

    def decode(self, data: bytes, key_id: str, /) -> bytes:
        """Raises KeyError when it does not have the key: the run waits until it has."""
        ...


AnyCodec = PayloadCodec | KeyedCodec


class ObjectStore(Protocol):
    """Holds large payloads. Called from several threads."""

    def put(self, key: str, data: bytes, /) -> None:
        """Store an object; returns when it is durable. A repeat changes nothing.

        Args:
            key: made of its hash.
            data: of the object.

        Raises:
            Exception: it could not be stored.
        """
        ...

    def get(self, key: str, /) -> bytes:
        """An object.

        Raises:
            FileNotFoundError: it is not there.
            Exception: the store does not answer.
        """
        ...


class Payloads(Protocol):
    """Values to payloads and back.

    Attributes:
        may_wait: encoding and decoding may wait for a store.
    """

    @property
    def may_wait(self) -> bool: ...

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
    ) -> bytes:
        """Bind the arguments to the signature of `fn` (without its `self`) and encode them.

        Args:
            fn: your function.
            args: positional.
            kwargs: by name.
            what: names the call in messages, as "activity 'charge'".

        Raises:
            PayloadError: they do not fit the signature or an annotation, cannot be encoded, or are
                over the limit; the message names the argument, its size and what to do.
        """
        ...

    def encode_plainly(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
    ) -> bytes:
        """As `encode_arguments`, but JSON as it is: without codec, store and limit. It becomes part
        of another payload.
        """
        ...

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode arguments by the annotations of `fn`.

        Raises:
            PayloadError: they do not fit; the message names the argument.
        """
        ...

    def encode(self, value: object, annotation: Any = UNKNOWN, *, what: str, most: int = 0) -> bytes:
        """Encode one value.

        Args:
            value: your value.
            annotation: the annotation that decodes it; `UNKNOWN` if only the reader knows it.
            what: for messages.
            most: the limit of its JSON, bytes; 0: that of any payload.

        Raises:
            PayloadError: it cannot be encoded, would change when decoded by the annotation, or is
                over the limit.
        """
        ...

    def decode(self, payload: bytes, annotation: Any, *, what: str) -> Any:
        """Decode one value by its annotation (`Any`: as plain JSON values).

        Raises:
            PayloadError: it does not fit.
        """
        ...

    def encode_record(
        self, value: object, avro: AvroSchema | None, *, what: str
    ) -> tuple[bytes | None, bytes]:
        """The bytes of a record for other systems, not encoded by your codec, and their content
        type.

        Args:
            value: anything with a JSON form; bytes as they are; None: a tombstone.
            avro: encode it by this schema.
            what: for messages.

        Raises:
            PayloadError: it cannot be encoded, or is over the limit.
        """
        ...

    def encode_failure(self, error: BaseException) -> FailureInfo:
        """Encode a failure. Never raises: parts that cannot be encoded are recorded as text."""
        ...

    def decode_failure(self, info: FailureInfo) -> BaseException:
        """The exception; one whose class is not known here comes back as `RemoteException`.

        Raises:
            ValueUnavailable: a codec has encoded it that cannot decode it now.
        """
        ...

    def open_failure(self, info: FailureInfo) -> FailureInfo:
        """A recorded failure with its message and all: what a codec has encoded is decoded. Raises
        as `decode_failure`.
        """
        ...
