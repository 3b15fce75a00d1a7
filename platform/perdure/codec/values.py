"""Encodes one value as JSON by its annotation, and describes values that do not fit."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from perdure.codec.alternatives.coder import Coder, same
from perdure.codec.alternatives.compiler import coder_of, is_native, stand_in
from perdure.codec.faithful.changed import Changed
from perdure.codec.faithful.compiler import check_of
from perdure.codec.faithful.scalars import Check
from perdure.codec.faithful.unannotated import check_unannotated
from perdure.codec.foreign import decode_foreign, encode_foreign, shown
from perdure.codec.msgspec_faults import crash_of, words_of
from perdure.errors import PayloadError

_AS_ANY: Final = (Parameter.empty, NoReturn, typing.Never, object)
_INDEX: Final = re.compile(r"^\[(\d+)\]")
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
    try:
        check, encode = _plan_of(annotation)
    except Exception:  # noqa: BLE001  an annotation without a hash, or one that cannot be decoded
        data = encoder_for(annotation)(value)
        check_value(value, annotation, data)
        return data
    data = encode(value)
    try:
        check(value)
    except Exception:  # noqa: BLE001  the slow way finds out what it is: a value, a stack without room
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


def encoder_for(annotation: Any) -> Callable[[Any], bytes]:
    """The encoder of an annotation's values: `to_json`, except for unions that need tags."""
    try:
        return _encoder_for(annotation)
    except TypeError:  # unhashable
        return _encoder_for.__wrapped__(annotation)


@lru_cache(maxsize=4096)
def _encoder_for(annotation: Any) -> Callable[[Any], bytes]:
    tag = tagging(annotation)
    if tag is None:
        return to_json
    encode = tag

    def to_tagged_json(value: Any) -> bytes:
        return to_json(_with_tags(encode, value))

    return to_tagged_json


def _with_tags(encode: Callable[[Any], Any], value: Any) -> Any:
    try:
        return encode(value)
    except Changed as error:
        raise PayloadError(str(error)) from None
    except RecursionError:
        return _with_room(encode, value)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise PayloadError(f"cannot be encoded: {error}") from None


def tagging(annotation: Any) -> Callable[[Any], Any] | None:
    """The function that adds tags to the values of an annotation; None when they need none."""
    try:
        coder = _coder_for(annotation)
    except Exception:  # noqa: BLE001  it cannot be decoded, which is said elsewhere
        return None
    return None if coder is None or coder.encode is same else coder.encode


def decodable(annotation: Any) -> Any:
    """The annotation, or the class that stands for it where msgspec does not take it."""
    try:
        return _decodable(annotation)
    except TypeError:  # unhashable, or none of ours: the same error again
        return _decodable.__wrapped__(annotation)


@lru_cache(maxsize=4096)
def _decodable(annotation: Any) -> Any:
    coder = _coder_for(annotation)
    return annotation if coder is None else stand_in(coder)


def _coder_for(annotation: Any) -> Coder | None:
    if _is_any(annotation) or is_native(annotation):
        return None
    return coder_of(annotation)


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
def _plan_of(annotation: Any) -> tuple[Check, Callable[[Any], bytes]]:
    """The check and the encoder of an annotation's values: one look-up for both."""
    return _check_for(annotation), encoder_for(annotation)


@lru_cache(maxsize=4096)
def _check_for(annotation: Any) -> Check:
    decoder_of(annotation)
    return check_of(annotation, decoded_again)


def decoded_again(value: Any, annotation: Any) -> Any:
    """Encode and decode a value."""
    return from_json(encoder_for(annotation)(value), annotation)


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
        words, path = words_of(error)
        raise PayloadError(f"{words}, at {path}" if path else words) from None
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
    words, path = words_of(error)
    index: int | None = None
    if found := _INDEX.match(path):
        index, path = int(found[1]), path[found.end() :]
    return index, f"{words}, at {path}" if path else words


@lru_cache(maxsize=4096)
def _decoder_of(annotation: Any) -> msgspec.json.Decoder[Any]:
    if fault := crash_of(annotation):
        raise PayloadError(f"is of type {shown(annotation)}, which crashes the decoder: it has {fault}")
    if _is_any(annotation):
        annotation = Any
    return msgspec.json.Decoder(
        type(None) if annotation is None else decodable(annotation), dec_hook=decode_foreign
    )


def _is_any(annotation: Any) -> bool:
    return annotation in _AS_ANY or isinstance(annotation, TypeVar)


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


def _advice(fault: str) -> str:
    if "union" in fault:
        return (
            "its alternatives look alike there. Use one dataclass with an enum field, or msgspec Structs "
            "with `tag=True`"
        )
    return fault


_encoder: Final = msgspec.json.Encoder(enc_hook=encode_foreign)
