"""Encodes one value as JSON by its annotation, and describes values that do not fit."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections import deque
from collections.abc import Callable
from functools import cache, lru_cache
from inspect import Parameter
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from perdure.codec.faithful.changed import Changed
from perdure.codec.faithful.compiler import check_of
from perdure.codec.faithful.scalars import Check
from perdure.codec.faithful.unannotated import check_unannotated
from perdure.codec.msgspec_faults import crash_of
from perdure.errors import NotAwaited, PayloadError

_AS_ANY: Final = (Parameter.empty, NoReturn, typing.Never, object)
_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_INDEX: Final = re.compile(r"^\[(\d+)\]")
_PLAIN: Final = (str, int, float)
T = TypeVar("T")

DEPTH: Final = 100
"""Levels of arrays and objects in a payload; Python's own limits depend on its version and on where
it is called."""
_SHALLOW_BYTES: Final = 2 * DEPTH
"""JSON up to this length cannot be deeper than `DEPTH`."""
_ROOM: Final = 20 * DEPTH
"""Frames that may be needed for that."""
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b'[]{}"\\'))
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def to_json(value: object) -> bytes:
    """Compact JSON of a value. Does not check whether the value is unchanged when decoded.

    Raises:
        PayloadError: it cannot be encoded; the message is what is wrong with it, without a subject.
    """
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise PayloadError(f"cannot be encoded: {error}") from None
    except RecursionError:
        data = _with_room(_encoder.encode, value)
    if len(data) > _SHALLOW_BYTES:
        check_depth(data)
    return data


def to_json_as(value: object, annotation: Any) -> bytes:
    """Compact JSON of a value, checked to be unchanged when decoded by this annotation.

    Raises:
        PayloadError: it would not, or cannot be encoded; the message is what is wrong with it,
            without a subject.
    """
    data = to_json(value)
    try:
        _check_for(annotation)(value)
    except Exception:  # noqa: BLE001  the slow way finds out what it is: a value, an annotation without a hash, a stack without room
        check_value(value, annotation, data)
    return data


def to_json_of_unknown(value: object) -> bytes:
    """Compact JSON of a value whose annotation is not known here: what JSON cannot even show is
    refused.

    Raises:
        PayloadError: the same.
    """
    data = to_json(value)
    try:
        _checked(check_unannotated, msgspec.to_builtins(value, enc_hook=encode_foreign, builtin_types=()))
    except Changed as error:
        raise PayloadError(str(error)) from None
    except TypeError:  # a dict with keys that only have JSON as text, which are written as that
        pass
    return data


def check_value(value: object, annotation: Any, data: bytes) -> None:
    """Check that a value is unchanged after encoding and decoding.

    Args:
        value: of yours.
        annotation: resolved.
        data: JSON of the value.

    Raises:
        PayloadError: it would not; the message is what is wrong with it, without a subject.
    """
    try:
        _checked(check_for(annotation), value)
    except Changed as error:
        from_json(data, annotation)  # "expected int, got str" says it better
        raise PayloadError(str(error)) from None


def check_for(annotation: Any) -> Check:
    """The check for values of an annotation.

    Raises:
        PayloadError: JSON cannot distinguish values of this type; the message is without a subject.
    """
    try:
        return _check_for(annotation)
    except (TypeError, NotImplementedError, ValueError):  # unhashable, or none that can be decoded
        return _check_for.__wrapped__(annotation)


@lru_cache(maxsize=4096)
def _check_for(annotation: Any) -> Check:
    decoder_of(annotation)
    return check_of(annotation, decoded_again)


def decoded_again(value: Any, annotation: Any) -> Any:
    """Encode and decode a value."""
    return from_json(to_json(value), annotation)


def from_json(data: bytes | msgspec.Raw, annotation: Any) -> Any:
    """The value.

    Raises:
        PayloadError: it does not fit; the message is "expected …", without a subject.
    """
    try:
        decoder = _decoder_of(annotation)
    except Exception:  # noqa: BLE001 - says why
        decoder = decoder_of(annotation)
    if len(data) > _SHALLOW_BYTES:
        check_depth(bytes(data))
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise PayloadError(fault_in_words(error)[1]) from None
    except TypeError as error:  # a set of lists: msgspec does not wrap what a set says of its items
        raise PayloadError(f"cannot be decoded: {error}") from None
    except RecursionError:
        return _with_room(decoder.decode, data)


def check_depth(data: bytes) -> None:
    """Check that JSON is not nested deeper than `DEPTH`. The result must not depend on the Python
    version or the depth of the caller.

    Strings and everything else that is not a bracket are taken away, then pairs of brackets,
    innermost first, until nothing is left.

    Args:
        data: JSON; what is none is found by the decoder.

    Raises:
        PayloadError: it is; the message is without a subject.
    """
    if data.count(b"[") + data.count(b"{") <= DEPTH:
        return
    brackets = data.translate(_SQUARE, _NO_BRACKETS).replace(b'""', b"")
    if b'"' in brackets or b"\\" in brackets:  # there are brackets or quotes within strings
        brackets = _STRING.sub(b"", data).translate(_SQUARE, _NO_BRACKETS).replace(b'"', b"")
    for _ in range(DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise PayloadError(
            f"is nested deeper than {DEPTH} levels; keep such data as text, or in a list with ids"
        )


def decoder_of(annotation: Any) -> msgspec.json.Decoder[Any]:
    """Raises PayloadError when JSON cannot distinguish values of this type; the message is without
    a subject.
    """
    try:
        return _decoder_of(annotation)
    except (NameError, PayloadError):
        raise  # of a name, the loader says which is not there
    except Exception as error:  # noqa: BLE001 - msgspec's, of a type that it cannot take
        fault = str(error)
    if "unhashable" in fault:
        try:
            return _decoder_of.__wrapped__(annotation)
        except (NameError, PayloadError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            fault = str(error)
    if "2**63" in fault:
        raise PayloadError(
            f"is of type {shown(annotation)}, which has a number beyond 64 bits; the decoder knows no such "
            "enums and literals: use text"
        )
    raise PayloadError(
        f"is of type {shown(annotation)}, whose alternatives JSON cannot distinguish: {_advice(fault)}"
    )


def fault_in_words(error: msgspec.MsgspecError) -> tuple[int | None, str]:
    """The index of the array element it is about, if it is, and the fault: "expected int, got str
    at .cents".

    Args:
        error: of a decoder.
    """
    text = str(error)
    path = ""
    if match := _AT.search(text):
        text, path = text[: match.start()], match[1]
    index: int | None = None
    if found := _INDEX.match(path):
        index, path = int(found[1]), path[found.end() :]
    words = text.replace("`", "")
    words = words[:1].lower() + words[1:]
    if words == "expected float, got null":
        words += " (what NaN and infinity become: they have no JSON)"
    return index, f"{words}, at {path}" if path else words


@lru_cache(maxsize=4096)
def _decoder_of(annotation: Any) -> msgspec.json.Decoder[Any]:
    if fault := crash_of(annotation):
        raise PayloadError(f"is of type {shown(annotation)}, which crashes the decoder: it has {fault}")
    if annotation in _AS_ANY or isinstance(annotation, TypeVar):
        annotation = Any
    return msgspec.json.Decoder(type(None) if annotation is None else annotation, dec_hook=decode_foreign)


def _checked(check: Callable[[Any], object], value: object) -> None:
    try:
        check(value)
    except RecursionError:
        _with_room(check, value)


def _with_room(function: Callable[[Any], T], value: Any) -> T:
    """Call a function again on an empty stack: the depth of the caller must make no difference,
    since a replay may be called at another depth.

    Raises:
        PayloadError: it contains itself, or is nested far deeper than `DEPTH`.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + _ROOM)
    try:
        return function(value)
    except RecursionError:
        raise PayloadError(
            f"cannot be encoded: it contains itself, or is nested deeper than {DEPTH} levels"
        ) from None
    except msgspec.MsgspecError as error:
        raise PayloadError(fault_in_words(error)[1]) from None
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise PayloadError(f"cannot be encoded: {error}") from None
    finally:
        sys.setrecursionlimit(limit)


