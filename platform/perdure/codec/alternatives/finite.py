"""Enums and literals: each of their values has its own JSON."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from perdure.codec.alternatives.coder import Coder, same
from perdure.codec.faithful.changed import Changed, short
from perdure.codec.faithful.unannotated import check_unannotated
from perdure.codec.foreign import Misfit, encode_foreign, shown
from perdure.errors import PayloadError

_encoder: Final = msgspec.json.Encoder(enc_hook=encode_foreign, order="deterministic")
_plain_encoder: Final = msgspec.json.Encoder(enc_hook=encode_foreign)
Keys = dict[bytes, Any]
"""The values by their JSON."""


def key_of(value: Any) -> bytes:
    """The JSON of a value of JSON's types; `1` and `1.0` are one number there."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return _encoder.encode(value)


def keys_of(values: Iterable[Any], what: str) -> Keys:
    """The values by their JSON.

    Args:
        values: members of enums, or scalars.
        what: the enum or the literal, for messages.

    Raises:
        PayloadError: one has no JSON, or two have the same.
    """
    keys: Keys = {}
    for each in values:
        plain = each.value if isinstance(each, enum.Enum) else each
        try:
            read = msgspec.to_builtins(plain, enc_hook=encode_foreign, str_keys=True)
            check_unannotated(read)
            key = key_of(read)
        except (Changed, TypeError, ValueError, OverflowError, NotImplementedError) as error:
            raise PayloadError(
                f"is of type {what}, whose value {short(each)} has no JSON ({error}); use text or numbers"
            ) from None
        if key in keys:
            raise PayloadError(
                f"is of type {what}, where JSON cannot distinguish {short(keys[key])} from {short(each)}: "
                f"both are {key.decode()}; give one of them another value"
            )
        keys[key] = each
    return keys


def enum_keys(kind: type[enum.Enum]) -> Keys:
    """The members of an enum by their JSON.

    Raises:
        PayloadError: as of `keys_of`.
    """
    return keys_of(kind, shown(kind))


def finite(keys: Keys, kind: type[enum.Enum] | None = None) -> Coder:
    """The coder of an enum or a literal.

    Args:
        keys: its values.
        kind: an enum that may know more values than its members have (`_missing_`).
    """

    def decode(value: Any) -> Any:
        key = key_of(value)
        if key in keys:
            return keys[key]
        if kind is not None and "_missing_" in _defined(kind):
            try:
                return kind(value)
            except ValueError:
                pass
        raise Misfit(f"invalid enum value {short(value)}")

    return Coder(same, decode)


def texts(keys: Keys, what: str) -> dict[str, Any]:
    """The values by their text, as keys of an object.

    Raises:
        PayloadError: one cannot be a key, or two have the same text.
    """
    found: dict[str, Any] = {}
    for each in keys.values():
        try:
            (text,) = msgspec.json.decode(_plain_encoder.encode({each: None}))
        except (TypeError, ValueError) as error:
            raise PayloadError(
                f"has keys of type {what}, but {short(each)} cannot be a key: {error}"
            ) from None
        if text in found:
            raise PayloadError(
                f"has keys of type {what}, where JSON cannot distinguish {short(found[text])} from "
                f"{short(each)}: keys are text there, both are {text!r}; use a list of pairs"
            )
        found[text] = each
    return found


def _defined(kind: type[enum.Enum]) -> set[str]:
    return {name for each in kind.__mro__ if each.__module__ != "enum" for name in vars(each)}
