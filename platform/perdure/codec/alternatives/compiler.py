"""Compiles an annotation that msgspec does not take to a coder of its values."""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections import deque
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec

from perdure.codec.alternatives.coder import Coder, expected, fixed, items, later, mapping, native, same
from perdure.codec.alternatives.finite import enum_keys, finite, keys_of, texts
from perdure.codec.alternatives.records import has_fields, is_array, record_of
from perdure.codec.alternatives.unions import Alternative, alike, finite_alternative, tagged, union_of
from perdure.codec.faithful.compiler import DICTS, LISTS, SETS, UNIONS
from perdure.codec.foreign import IPS, Alternatives, Misfit, decode_foreign, shown, undecodable
from perdure.errors import PayloadError
from perdure.model.generics import class_hints

_CONSTRAINTS: Final = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")
_CLASSES: Final[dict[str, tuple[type[Any], ...]]] = {
    "bool": (bool,),
    "int": (int, float),
    "str": (str, bytes, bytearray, datetime, date, time, timedelta, UUID, Decimal, PurePath),
}
"""Classes by the kind of their JSON."""
_ALL_KINDS: Final = frozenset({"null", "bool", "int", "str", "array", "object"})


def coder_of(annotation: Any) -> Coder:
    """The coder for an annotation that msgspec refuses.

    Args:
        annotation: resolved.

    Raises:
        PayloadError: JSON cannot tell its values apart; the message is without a subject.
        TypeError: msgspec's, of a type that is not one of ours.
    """
    return _Compiler().compile(annotation)


def stand_in(coder: Coder) -> type[Alternatives]:
    """A class that msgspec takes in place of the annotation."""

    def read(value: Any) -> Any:
        return coder.decode(value)

    return types.new_class(
        "alternatives", (Alternatives,), {}, lambda body: body.update(read=staticmethod(read))
    )


def is_native(annotation: Any) -> bool:
    """Whether msgspec takes an annotation, with everything in it."""
    return _fault_of(annotation) is None


def _fault_of(annotation: Any) -> Exception | None:
    try:
        _check(annotation)
    except NameError:
        raise  # the loader says which name is not there
    except Exception as error:  # noqa: BLE001  msgspec's, of a type that it cannot take
        return error
    return None


def _check(annotation: Any) -> None:
    if isinstance(annotation, TypeVar):
        return
    msgspec.json.Decoder(type(None) if annotation is None else annotation, dec_hook=decode_foreign)
    for each in _deques(annotation):  # msgspec does not look at their items
        _check(list[each])  # type: ignore[valid-type]


