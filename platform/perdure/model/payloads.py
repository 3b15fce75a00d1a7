"""The port for encoding values as payloads; `perdure.codec` implements it.

A payload is bytes that describe themselves: JSON, or, where a codec of the user's is configured, a
NUL byte, the codec's name, a NUL byte, and what the codec made of the JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from perdure.model.failure import FailureInfo

UNKNOWN: Final[Any] = object()
"""The annotation of a value that is encoded for a function whose signature is not known here."""

AvroSchema = tuple[str, int | None]
"""A schema as JSON text, and the id that a schema registry gave to it, if one did."""


class Payloads(Protocol):
    """Values to payloads and back."""

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
    ) -> bytes:
        """Bind the arguments to the signature of `fn` (without its `self`) and encode them.

        Args:
            fn: your function.
            args: positional.
            kwargs: by name.
            what: "activity 'charge'", for messages.

        Raises:
            PayloadError: they do not fit the signature or an annotation, cannot be encoded, or are
                over the limit; the message names the argument, its size and what to do.
        """
        ...

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments by the annotations of `fn`.

        Raises:
            PayloadError: they do not fit; the message names the argument.
        """
        ...

    def encode(self, value: object, annotation: Any = UNKNOWN, *, what: str) -> bytes:
        """Encode one value.

        Args:
            value: of yours.
            annotation: that it will be decoded by; `UNKNOWN` where that is known only there.
            what: for messages.

        Raises:
            PayloadError: it cannot be encoded, would not come back as it is by the annotation, or
                is over the limit.
        """
        ...

    def decode(self, payload: bytes, annotation: Any, *, what: str) -> Any:
        """Decode one value by its annotation (`Any` for whatever it is).

        Raises:
            PayloadError: it does not fit.
        """
        ...

    def encode_record(
        self, value: object, avro: AvroSchema | None, *, what: str
    ) -> tuple[bytes | None, bytes]:
        """The bytes of a record for others, which no codec of the user's has touched, and their
        content type.

        Args:
            value: anything with a JSON form; bytes as they are; None: a tombstone.
            avro: encode it by this schema.
            what: for messages.

        Raises:
            PayloadError: it cannot be encoded, or is over the limit.
        """
        ...

    def encode_failure(self, error: BaseException) -> FailureInfo:
        """Never raises: what cannot be encoded is recorded as text."""
        ...

    def decode_failure(self, info: FailureInfo) -> BaseException:
        """Never raises: an exception whose class is not known here comes back as
        `RemoteException`.
        """
        ...