def encode_foreign(value: Any) -> Any:
    """Encode a value of a foreign type (msgspec's hook)."""
    kind = typing.cast("Any", type(value))
    if hasattr(kind, "__await__"):
        raise NotAwaited(f"has {value!r}, which was not awaited: write `await` before the call")
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", round_trip=True, warnings=False)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    if issubclass(kind, deque):
        return list(value)
    # on their own these have a JSON form
    if issubclass(kind, (tuple, frozenset)) or hasattr(kind, "__dataclass_fields__"):
        raise TypeError(f"a dict with keys of type {kind.__qualname__}; keys are text, numbers or enums")
    raise TypeError(
        f"a value of type {kind.__module__}.{kind.__qualname__}; use a dataclass, an enum, or a built-in type"
    )


def decode_foreign(kind: Any, value: Any) -> Any:
    """Decode a value of a foreign type (msgspec's hook)."""
    pydantic = sys.modules.get("pydantic")
    if kind is object:
        return value
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if pydantic is not None and issubclass(origin, pydantic.BaseModel):
            return kind.model_validate_json(_encoder.encode(value), **_by_name(pydantic))
        if issubclass(origin, deque):
            item = typing.get_args(kind) or (Any,)
            return deque(msgspec.convert(value, types.GenericAlias(list, item), dec_hook=decode_foreign))
        if issubclass(origin, _PLAIN) and isinstance(value, _PLAIN):
            return origin(value)
    raise TypeError(
        f"is of type {shown(kind)}, which cannot be decoded from JSON; use a dataclass, an enum, or a "
        "built-in type"
    )


@cache
def _by_name(pydantic: Any) -> dict[str, bool]:
    """Write models by the names of their fields, which are unique; aliases are also read."""
    is_known = tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 11)
    return {"by_alias": True, "by_name": True} if is_known else {}


def is_decodable_class(kind: Any) -> bool:
    """Whether `_decode_foreign` can decode a class that msgspec does not know."""
    origin = typing.get_origin(kind) or kind
    if origin is object:
        return True
    pydantic = sys.modules.get("pydantic")
    known = (deque, *_PLAIN) if pydantic is None else (deque, *_PLAIN, pydantic.BaseModel)
    return isinstance(origin, type) and issubclass(origin, known)


def shown(annotation: Any) -> str:
    """An annotation, for messages."""
    return annotation.__qualname__ if isinstance(annotation, type) else repr(annotation)


def _advice(fault: str) -> str:
    if "union" in fault:
        return (
            "its alternatives look alike there. Use one dataclass with an enum field, or msgspec Structs "
            "with `tag=True`"
        )
    return fault


_encoder: Final = msgspec.json.Encoder(enc_hook=encode_foreign)
