"""The columns of a view's table: names, kinds and comments, from its annotation."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from perdure.codec.foreign import TEXTS
from perdure.errors import UsageError
from perdure.model.generics import class_hints
from perdure.model.signature import hints_of


class Kind(StrEnum):
    """Kind of a column."""

    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    TEXT = "text"
    MOMENT = "moment"
    DATE = "date"
    TIME = "time"
    DURATION = "duration"
    UUID = "uuid"
    JSON = "json"


class Column(Struct, frozen=True):
    """One column.

    Attributes:
        name: of the field, as JSON has it; empty: the view is this one value.
        kind: what it holds.
        comment: of the field, for people; with the values of an enum.
    """

    name: str
    kind: Kind
    comment: str = ""


class Shape(Struct, frozen=True):
    """The columns of a view.

    Attributes:
        columns: at least one.
        comment: what it is, for people.
        reason: why it is one column of JSON; otherwise empty.
    """

    columns: tuple[Column, ...]
    comment: str = ""
    reason: str = ""


_SCALARS: Final[Mapping[Any, Kind]] = types.MappingProxyType(
    {
        str: Kind.TEXT,
        bytes: Kind.TEXT,
        int: Kind.INTEGER,
        float: Kind.FLOAT,
        bool: Kind.BOOLEAN,
        Decimal: Kind.DECIMAL,
        datetime: Kind.MOMENT,
        date: Kind.DATE,
        time: Kind.TIME,
        timedelta: Kind.DURATION,
        UUID: Kind.UUID,
    }
)
_BIGINT: Final = 1 << 63
_ATTRIBUTE: Final = re.compile(r"(\w+)(?:\s*\([^)]*\))?:\s*(.*)")


def shape_of(annotation: Any, comment: str = "") -> Shape:
    """The columns for an annotation. Never raises: types that cannot be columns become one column
    of JSON.

    Args:
        annotation: resolved.
        comment: of the view's function.
    """
    plain, notes = _unwrapped(annotation)
    said = comment or notes
    if isinstance(plain, str):
        return Shape((Column("", Kind.JSON),), said, f"{plain} is unknown")
    kind, values = _kind_of(plain)
    if kind is not Kind.JSON:
        return Shape((Column("", kind, values),), said)
    try:
        fields, reason = _fields_of(plain)
    except (NameError, TypeError, AttributeError) as error:
        fields, reason = None, f"its fields cannot be determined: {error}"
    if not fields:
        return Shape((Column("", Kind.JSON),), said, reason or f"{_name(plain)} has no fields")
    described = _described(_class_of(plain))
    columns: list[Column] = []
    for name, (field, doc) in fields.items():
        if "\0" in name or not name:
            return Shape((Column("", Kind.JSON),), said, f"{name!r} cannot name a column")
        inner, noted = _unwrapped(field)
        kind, values = _kind_of(inner)
        text = "; ".join(part for part in (doc or noted or described.get(name, ""), values) if part)
        columns.append(Column(name, kind, text))
    return Shape(tuple(columns), "\n".join(part for part in (said, _summary(_class_of(plain))) if part))


def shapes_of(views: Mapping[str, Callable[..., Any] | None]) -> dict[str, Shape]:
    """The columns of each workflow type's view; types without a view are left out.

    Args:
        views: the function of each type's view.
    """
    shapes: dict[str, Shape] = {}
    for name, view in views.items():
        if view is None:
            continue
        try:
            annotation = hints_of(view).get("return", Any)
        except UsageError:
            annotation = "its annotation"
        shapes[name] = shape_of(annotation, inspect.getdoc(view) or "")
    return shapes


def view_names(types_: typing.Iterable[str]) -> dict[str, str]:
    """`wf_order` for `Order`: the name of each type's SQL view, unique, at most 60 ASCII
    characters.
    """
    names: dict[str, str] = {}
    for type_ in sorted(types_):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type_)
        name = f"wf_{re.sub(r'[^a-z0-9]+', '_', words.lower()).strip('_')}"
        if len(name) > 60 or name == "wf_" or name in names.values():
            name = f"{name[:50].rstrip('_')}_{_digest(type_)}"
        names[type_] = name
    return names


def column_names(shape: Shape, taken: typing.Collection[str], limit: int = 60) -> list[str]:
    """Column names: the names of the fields, `view_…` where the name is taken, cut if too long.

    Args:
        shape: whose columns.
        taken: names of the columns before them.
        limit: bytes of a name.
    """
    names: list[str] = []
    for column in shape.columns:
        name = column.name or "view"
        if name in taken:
            name = f"view_{name}"
        if len(name.encode()) > limit or name in names:
            name = f"{name.encode()[: limit - 9].decode(errors='ignore')}_{_digest(column.name)}"
        names.append(name)
    return names


def _digest(text: str) -> str:
    from hashlib import blake2b

    return blake2b(text.encode(), digest_size=4).hexdigest()


def _unwrapped(annotation: Any) -> tuple[Any, str]:
    """Without `Optional`, `Annotated`, aliases and new types; and what an `Annotated` says about
    it.
    """
    said = ""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *metadata = typing.get_args(annotation)
            said = next(
                (str(note) for each in metadata if (note := getattr(each, "description", None))), said
            )
        elif origin in {typing.Required, typing.NotRequired, typing.ClassVar, typing.Final}:
            (annotation,) = typing.get_args(annotation)
        elif origin in {typing.Union, types.UnionType}:
            left = [
                each for each in typing.get_args(annotation) if each not in {type(None), msgspec.UnsetType}
            ]
            if len(left) != 1:
                return annotation, said
            (annotation,) = left
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation, said


def _kind_of(annotation: Any) -> tuple[Kind, str]:
    """A field's kind, and the values that it can have, as text."""
    if typing.get_origin(annotation) is Literal:
        return _kind_of_values(typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        members = [*annotation]
        kind, values = _kind_of_values(tuple(members))
        return (kind, values) if members else (Kind.TEXT, "")
    if isinstance(annotation, type) and issubclass(annotation, TEXTS):
        return Kind.TEXT, ""
    try:
        return _SCALARS.get(annotation, Kind.JSON), ""
    except TypeError:  # not hashable
        return Kind.JSON, ""


def _kind_of_values(values: tuple[Any, ...]) -> tuple[Kind, str]:
    values = tuple(value.value if isinstance(value, enum.Enum) else value for value in values)
    found: set[type[Any]] = {type(value) for value in values if value is not None}
    one_of = f"one of {', '.join(str(value) for value in values if value is not None)}"
    if all(issubclass(each, str) for each in found):
        return Kind.TEXT, one_of
    numbers = all(issubclass(each, int) and each is not bool for each in found)
    if numbers and all(-_BIGINT <= value < _BIGINT for value in values if value is not None):
        return Kind.INTEGER, one_of
    return Kind.JSON, one_of


def _class_of(annotation: Any) -> Any:
    """`Page` for `Page[Order]`; any other annotation unchanged."""
    origin = typing.get_origin(annotation)
    return origin if _is_generic(origin) else annotation


def _is_generic(origin: Any) -> bool:
    """Whether it is your own class with type variables; `list` and unions have no annotations of
    their own.
    """
    parameters: Any = getattr(origin, "__parameters__", ())
    return type(parameters) is tuple and parameters != ()


def _fields_of(annotation: Any) -> tuple[dict[str, tuple[Any, str]] | None, str]:
    """Annotation and comment of each field by its name in JSON; or the reason why there are no
    fields.
    """
    kind = _class_of(annotation)
    if kind is Any or not isinstance(kind, type):  # a class, from Python 3.11 on
        return None, f"{_name(annotation)} is not a single structure"
    return _fields_of_class(kind, annotation)


def _fields_of_class(kind: type[Any], annotation: Any) -> tuple[dict[str, tuple[Any, str]] | None, str]:
    if issubclass(kind, msgspec.Struct):
        if kind.__struct_config__.array_like:
            return None, f"{kind.__name__} is an array in JSON"
        hints = class_hints(annotation)
        return {
            each.encode_name: (hints.get(each.name, each.type), "") for each in msgspec.structs.fields(kind)
        }, ""
    if dataclasses.is_dataclass(kind):
        hints = class_hints(annotation)
        return {
            each.name: (hints[each.name], str(each.metadata.get("doc", "")))
            for each in dataclasses.fields(kind)
        }, ""
    if typing.is_typeddict(kind):
        return {name: (hint, "") for name, hint in class_hints(annotation).items()}, ""
    models = getattr(kind, "model_fields", None)  # a pydantic model, which we do not import
    if isinstance(models, Mapping):
        found = cast("Mapping[str, Any]", models)
        return {
            str(getattr(field, "serialization_alias", None) or name): (
                getattr(field, "annotation", Any),
                getattr(field, "description", None) or "",
            )
            for name, field in found.items()
        }, ""
    return None, f"{_name(annotation)} has no statically known fields"


def _described(annotation: Any) -> dict[str, str]:
    """Comments from the section `Attributes:` of the docstring."""
    found: dict[str, str] = {}
    lines = inspect.getdoc(annotation).splitlines() if inspect.getdoc(annotation) else []  # type: ignore[union-attr]
    if "Attributes:" not in [line.strip() for line in lines]:
        return found
    begin = next(index for index, line in enumerate(lines) if line.strip() == "Attributes:")
    name, depth = "", 0
    for line in lines[begin + 1 :]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and not indent:
            break
        depth = depth or indent
        if match := _ATTRIBUTE.match(text) if indent == depth else None:
            name = match[1]
            found[name] = match[2]
        elif name and text:
            found[name] = f"{found[name]} {text}"
    return found


def _summary(annotation: Any) -> str:
    """The docstring before its sections; none of one that a dataclass made up."""
    text = annotation.__doc__ if isinstance(getattr(annotation, "__doc__", None), str) else ""
    name = getattr(annotation, "__name__", "")
    if not text or text.startswith(f"{name}(") or not text.strip():
        return ""
    return inspect.cleandoc(text).partition("\n\n")[0].replace("\n", " ")


def _name(annotation: Any) -> str:
    return (
        str(annotation)
        if typing.get_origin(annotation) is not None
        else getattr(annotation, "__name__", "") or str(annotation)
    )
