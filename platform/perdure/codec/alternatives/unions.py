"""Unions: by the kind of a JSON value, by the value of an enum, or by the tag of an object.

Two or more dataclasses, Structs or pydantic models differ by the member `"$type"` of their
objects, which is the name of the class without its module: a class may move to another module, but
a new name makes recorded values unreadable.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from perdure.codec.alternatives.coder import Coder, expected, same
from perdure.codec.alternatives.finite import Keys, finite, key_of
from perdure.codec.faithful.changed import Changed
from perdure.codec.foreign import KINDS, Misfit, encode_foreign
from perdure.errors import PayloadError

TAG: Final = "$type"
"""The member of an object that has the name of its class."""


class Alternative(NamedTuple):
    """One alternative of a union, or several that are distinguished already.

    Attributes:
        shown: for messages.
        coder: of its values.
        kinds: of its JSON, as in `KINDS`, "int" and "float" being one.
        keys: all its values; None: any of these kinds.
        types: of the values that its coder encodes; empty: it leaves them as they are.
    """

    shown: str
    coder: Coder
    kinds: frozenset[str]
    keys: Keys | None = None
    types: tuple[type[Any], ...] = ()


def finite_alternative(shown: str, keys: Keys) -> Alternative:
    """An enum or a literal beside other types."""
    kinds = frozenset(kind_of(msgspec.json.decode(key)) for key in keys)
    return Alternative(shown, finite(keys), kinds, keys)


def kind_of(value: Any) -> str:
    """The kind of a JSON value; JSON has one kind of numbers."""
    kind = KINDS[type(value)]
    return "int" if kind == "float" else kind


def union_of(shown: str, alternatives: list[Alternative]) -> Coder:
    """The coder of a union.

    Raises:
        PayloadError: two alternatives look alike in JSON.
    """
    keys: dict[bytes, Any] = {}
    kinds: dict[str, Coder] = {}
    for i, each in enumerate(alternatives):
        for other in alternatives[:i]:
            if _clash(each, other):
                raise alike(shown, each.shown, other.shown)
        if each.keys is None:
            kinds.update(dict.fromkeys(each.kinds, each.coder))
        else:
            keys.update(each.keys)
    by_type: dict[type[Any], Coder] = {}
    for each in alternatives:
        if each.coder.encode is not same:
            by_type.update(dict.fromkeys(each.types, each.coder))
    wanted = " | ".join(sorted({kind for each in alternatives for kind in each.kinds}))

    def encode(value: Any) -> Any:
        coder = by_type.get(typing.cast("Any", type(value)))
        return value if coder is None else coder.encode(value)

    def decode(value: Any) -> Any:
        if keys and (key := key_of(value)) in keys:
            return keys[key]
        kind = kind_of(value)
        if kind in kinds:
            return kinds[kind].decode(value)
        if any(kind in each.kinds for each in alternatives):
            raise Misfit(f"invalid enum value {value!r}")
        raise Misfit(f"expected {wanted}, got {KINDS[type(value)]}")

    return Coder(encode if by_type else same, decode)


def alike(shown: str, one: str, other: str) -> PayloadError:
    """The error of a union with two alternatives that look alike."""
    return PayloadError(
        f"is of type {shown}, whose alternatives JSON cannot distinguish: "
        f"{one} and {other} look alike there. "
        "Use a dataclass for each, or one dataclass with an enum field"
    )


def tagged(shown: str, members: Mapping[type[Any], Coder], names: list[str]) -> Alternative:
    """Several classes, each an object with a tag.

    Args:
        shown: the union, for messages.
        members: by class, without the arguments of generic ones.
        names: of the members, in their order.

    Raises:
        PayloadError: two have the same name.
    """
    by_name: dict[str, Coder] = {}
    for name, coder in zip(names, members.values(), strict=True):
        if name in by_name:
            raise PayloadError(
                f"is of type {shown}, which has two classes named {name}: the name is written to "
                "distinguish them; rename one of them"
            )
        by_name[name] = coder
    tags = {kind: (name, members[kind]) for kind, name in zip(members, names, strict=True)}
    wanted = ", ".join(map(repr, names))

    def encode(value: Any) -> Any:
        found = tags.get(typing.cast("Any", type(value)))
        if found is None:
            return value
        plain = found[1].encode(value)
        parts = msgspec.to_builtins(plain, enc_hook=encode_foreign, str_keys=True)
        if TAG in parts:
            raise Changed(f"has a member {TAG!r} of its own, which is written for the name of its class")
        return {TAG: found[0], **parts}

    def decode(value: Any) -> Any:
        named: dict[str, Any] = dict(expected(value, dict))
        if TAG not in named:
            raise Misfit(f"is missing required field {TAG} (one of {wanted})")
        name = named.pop(TAG)
        if type(name) is not str or name not in by_name:
            raise Misfit(f"invalid value {name!r}, which must be one of {wanted}", f".{TAG}")
        return by_name[name].decode(named)

    return Alternative(" | ".join(names), Coder(encode, decode), frozenset({"object"}), None, tuple(members))


def _clash(one: Alternative, other: Alternative) -> bool:
    if one.keys is None and other.keys is None:
        return bool(one.kinds & other.kinds)
    if one.keys is not None and other.keys is not None:
        return bool(one.keys.keys() & other.keys.keys())
    return bool(one.kinds & other.kinds)
