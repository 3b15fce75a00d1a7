"""Writes Python for one Avro schema: structs of the model straight to bytes and back.

A function a record, the fields inline, for one version of a schema and the structs that have its
records' names; fastavro, which goes through a dict a record and searches unions by name, takes five
times as long. It remains the reference: tests compare every byte with it, and records of other
versions are read by it (`avro.py`). Rules of the encoding: Avro 1.12, "Binary Encoding".
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from msgspec import Struct, structs

SMALL: Final = 4096
"""Numbers from 0 to here, and lengths, are looked up."""
DAMAGE: Final = (ValueError, LookupError, OverflowError, RecursionError, struct.error)
_PRIMITIVES: Final = frozenset({"null", "boolean", "long", "double", "bytes", "string"})


class _Default(NamedTuple):
    """The default of a field, its bytes, and the expression that `o` has another value.

    Of a false default, any true value differs: a field of one type has one false value.
    """

    value: Any
    encoded: bytes
    differs: str


class _Names:
    """The named types of a schema, and what the text that is written refers to.

    Args:
        structs: as of `Compiler`.
        rare: the same.

    Attributes:
        named: the definition of each type, by its full name.
        scope: the globals of the text.
        lines: the text so far.
    """

    def __init__(
        self, structs: Mapping[str, type[Struct]], rare: Mapping[type[Struct], Sequence[tuple[str, str]]]
    ) -> None:
        self.structs = structs
        self._rare = rare
        self.named: dict[str, Any] = {}
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {
            "small": SMALL_LONGS.get, "spans": SPANS, "long_bytes": long_bytes, "read_long": read_long,
            "read_span": read_span,
            "join": b"".join, "pack_double": _DOUBLE.pack, "unpack_double": _DOUBLE.unpack_from,
        }  # fmt: skip

    def define(self, schema: Any, namespace: str) -> Any:
        """The schema with every named type put away and named in full."""
        match schema:
            case [*branches]:
                return [self.define(branch, namespace) for branch in branches]
            case str():
                return schema if schema in _PRIMITIVES or "." in schema else f"{namespace}.{schema}"
            case _:
                return self._define_type(schema, namespace)

    def _define_type(self, schema: dict[str, Any], namespace: str) -> Any:
        kind = schema["type"]
        if kind == "array":
            return {"items": self.define(schema["items"], namespace)}
        if kind not in {"record", "enum"}:
            return self.define(kind, namespace)
        namespace = schema.get("namespace", namespace)
        name = f"{namespace}.{schema['name']}"
        fields = schema.get("fields", ())
        empty = {field["name"] for field in fields if field.get("default") == ""}
        self.named[name] = schema if kind == "enum" else {"fields": [], "often_empty": empty}
        for field in fields:
            self.named[name]["fields"].append((field["name"], self.define(field["type"], namespace)))
        return name

    def constant(self, value: object) -> str:
        name = f"k{len(self.scope)}"
        self.scope[name] = value
        return name

    def runs_of(self, name: str) -> Iterator[tuple[list[_Default], list[tuple[str, str, Any]]]]:
        """The fields of a record in order: alone, or as a run of rare ones with their defaults. A
        field is the name of its local variable, its own name and its schema.
        """
        made = self.structs.get(name)
        ends = dict(self._rare.get(made, ())) if made is not None else {}
        fields = iter((f"v{i}", *field) for i, field in enumerate(self.named[name]["fields"]))
        for each in fields:
            run = [each]
            if (last := ends.get(each[1])) is None:
                yield [], run
                continue
            while run[-1][1] != last and (another := next(fields, None)) is not None:
                run.append(another)
            yield [self._default(made, field, schema) for _, field, schema in run], run

    def _default(self, made: Any, field: str, schema: Any) -> _Default:
        """The default of a struct's field.

        Raises:
            TypeError: it has none, or one of a kind that is not known here.
        """
        value = next(each.default for each in structs.fields(made) if each.name == field)
        match schema, value:
            case "long", int():
                encoded = long_bytes(value)
            case "string" | "bytes", str() | bytes():
                data = value.encode() if isinstance(value, str) else value
                encoded = long_bytes(len(data)) + data
            case "boolean", bool():
                encoded = b"\1" if value else b"\0"
            case str(), str() if "symbols" in self.named.get(schema, ()):
                encoded = long_bytes(self.named[schema]["symbols"].index(value))
            case {"items": _}, ():
                encoded = b"\0"
            case ["null", _], None:
                return _Default(None, b"\0", f"o.{field} is not None")
            case _:
                raise TypeError(f"field {field} of {made.__name__} has no default that could be rare")
        differs = f"o.{field} != {self.constant(value)}" if value else f"o.{field}"
        return _Default(value, encoded, differs)


class _Writers:
    """Functions that give bytes."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._writers: dict[str, str] = {}

    def writer(self, name: str, prefix: bytes = b"") -> str:
        """The name of the function that gives the bytes of a record, after the index of its
        branch.
        """
        key = f"{prefix.hex()} {name}"
        if key not in self._writers:
            function = self._writers[key] = f"write_{len(self._writers)}"
            lines: list[str] = []
            parts = [repr(prefix)] if prefix else []
            is_envelope = name not in self._names.structs
            for rare, fields in self._names.runs_of(name):
                inner: list[str] = []
                written: list[str] = []
                for local, field, schema in fields:
                    value = "o" if is_envelope else f"o.{field}"
                    is_often_empty = field in self._names.named[name]["often_empty"] and not is_envelope
                    write = self._write_often_empty if is_often_empty and not rare else self._write
                    written += write(schema, value, local, inner)
                if not rare:
                    lines += inner
                    parts += written
                    continue
                differs = " or ".join(each.differs for each in rare)
                together = f"r{fields[0][0]}"
                lines += [
                    f"if {differs}:",
                    *(f"    {line}" for line in inner),
                    f"    {together} = join(({', '.join(written)},))",
                    "else:",
                    f"    {together} = {self._names.constant(b''.join(each.encoded for each in rare))}",
                ]
                parts.append(together)
            body = parts[0] if len(parts) == 1 else f"join(({', '.join(parts)}{',' if parts else ''}))"
            self._names.lines += [
                f"def {function}(o):",
                *(f"    {line}" for line in lines),
                f"    return {body}",
            ]
        return self._writers[key]

    def _write_often_empty(self, schema: Any, value: str, local: str, lines: list[str]) -> list[str]:
        """The same for a text, or bytes, that is usually empty: then nothing is encoded and
        counted. Fields that later versions add are such.
        """
        inner: list[str] = []
        number, written = self._write(schema, local, local, inner)
        lines += [
            f"{local} = {value}",
            f"if {local} == {'b' if schema == 'bytes' else ''}'':",
            rf"    n{local} = b'\0'",
            f"    {local} = b''",
            "else:",
            *(f"    {line}" for line in inner),
            f"    n{local} = {number}",
        ]
        return [f"n{local}", written]

    def _write(self, schema: Any, value: str, local: str, lines: list[str]) -> list[str]:
        """Expressions of bytes; what they need before goes to `lines`."""
        if isinstance(schema, str) and schema not in _PRIMITIVES and "fields" in self._names.named[schema]:
            return [f"{self.writer(schema)}({value})"]
        lines.append(f"{local} = {value}")
        match schema:
            case "long":
                return [_number(local)]
            case "string":
                lines[-1] += ".encode()"
                return [_number(f"len({local})"), local]
            case "bytes":
                return [_number(f"len({local})"), local]
            case "boolean":
                return [rf'b"\1" if {local} else b"\0"']
            case "double":
                return [f"pack_double({local})"]
            case str():
                symbols = self._names.named[schema]["symbols"]
                table = self._names.constant({symbol: long_bytes(i) for i, symbol in enumerate(symbols)})
                return [f"{table}[{local}]"]
            case {"items": items}:
                item_lines: list[str] = []
                parts = self._write(items, "x", "x", item_lines)
                # the parts are joined at the end of the record, which may have several arrays
                written = f"{local}_items"
                lines += [
                    f"{written} = []",
                    f"for x in {local}:",
                    *(f"    {line}" for line in item_lines if line != "x = x"),
                ]
                lines += [f"    {written}.append({part})" for part in parts]
                return [rf'join((long_bytes(len({local})), *{written}, b"\0")) if {written} else b"\0"']
            case ["null", only]:
                inner: list[str] = []
                parts = self._write(only, local, local, inner)
                lines += [
                    f"if {local} is not None:",
                    *(f"    {line}" for line in inner if line != f"{local} = {local}"),
                ]
                lines += [f"    {local} = join((b'\\2', {', '.join(parts)}))"]
                lines += ["else:", rf'    {local} = b"\0"']
                return [local]
            case [*branches]:
                table = self._names.constant({})
                writers = {
                    self._names.structs[name]: self.writer(name, long_bytes(i))
                    for i, name in enumerate(branches)
                }
                items = ", ".join(
                    f"{self._names.constant(code)}: {writer}" for code, writer in writers.items()
                )
                self._names.lines.append(f"{table}.update({{{items}}})")
                return [f"{table}[type({local})]({local})"]
            case _:
                raise TypeError(f"no rule for {schema}")