def _deques(annotation: Any) -> Iterator[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is deque:
        yield arguments[0]
    elif origin is not Literal:
        for each in arguments:
            yield from _deques(each)


class _Compiler:
    """Compiles one annotation and the annotations of its parts. Classes may contain themselves."""

    def __init__(self) -> None:
        self._known: dict[Any, list[Coder]] = {}

    def compile(self, annotation: Any) -> Coder:
        fault = _fault_of(annotation)
        if fault is None:
            if (odd := undecodable(annotation)) is not None:
                raise PayloadError(f"has the type {shown(odd)}, which cannot be decoded from JSON")
            return native(annotation)
        if (inner := _inside(annotation)) is not annotation:
            return self.compile(inner)
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return finite(enum_keys(annotation), annotation)
        if origin is Literal:
            return finite(keys_of(arguments, shown(annotation)))
        if origin in UNIONS:
            return self._union(annotation)
        if has_fields(origin):
            return self._record(annotation, origin)
        coder = self._collection(origin, arguments)
        if coder is None:
            raise fault
        return coder

    def _collection(self, origin: Any, arguments: tuple[Any, ...]) -> Coder | None:
        if not arguments:
            return None
        if origin in DICTS:
            return self._dict(*arguments)
        if origin is tuple and Ellipsis not in arguments:
            return fixed([self.compile(each) for each in arguments])
        kinds: list[tuple[Any, Any, tuple[type, ...]]] = [
            *((each, list, (list,)) for each in LISTS),
            *((each, set, (set,)) for each in SETS),
            (frozenset, frozenset, (frozenset,)),
            (tuple, tuple, (tuple,)),
            (deque, deque, (deque,)),
        ]
        for known, make, types_ in kinds:
            if origin is known:
                return items(make, types_, self.compile(arguments[0]))
        return None

    def _dict(self, key: Any, item: Any) -> Coder:
        coder = self.compile(item)
        if is_native(dict[key, Any]):
            read = native(dict[key, Any])
            return mapping(read.decode, coder)
        known: list[Any] = []
        for each in map(_bare, _flat(key)):
            if isinstance(each, type) and issubclass(each, enum.Enum):
                known += each
            elif typing.get_origin(each) is Literal:
                known += typing.get_args(each)
            else:
                raise PayloadError(f"has keys of type {shown(key)}; keys are text, numbers or enums")
        keys = texts(keys_of(known, shown(key)), shown(key))

        def read_keys(named: dict[str, Any]) -> dict[Any, Any]:
            if odd := named.keys() - keys.keys():
                raise Misfit(f"invalid key {min(odd)!r}")
            return {keys[text]: each for text, each in named.items()}

        return mapping(read_keys, coder)

    def _record(self, annotation: Any, kind: Any) -> Coder:
        if annotation in self._known:
            return later(self._known[annotation])
        if hasattr(kind, "__struct_config__") and kind.__struct_config__.array_like:
            raise PayloadError(f"is of type {shown(annotation)}, an array with a field that needs a tag")
        self._known[annotation] = []
        hints = class_hints(annotation)
        coder = record_of(kind, {name: self.compile(_required(hint)) for name, hint in hints.items()})
        self._known[annotation].append(coder)
        return coder

    def _union(self, annotation: Any) -> Coder:
        members = list(_flat(annotation))
        objects = [each for each in members if _is_object(each)]
        found = [self._alternative(each) for each in members if _is_special(each)]
        if len(objects) > 1:
            found.append(self._tagged(annotation, objects))
        else:
            found += map(self._alternative, objects)
        if ips := [each for each in members if _bare(each) in IPS]:
            found.append(_addresses(annotation, ips))
        known = (*objects, *ips)
        if rest := [each for each in members if each not in known and not _is_special(each)]:
            together = _together(rest)
            if (fault := _fault_of(together)) is not None:
                raise fault
            kinds = frozenset[str]().union(*map(kinds_of, rest))
            found.append(Alternative(" | ".join(map(shown, rest)), self.compile(together), kinds))
        return union_of(shown(annotation), found)

    def _alternative(self, member: Any) -> Alternative:
        bare = _bare(member)
        origin = typing.get_origin(bare) or bare
        if isinstance(bare, type) and issubclass(bare, enum.Enum):
            return finite_alternative(shown(bare), enum_keys(bare))
        if origin is Literal:
            return finite_alternative(shown(bare), keys_of(typing.get_args(bare), shown(bare)))
        coder = self.compile(member)
        types_ = () if coder.encode is same else _types_of(origin)
        return Alternative(shown(bare), coder, kinds_of(bare), None, types_)

    def _tagged(self, annotation: Any, members: list[Any]) -> Alternative:
        coders: dict[type[Any], Coder] = {}
        for each in members:
            bare = _bare(each)
            origin = typing.get_origin(bare) or bare
            if origin in coders:
                raise alike(shown(annotation), shown(bare), shown(origin))
            coders[origin] = self.compile(each)
        return tagged(shown(annotation), coders, [kind.__name__ for kind in coders])


def _together(members: list[Any]) -> Any:
    """The union of types in a list."""
    union: Any = typing.Union
    return union[tuple(members)]


def _flat(annotation: Any) -> Iterator[Any]:
    """The members of a union, of unions in it, too."""
    bare = _bare(annotation)
    if typing.get_origin(bare) in UNIONS:
        for each in typing.get_args(bare):
            yield from _flat(each)
    else:
        yield annotation


def _inside(annotation: Any) -> Any:
    """The type within a NewType, an alias or `Annotated`; otherwise the annotation."""
    if (supertype := getattr(annotation, "__supertype__", None)) is not None:
        return supertype
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        for each in annotation.__metadata__:
            if isinstance(each, msgspec.Meta) and any(getattr(each, n) is not None for n in _CONSTRAINTS):
                raise PayloadError(
                    f"is of type {shown(annotation)}, whose constraint cannot be checked: put it on the "
                    "alternative that it is for"
                )
        return annotation.__origin__
    alias = annotation if origin is None else origin
    if type(alias).__name__ == "TypeAliasType":
        value, arguments = alias.__value__, typing.get_args(annotation)
        return value[arguments] if arguments and getattr(value, "__parameters__", ()) else value
    return annotation


def _bare(annotation: Any) -> Any:
    """Without NewTypes, aliases and `Annotated`."""
    while True:
        inner = annotation.__origin__ if typing.get_origin(annotation) is Annotated else _inside(annotation)
        if inner is annotation:
            return annotation
        annotation = inner


def _required(hint: Any) -> Any:
    while getattr(typing.get_origin(hint), "_name", "") in {"Required", "NotRequired", "ReadOnly", "Final"}:
        (hint,) = typing.get_args(hint)
    return hint


def _is_object(member: Any) -> bool:
    """Whether it is a class that can be given a tag."""
    bare = _bare(member)
    origin = typing.get_origin(bare) or bare
    if not isinstance(origin, type):
        return False
    if _is_model(origin):
        return not origin.__dict__.get("__pydantic_root_model__", False)
    is_record = has_fields(origin) and not typing.is_typeddict(origin)
    return (is_record and not is_array(origin)) or hasattr(origin, "__attrs_attrs__")


def _is_model(kind: type[Any]) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _is_special(member: Any) -> bool:
    """Whether it stands for itself beside the alternatives that msgspec tells apart."""
    bare = _bare(member)
    if _is_object(member) or bare in IPS:
        return False
    if typing.get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, enum.Enum)):
        return True
    return not is_native(member) or not is_native(_together([member, bool, int]))


