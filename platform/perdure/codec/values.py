"""One value as JSON by its annotation, and what to say when it does not fit."""

from __future__ import annotations

import re
import sys
import types
import typing
from collections import deque
from functools import lru_cache
from inspect import Parameter
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from perdure.errors import PayloadError

_AS_ANY: Final = (Parameter.empty, NoReturn, typing.Never, object)
_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_INDEX: Final = re.compile(r"^\[(\d+)\]")
_PLAIN: Final = (str, int, float)


def to_json(value: object) -> bytes:
    """Compact JSON.

    Raises:
        PayloadError: it cannot be encoded; the message is what is wrong with it, without a subject.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise PayloadError(f"cannot be encoded: {error}") from None
    except RecursionError:
        raise PayloadError("cannot be encoded: it contains itself, or is nested too deeply") from None


def from_json(data: bytes | msgspec.Raw, annotation: Any) -> Any:
    """The value.

    Raises:
        PayloadError: it does not fit; the message is "expected …", without a subject.
    """
    try:
        return decoder_of(annotation).decode(data)
    except msgspec.MsgspecError as error:
        raise PayloadError(fault_in_words(error)[1]) from None


def decoder_of(annotation: Any) -> msgspec.json.Decoder[Any]:
    """Raises PayloadError when values of this type cannot be told from JSON; the message is without a subject."""
    try:
        return _decoder_of(annotation)
    except TypeError as error:
        fault = str(error)
    if "unhashable" in fault:
        try:
            return _decoder_of.__wrapped__(annotation)
        except TypeError as error:
            fault = str(error)
    raise PayloadError(f"is of type {shown(annotation)}, which cannot be told from JSON: {_advice(fault)}")


def fault_in_words(error: msgspec.MsgspecError) -> tuple[int | None, str]:
    """The index of the array element it is about, if it is, and the fault: "expected int, got str at .cents".

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
    if annotation in _AS_ANY or isinstance(annotation, TypeVar):
        annotation = Any
    return msgspec.json.Decoder(type(None) if annotation is None else annotation, dec_hook=_decode_foreign)


def _encode_foreign(value: Any) -> Any:
    kind = typing.cast("Any", type(value))
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    if issubclass(kind, deque):
        return list(value)
    if issubclass(kind, (tuple, frozenset)) or hasattr(kind, "__dataclass_fields__"):  # on their own these have a JSON form
        raise TypeError(f"a dict with keys of type {kind.__qualname__}; keys are text, numbers or enums")
    raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__}; use a dataclass, an enum, or a built-in type")


def _decode_foreign(kind: Any, value: Any) -> Any:
    pydantic = sys.modules.get("pydantic")
    if kind is object:
        return value
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if pydantic is not None and issubclass(origin, pydantic.BaseModel):
            return kind.model_validate(value)
        if issubclass(origin, deque):
            item = typing.get_args(kind) or (Any,)
            return deque(msgspec.convert(value, types.GenericAlias(list, item), dec_hook=_decode_foreign))
        if issubclass(origin, _PLAIN) and isinstance(value, _PLAIN):
            return origin(value)
    raise TypeError(f"is of type {shown(kind)}, which cannot be decoded from JSON; use a dataclass, an enum, or a built-in type")


def is_decodable_class(kind: Any) -> bool:
    """Whether `_decode_foreign` can make one, msgspec knowing nothing of it."""
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
        return "its alternatives look alike there. Use one dataclass with an enum field, or msgspec Structs with `tag=True`"
    return fault


_encoder: Final = msgspec.json.Encoder(enc_hook=_encode_foreign)
