"""How an exception is recorded."""

from __future__ import annotations

from msgspec import Struct


class FailureInfo(Struct, array_like=True, frozen=True, omit_defaults=True):
    """An exception as it crosses the wire.

    Attributes:
        type: the class, as `module:QualName`.
        message: `str(exception)`.
        fields: JSON of the dataclass fields by name; of other classes an array of `args`, or an object of `args` and `attributes`
            where it has some; empty when they have no JSON.
        is_final: a `Failure`: no attempt follows.
        traceback: as text, cut to the author's frames.
        cause: what it was raised from.
        retry_after_us: the delay that the error asked for; -1 when it asked for none.
        attempts: of an activity that failed; 0 elsewhere.
        bases: the classes it derives from, each as `module:QualName`, without `Exception` and what is above it: what
            `Retry(never=…)` is matched against.
    """

    type: str
    message: str = ""
    fields: bytes = b""
    is_final: bool = False
    traceback: str = ""
    cause: FailureInfo | None = None
    retry_after_us: int = -1
    attempts: int = 0
    bases: tuple[str, ...] = ()