def kinds_of(member: Any) -> frozenset[str]:
    """The kinds of the JSON of a type, as `unions.kind_of` has them; all when they are unknown."""
    bare = _bare(member)
    origin = typing.get_origin(bare) or bare
    if bare is None or bare is type(None):
        return frozenset({"null"})
    if origin in DICTS:
        return frozenset({"object"})
    if origin in LISTS or origin in SETS or origin in {tuple, frozenset, deque}:
        return frozenset({"array"})
    if isinstance(origin, type):
        if typing.is_typeddict(origin) or _is_object(origin):
            return frozenset({"object"})
        if has_fields(origin):
            return frozenset({"array"})
        for kind, classes in _CLASSES.items():
            if issubclass(origin, classes):
                return frozenset({kind})
    return _ALL_KINDS


def _types_of(origin: Any) -> tuple[type[Any], ...]:
    """The types of the values that an alternative encodes."""
    if origin in LISTS:
        return (list,)
    if origin in SETS:
        return (set,)
    if origin in DICTS or typing.is_typeddict(origin):
        return (dict,)
    return (origin,)


def _addresses(annotation: Any, members: list[Any]) -> Alternative:
    """Several kinds of IP addresses, which differ by their text.

    Raises:
        PayloadError: a network and an interface, which look alike.
    """
    kinds = [_bare(each) for each in members]
    for networks, interfaces in ((IPv4Network, IPv4Interface), (IPv6Network, IPv6Interface)):
        if networks in kinds and interfaces in kinds:
            raise alike(shown(annotation), shown(networks), shown(interfaces))
    names = " | ".join(map(shown, kinds))

    def decode(value: Any) -> Any:
        is_plain = "/" not in expected(value, str)
        for kind in kinds:
            if is_plain == (kind in {IPv4Address, IPv6Address}):
                try:
                    return kind(value)
                except ValueError:
                    continue
        raise Misfit(f"{value!r} is not one of {names}")

    return Alternative(names, Coder(same, decode), frozenset({"str"}))