class _Readers:
    """Functions that take bytes."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._readers: dict[str, str] = {}

    def reader(self, name: str) -> str:
        """The name of the function that takes bytes and a position, and gives a record and the
        position after it.
        """
        if name not in self._readers:
            function = self._readers[name] = f"read_{len(self._readers)}"
            lines: list[str] = []
            made = self._names.structs.get(name)
            hints = get_type_hints(made) if made else {}
            for rare, fields in self._names.runs_of(name):
                inner: list[str] = []
                for local, field, schema in fields:
                    self._read_into(local, schema, hints.get(field), inner)
                if not rare:
                    lines += inner
                    continue
                encoded = b"".join(each.encoded for each in rare)
                lines += [
                    f"if d.startswith({self._names.constant(encoded)}, i):",
                    *(
                        f"    {local} = {self._names.constant(each.value)}"
                        for each, (local, _, _) in zip(rare, fields, strict=True)
                    ),
                    f"    i += {len(encoded)}",
                    "else:",
                    *(f"    {line}" for line in inner),
                ]
            result = f"{self._names.constant(made)}({self._arguments(name, made)})" if made else "v0"
            self._names.lines += [
                f"def {function}(d, i):",
                *(f"    {line}" for line in lines),
                f"    return {result}, i",
            ]
        return self._readers[name]

    def _arguments(self, name: str, made: type[Struct]) -> str:
        fields = tuple(field for field, _ in self._names.named[name]["fields"])
        if fields != made.__struct_fields__:
            raise TypeError(
                f"the schema of {name} has the fields {fields}, its struct {made.__struct_fields__}"
            )
        kinds = [parameter.kind for parameter in inspect.signature(made).parameters.values()]
        return ", ".join(
            f"{f}=v{i}" if kinds[i] is Parameter.KEYWORD_ONLY else f"v{i}" for i, f in enumerate(fields)
        )

    def _read_into(self, local: str, schema: Any, hint: Any, lines: list[str]) -> None:
        """Appends lines that set `local` and move `i` behind it."""
        match schema:
            case "long":
                lines += ["b = d[i]", "if b < 128:", f"    {local} = b >> 1 ^ -(b & 1)", "    i += 1"]
                lines += ["else:", f"    {local}, i = read_long(d, i)"]
            case "string" | "bytes":
                text = ".decode()" if schema == "string" else ""
                lines += [
                    "e = i + spans[d[i]]",
                    "if e > i:",
                    "    i += 1",
                    "else:",
                    "    i, e = read_span(d, i)",
                ]
                lines += [f"{local} = d[i:e]{text}", "i = e"]
            case "boolean":
                lines += [f"{local} = {self._names.constant((False, True))}[d[i]]", "i += 1"]
            case "double":
                lines += [f"({local},) = unpack_double(d, i)", "i += 8"]
            case str() if "fields" in self._names.named[schema]:
                lines.append(f"{local}, i = {self.reader(schema)}(d, i)")
            case str():
                symbols = {i << 1: s for i, s in enumerate(self._names.named[schema]["symbols"])}
                if isinstance(hint, type):
                    symbols = {i: hint(s) for i, s in symbols.items()}
                lines += [f"{local} = {self._names.constant(symbols)}[d[i]]", "i += 1"]
            case {"items": items}:
                inner: list[str] = []
                self._read_into("x", items, None, inner)
                lines += [f"{local} = []", "n, i = read_long(d, i)", "while n:"]
                lines += ["    if n < 0:", "        _, i = read_long(d, i)"]
                lines += [
                    "    for _ in range(abs(n)):",
                    *(f"        {line}" for line in inner),
                    f"        {local}.append(x)",
                ]
                lines += ["    n, i = read_long(d, i)"]
                if get_origin(hint) is tuple:
                    lines.append(f"{local} = tuple({local})")
            case ["null", only]:
                inner = []
                self._read_into(local, only, _without_none(hint), inner)
                lines += [f"{local} = {self._names.constant({0: None, 2: ...})}[d[i]]", "i += 1"]
                lines += [f"if {local} is not None:", *(f"    {line}" for line in inner)]
            case [*branches]:
                table = self._names.constant({})
                readers = ", ".join(f"{i << 1}: {self.reader(name)}" for i, name in enumerate(branches))
                self._names.lines.append(f"{table}.update({{{readers}}})")
                lines.append(f"{local}, i = {table}[d[i]](d, i + 1)")
            case _:
                raise TypeError(f"no rule for {schema}")


class Compiler:
    """Functions for the named types of one schema.

    Args:
        schema: as JSON.
        structs: by the full name of their record. A record without one is an envelope: it has one
            field, and stands for its value.
        rare: runs of neighbouring fields of a struct that mostly have their defaults: the first and
            the last one, which is empty if they are the last of the struct. They are compared,
            written and read together.
    """

    def __init__(
        self,
        schema: Any,
        structs: Mapping[str, type[Struct]],
        rare: Mapping[type[Struct], Sequence[tuple[str, str]]] = MappingProxyType({}),
    ) -> None:
        names = _Names(structs, rare)
        root = names.define(schema, "")
        write, read = _Writers(names).writer(root), _Readers(names).reader(root)
        exec(compile("\n".join(names.lines), f"<avro {root}>", "exec"), names.scope)  # noqa: S102  our own text, as dataclasses do
        self.write: Callable[[Any], bytes] = names.scope[write]
        """Bytes of a value. Raises OverflowError for an integer of more than 64 bits, KeyError for
        a struct that is not in the schema."""
        self.read: Callable[[bytes, int], tuple[Any, int]] = names.scope[read]
        """The value at a position, and the position after it. Bytes that are damaged give any of
        `DAMAGE`, or a position behind their end."""


@lru_cache(maxsize=2 * SMALL)  # the times of a batch are one number
def long_bytes(number: int) -> bytes:
    """A zigzag varint.

    Raises:
        OverflowError: it has more than 64 bits.
    """
    if not -0x8000_0000_0000_0000 <= number <= 0x7FFF_FFFF_FFFF_FFFF:
        raise OverflowError(f"{number} has more than 64 bits")
    n = number << 1 ^ number >> 63
    found = bytearray()
    while n > 127:
        found.append(n & 127 | 128)
        n >>= 7
    found.append(n)
    return bytes(found)


def read_long(data: bytes, position: int) -> tuple[int, int]:
    """The number, and the position after it.

    Raises:
        OverflowError: it has more than 64 bits.
        IndexError: it is cut short.
    """
    n = shift = 0
    while (byte := data[position]) > 127:
        n += (byte - 128) << shift
        shift += 7
        position += 1
    n += byte << shift
    if n >> 64:
        raise OverflowError("a number of more than 64 bits")
    return n >> 1 ^ -(n & 1), position + 1


def read_span(data: bytes, position: int) -> tuple[int, int]:
    """The start and end of the bytes whose length is at the position.

    Raises:
        IndexError: the length is negative, or goes beyond the end.
    """
    length, start = read_long(data, position)
    if not 0 <= length <= len(data) - start:
        raise IndexError("a length that goes beyond the end")
    return start, start + length


def _without_none(hint: Any) -> Any:
    """Give `tuple[str, ...]` of `tuple[str, ...] | None`."""
    return next((each for each in get_args(hint) if each is not type(None)), None)


def _number(expression: str) -> str:
    return f"small({expression}) or long_bytes({expression})"


_DOUBLE: Final = struct.Struct("<d")
SMALL_LONGS: Final = {number: long_bytes(number) for number in range(SMALL)}
SPANS: Final = tuple(0 if byte & 0x81 else 1 + (byte >> 1) for byte in range(256))
"""By a length's first byte: the size of that byte plus the data; 0 for a length of several bytes,
or below 0.
"""
