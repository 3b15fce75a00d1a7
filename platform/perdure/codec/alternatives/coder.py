"""A pair of functions: to what the JSON encoder takes, and from what a JSON decoder gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import msgspec

from perdure.codec.foreign import KINDS, Misfit, decode_foreign
from perdure.codec.msgspec_faults import words_of


class Coder(NamedTuple):
    """Encodes and decodes values of one annotation.

    Attributes:
        encode: makes a value one that the JSON encoder writes as it should; it leaves values of
            other types alone, since their check refuses them.
        decode: makes a value of JSON's types; raises Misfit.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def same(value: Any) -> Any:
    """The encoding of values that the JSON encoder writes without help."""
    return value


def native(annotation: Any) -> Coder:
    """The coder of an annotation that msgspec takes."""

    def decode(value: Any) -> Any:
        try:
            return msgspec.convert(
                value,
                type(None) if annotation is None else annotation,
                str_keys=True,
                dec_hook=decode_foreign,
            )
        except msgspec.ValidationError as error:
            raise Misfit(*words_of(error)) from None

    return Coder(same, decode)


def later(found: list[Coder]) -> Coder:
    """The coder of a class within itself.

    Args:
        found: is filled once the class is compiled.
    """

    def encode(value: Any) -> Any:
        return found[0].encode(value)

    def decode(value: Any) -> Any:
        return found[0].decode(value)

    return Coder(encode, decode)


def items(kind: Callable[[Iterable[Any]], Any], types: tuple[type, ...], inner: Coder) -> Coder:
    """The coder of collections of any length.

    Args:
        kind: makes the collection.
        types: of the values that it encodes.
        inner: of an item.
    """

    def encode(value: Any) -> Any:
        each_of: Any = value
        return [inner.encode(each) for each in each_of] if isinstance(value, types) else value

    def decode(value: Any) -> Any:
        try:
            return kind([_at(inner, each, f"[{i}]") for i, each in enumerate(expected(value, list))])
        except TypeError as error:  # a set of lists
            raise Misfit(f"cannot be decoded: {error}") from None

    return Coder(same if inner.encode is same else encode, decode)


def fixed(coders: list[Coder]) -> Coder:
    """The coder of a tuple with a type for each item."""

    def encode(value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        parts = cast("Any", value)
        return [coder.encode(each) for coder, each in zip(coders, parts, strict=False)]

    def decode(value: Any) -> Any:
        if len(expected(value, list)) != len(coders):
            raise Misfit(f"expected array of length {len(coders)}, got {len(value)}")
        pairs = enumerate(zip(coders, value, strict=True))
        return tuple(_at(coder, each, f"[{i}]") for i, (coder, each) in pairs)

    return Coder(same if all(each.encode is same for each in coders) else encode, decode)


def mapping(read_keys: Callable[[dict[str, Any]], dict[Any, Any]], item: Coder) -> Coder:
    """The coder of a dict.

    Args:
        read_keys: a dict with its keys decoded.
        item: of a value.
    """

    def encode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item.encode(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]

    def decode(value: Any) -> Any:
        named: dict[str, Any] = expected(value, dict)
        return read_keys({key: _at(item, each, f"[{key!r}]") for key, each in named.items()})

    return Coder(same if item.encode is same else encode, decode)


def expected(value: Any, kind: type) -> Any:
    """A value of JSON of a kind.

    Raises:
        Misfit: it is of another kind.
    """
    if type(value) is not kind:
        raise Misfit(f"expected {KINDS[kind]}, got {KINDS[type(value)]}")
    return value


def _at(coder: Coder, value: Any, step: str) -> Any:
    try:
        return coder.decode(value)
    except Misfit as fault:
        raise fault.within(step) from None


def field(coder: Coder, value: Any, name: str) -> Any:
    """A field, decoded; the fault of one that does not fit has its name."""
    return _at(coder, value, f".{name}")
