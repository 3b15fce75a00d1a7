"""Classes with fields of which at least one needs a coder of ours."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from perdure.codec.alternatives.coder import Coder, expected, field
from perdure.codec.foreign import Misfit

Coders = Mapping[str, Coder]


def is_array(kind: Any) -> bool:
    """Whether a class with fields is an array in JSON."""
    return hasattr(kind, "_fields") or (
        hasattr(kind, "__struct_config__") and bool(kind.__struct_config__.array_like)
    )


def has_fields(kind: Any) -> bool:
    """Whether it is a class with fields that are annotated."""
    names = ("__dataclass_fields__", "__struct_fields__", "_fields")
    return isinstance(kind, type) and (any(hasattr(kind, n) for n in names) or typing.is_typeddict(kind))


def record_of(kind: Any, coders: Coders) -> Coder:
    """The coder of a dataclass, a Struct, a NamedTuple or a TypedDict.

    Args:
        kind: the class; of a generic one its origin.
        coders: by field, as annotated.
    """
    if typing.is_typeddict(kind):
        return _typed_dict(kind, coders)
    if hasattr(kind, "_fields"):
        return _named_tuple(kind, coders)
    if hasattr(kind, "__struct_fields__"):
        return _struct(kind, coders)
    return _dataclass(kind, coders)


def _dataclass(kind: Any, coders: Coders) -> Coder:
    fields = dataclasses.fields(kind)

    def encode(value: Any) -> Any:
        if type(value) is not kind:
            return value
        return {
            f.name: coders[f.name].encode(getattr(value, f.name)) for f in fields if hasattr(value, f.name)
        }

    def decode(value: Any) -> Any:
        named: dict[str, Any] = expected(value, dict)
        made = object.__new__(kind)
        for f in fields:
            if f.name in named:
                part = field(coders[f.name], named[f.name], f.name)
            elif f.default is not dataclasses.MISSING:
                part = f.default
            elif f.default_factory is not dataclasses.MISSING:
                part = f.default_factory()
            else:
                raise _missing(f.name)
            object.__setattr__(made, f.name, part)
        if hasattr(kind, "__post_init__"):
            _guarded(made.__post_init__)
        return made

    return Coder(encode, decode)


def _struct(kind: Any, coders: Coders) -> Coder:
    fields = msgspec.structs.fields(kind)
    config = kind.__struct_config__

    def encode(value: Any) -> Any:
        if type(value) is not kind:
            return value
        parts = {f.encode_name: coders[f.name].encode(getattr(value, f.name)) for f in fields}
        tag = {} if config.tag is None else {config.tag_field: config.tag}
        return tag | {name: part for name, part in parts.items() if part is not msgspec.UNSET}

    def decode(value: Any) -> Any:
        named: dict[str, Any] = expected(value, dict)
        if config.tag is not None and named.get(config.tag_field, config.tag) != config.tag:
            raise Misfit(f"invalid value {named[config.tag_field]!r}", f".{config.tag_field}")
        known = {f.encode_name: f for f in fields}
        if config.forbid_unknown_fields and (odd := named.keys() - known.keys() - {config.tag_field}):
            raise Misfit(f"object contains unknown field {min(odd)}")
        parts = {
            f.name: field(coders[f.name], named[name], name) for name, f in known.items() if name in named
        }
        for f in fields:
            if f.required and f.name not in parts:
                raise _missing(f.encode_name)
        return _guarded(lambda: kind(**parts))

    return Coder(encode, decode)


def _named_tuple(kind: Any, coders: Coders) -> Coder:
    names: tuple[str, ...] = kind._fields
    fewest = len(names) - len(kind._field_defaults)

    def encode(value: Any) -> Any:
        if type(value) is not kind:
            return value
        return [coders[name].encode(each) for name, each in zip(names, value, strict=True)]

    def decode(value: Any) -> Any:
        if not fewest <= len(expected(value, list)) <= len(names):
            raise Misfit(f"expected array of length {len(names)}, got {len(value)}")
        return kind(*(field(coders[name], each, name) for name, each in zip(names, value, strict=False)))

    return Coder(encode, decode)


def _typed_dict(kind: Any, coders: Coders) -> Coder:
    def encode(value: Any) -> Any:
        named: Any = value
        if type(value) is not dict:
            return named
        return {key: coders[key].encode(each) if key in coders else each for key, each in named.items()}

    def decode(value: Any) -> Any:
        named: dict[str, Any] = expected(value, dict)
        for name in sorted(kind.__required_keys__):
            if name not in named:
                raise _missing(name)
        return {key: field(coders[key], each, key) for key, each in named.items() if key in coders}

    return Coder(encode, decode)


def _missing(name: str) -> Misfit:
    return Misfit(f"is missing required field {name}")


def _guarded(make: Callable[[], Any]) -> Any:
    """Call a constructor of yours; what it refuses does not fit."""
    try:
        return make()
    except (ValueError, TypeError) as error:
        raise Misfit(str(error)) from None
