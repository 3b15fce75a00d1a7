"""Encodes the arguments of a call by the function's signature.

On the wire: a JSON array of the positional arguments, in the order of the signature;
`{"args": […], "kwargs": {…}}` if some are keyword-only. Defaults that the call does not override
are encoded, too, so that editing a default later does not change recorded calls. Recorded calls may
lack them, so that a parameter with a default can be added.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from perdure.codec.faithful.call import check_of_call
from perdure.codec.faithful.changed import Changed
from perdure.codec.faithful.compiler import exact_types
from perdure.codec.values import (
    check_for,
    check_value,
    decodable,
    decoder_of,
    encoder_for,
    fault_in_words,
    from_json,
    tagging,
    to_json,
)
from perdure.errors import PayloadError, UsageError
from perdure.model.signature import hints_of, takes_self

_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


_BY_NAME: Final = "it is passed by name, which the Python client does"


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    args: list[Raw]
    kwargs: dict[str, Raw]


_raw_array: Final = msgspec.json.Decoder(list[Raw])
_raw_call: Final = msgspec.json.Decoder(_Call)


class Arguments:
    """Encodes and decodes the calls of one function.

    Args:
        fn: your function; `self` is no argument.
    """

    __slots__ = (
        "_array", "_check_all", "_defaults", "_fn", "_hints", "_keyword_defaults", "_keywords", "_maximum",
        "_positional", "_required", "_rest",
        "_signature", "_wildcard",
    )  # fmt: skip

    def __init__(self, fn: Callable[..., Any]) -> None:
        function = fn.__func__ if inspect.ismethod(fn) else fn
        parameters = list(inspect.signature(function).parameters.values())
        if takes_self(function):
            del parameters[0]
        self._fn = function
        self._signature = inspect.Signature(parameters)
        self._positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._keywords = {p.name: p for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
        self._rest = next((p for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None)
        self._wildcard = next((p for p in parameters if p.kind is Parameter.VAR_KEYWORD), None)
        self._required = sum(p.default is Parameter.empty for p in self._positional)
        self._defaults = _encodable([p.default for p in self._positional[self._required :]])
        self._keyword_defaults = {n: p.default for n, p in self._keywords.items() if _encodable([p.default])}
        needs_keywords = any(p.default is Parameter.empty for p in self._keywords.values())
        self._maximum = -1 if needs_keywords else len(self._positional) if self._rest is None else 1 << 30
        self._hints: Mapping[str, Any] | None = None
        self._array: msgspec.json.Decoder[Any] | None = None
        self._check_all: Callable[[Sequence[Any]], None] = self._first_check

    def encode(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str, *, is_checked: bool = True
    ) -> bytes:
        """JSON of the arguments.

        Args:
            args: positional.
            kwargs: by name.
            what: for messages.
            is_checked: refuse values that would change when decoded by the annotations.

        Raises:
            PayloadError: they do not fit the signature, cannot be encoded, or would change when
                decoded.
        """
        values: Any = args
        named = self._keyword_defaults
        if kwargs or not self._required <= len(args) <= self._maximum:
            values, named = self._bind(args, kwargs, what)
        elif len(args) < len(self._positional):
            values = (*args, *self._defaults[len(args) - self._required :])
        try:
            data = to_json({"args": values, "kwargs": named} if named else values)
        except PayloadError as error:
            self._blame(args, kwargs, what, error)
            raise type(error)(f"{what}: the arguments: {error}") from None
        if not is_checked:
            return data
        if not named:
            try:
                self._check_all(values)
            except Exception:  # noqa: BLE001, S110  the slow way finds out which argument it is, if it is one
                pass
            else:
                return data
        self._check_each(values, named, what)
        return data

    def decode(self, data: bytes, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments by annotation.

        Raises:
            PayloadError: they do not fit; the message names the argument.
        """
        if self._rest is None and data[:1] == b"[":
            return self._decode_array(data, what), {}
        return self._decode_each(data, what)

    def sizes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, int]:
        """Bytes of JSON by argument, for messages."""
        positional, named = self._bind(args, kwargs, "")
        by_name = {self._name(i): v for i, v in enumerate(positional)} | named
        return {name: len(to_json(value)) for name, value in by_name.items()}

    @property
    def names(self) -> list[str]:
        """The names of the parameters, in order, without `self`."""
        return list(self._signature.parameters)

    def check(self, what: str) -> None:
        """Check that every annotation can be decoded.

        Raises:
            PayloadError: one cannot.
            UsageError: one does not resolve.
        """
        for parameter in self._signature.parameters.values():
            try:
                decoder_of(self._hint(parameter))
            except PayloadError as error:
                raise PayloadError(f"{what}: argument {parameter.name!r} {error}") from None

    def _first_check(self, values: Sequence[Any]) -> None:
        """Generate the check of all positional arguments, and check these."""
        hints = [self._hint(parameter) for parameter in self._positional]
        self._check_all = check_of_call([(exact_types(hint), check_for(hint)) for hint in hints])
        self._check_all(values)

    def _check_each(self, positional: Sequence[Any], named: Mapping[str, Any], what: str) -> None:
        """Check that no argument changes when decoded; the error names the one that would."""
        given: list[tuple[str, Parameter | None, Any]] = []
        for i, value in enumerate(positional):
            parameter = self._positional[i] if i < len(self._positional) else self._rest
            given.append((self._name(i), parameter, value))
        given += [(name, self._keywords.get(name, self._wildcard), value) for name, value in named.items()]
        for name, parameter, value in given:
            assert parameter is not None  # by the signature
            hint = self._hint(parameter)
            try:
                check_for(hint)(value)
            except (Changed, PayloadError, RecursionError):
                try:
                    check_value(value, hint, encoder_for(hint)(value))
                except PayloadError as error:
                    raise PayloadError(f"{what}: argument {name!r} {error}") from None

    def _bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
    ) -> tuple[list[Any], dict[str, Any]]:
        try:
            given = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise PayloadError(f"{what}: {error}") from None
        count = max((i + 1 for i, p in enumerate(self._positional) if p.name in given), default=0)
        count = max(count, self._required + len(self._defaults))
        positional = [given.get(p.name, p.default) for p in self._positional[:count]]
        if self._rest is not None:
            positional.extend(given.get(self._rest.name, ()))
        named = self._keyword_defaults | {name: given[name] for name in self._keywords if name in given}
        if self._wildcard is not None:
            named.update(given.get(self._wildcard.name, {}))
        return positional, named

    def _decode_array(self, data: bytes, what: str) -> tuple[Any, ...]:
        decoder = self._array
        if decoder is None:
            self.check(what)
            decoder = self._array = self._array_decoder()
        try:
            values = msgspec.structs.astuple(decoder.decode(data))
        except msgspec.ValidationError as error:
            index, fault = fault_in_words(error)
            if index is None:
                self._check_count(len(_raw_array.decode(data)), what)
            raise PayloadError(f"{what}: argument {self._name(index or 0)!r} {fault}") from None
        except msgspec.DecodeError as error:
            raise PayloadError(f"{what}: the arguments are not JSON: {fault_in_words(error)[1]}") from None
        if self._maximum < 0:
            self._missing_keyword({}, what)
        return values[: values.index(UNSET)] if UNSET in values[self._required :] else values

    def _array_decoder(self) -> msgspec.json.Decoder[Any]:
        fields: list[Any] = []
        for i, parameter in enumerate(self._positional):
            annotation = decodable(self._hint(parameter))
            fields.append(
                (f"a{i}", annotation)
                if parameter.default is Parameter.empty
                else (f"a{i}", annotation, UNSET)
            )
        return decoder_of(
            msgspec.defstruct(
                self._fn.__name__, fields, array_like=True, forbid_unknown_fields=True, gc=False
            )
        )

    def _decode_each(self, data: bytes, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            call = _Call(_raw_array.decode(data), {}) if data[:1] == b"[" else _raw_call.decode(data)
        except msgspec.MsgspecError as error:
            raise PayloadError(
                f"{what}: the arguments must be an array, or an object of args and kwargs: {error}"
            ) from None
        self._check_count(len(call.args), what)
        self._missing_keyword(call.kwargs, what)
        args: list[Any] = []
        for i, raw in enumerate(call.args):
            parameter = self._positional[i] if i < len(self._positional) else self._rest
            assert parameter is not None  # by the count
            args.append(self._decode_one(raw, parameter, self._name(i), what))
        kwargs: dict[str, Any] = {}
        for name, raw in call.kwargs.items():
            named = self._keywords.get(name, self._wildcard)
            if named is None:
                raise PayloadError(f"{what}: it has no keyword argument {name!r}")
            kwargs[name] = self._decode_one(raw, named, name, what)
        return tuple(args), kwargs

    def _decode_one(self, raw: Raw, parameter: Parameter, name: str, what: str) -> Any:
        try:
            return from_json(raw, self._hint(parameter))
        except PayloadError as error:
            raise PayloadError(f"{what}: argument {name!r} {error}") from None

    def _hint(self, parameter: Parameter) -> Any:
        if self._hints is None:
            self._hints = hints_of(self._fn)
        return self._hints.get(parameter.name, Any)

    def _name(self, index: int) -> str:
        if index < len(self._positional):
            return self._positional[index].name
        return "arguments" if self._rest is None else f"{self._rest.name}[{index - len(self._positional)}]"

    def _check_count(self, count: int, what: str) -> None:
        if count < self._required:
            raise PayloadError(f"{what}: argument {self._positional[count].name!r} is missing")
        if self._rest is None and count > len(self._positional):
            fault = f"{what} takes {_counted(len(self._positional))}, got {count}"
            if named := self._named_only:
                fault = f"{fault}; {named} can only be passed by name, which the Python client does"
            raise PayloadError(fault)

    def _missing_keyword(self, given: Mapping[str, object], what: str) -> None:
        for name, parameter in self._keywords.items():
            if parameter.default is Parameter.empty and name not in given:
                raise PayloadError(f"{what}: argument {name!r} is missing; {_BY_NAME}")

    @property
    def _named_only(self) -> str:
        names = [*map(repr, self._keywords), *(["others"] if self._wildcard is not None else [])]
        return ", ".join(names)

    def _blame(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str, fault: PayloadError
    ) -> None:
        positional, named = self._bind(args, kwargs, what)
        for name, value in [*((self._name(i), v) for i, v in enumerate(positional)), *named.items()]:
            try:
                to_json(value)
            except PayloadError as error:
                raise type(error)(f"{what}: argument {name!r} {error}") from fault


class TaggedArguments(Arguments):
    """The arguments of a function of which at least one is written with tags."""

    __slots__ = ()

    def encode(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str, *, is_checked: bool = True
    ) -> bytes:
        """See Arguments."""
        positional, named = self._bind(args, kwargs, what)
        if is_checked:
            self._check_each(positional, named, what)
        values = [Raw(self._json(i, None, value, what)) for i, value in enumerate(positional)]
        by_name = {name: Raw(self._json(-1, name, value, what)) for name, value in named.items()}
        return to_json({"args": values, "kwargs": by_name} if by_name else values)

    def _json(self, index: int, name: str | None, value: Any, what: str) -> bytes:
        if name is not None:
            parameter = self._keywords.get(name, self._wildcard)
        else:
            parameter = self._positional[index] if index < len(self._positional) else self._rest
            name = self._name(index)
        assert parameter is not None  # by the signature
        try:
            return encoder_for(self._hint(parameter))(value)
        except PayloadError as error:
            raise type(error)(f"{what}: argument {name!r} {error}") from None


def arguments_of(fn: Callable[..., Any]) -> Arguments:
    """The encoder and decoder of the calls of a function."""
    with suppress(UsageError, NameError):  # what does not resolve is reported when it is used
        if any(tagging(hint) is not None for name, hint in hints_of(fn).items() if name != "return"):
            return TaggedArguments(fn)
    return Arguments(fn)


def _encodable(defaults: list[Any]) -> list[Any]:
    """The defaults before the first that is missing, or has no JSON form (a sentinel): the function
    itself must supply that one.
    """
    for i, default in enumerate(defaults):
        try:
            to_json(default)
        except PayloadError:
            return defaults[:i]
    return defaults


def _counted(count: int) -> str:
    return "no arguments" if not count else "1 argument" if count == 1 else f"{count} arguments"
