from __future__ import annotations

import enum
import json
import typing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import schemas
from perdure.model.commands import AnyCommand
from perdure.model.dead_letters import DeadLetter
from perdure.model.events import EventRecord
from perdure.model.replies import AnyReply
from perdure.model.states import WorkflowState
from perdure.model.streams import StreamRecord
from perdure.model.tasks import Cancellation, Task

ROOTS: dict[str, Any] = {
    "commands": AnyCommand,
    "events": EventRecord,
    "tasks": Task,
    "replies": AnyReply,
    "state": WorkflowState,
    "dead-letters": DeadLetter,
    "cancellations": Cancellation,
    "streams": StreamRecord,
}
PLAIN: dict[Any, str] = {str: "string", bytes: "bytes", int: "long", float: "double", bool: "boolean"}
OPEN_WORDS = {"code", "reason"}
"""Words of which more may come: an enum would make old readers stumble."""

names = pytest.mark.parametrize("name", schemas.NAMES)


@names
def test_a_schema_and_the_model_agree_field_by_field(name: str) -> None:
    schema = schemas.current(name).parsed()
    namespace = f"perdure.{name.replace('-', '_')}"
    if name in {"commands", "replies"}:
        (envelope,) = schema["fields"]
        schema = envelope["type"]
    seen: set[type] = set()
    assert described(schema, namespace) == wanted(ROOTS[name], namespace, seen)
    assert seen


def described(schema: Any, namespace: str = "", field: str = "") -> Any:
    """A schema without words, names in full, named types where they are first used."""
    match schema:
        case str():
            return schema if schema in {*PLAIN.values(), "null"} or "." in schema else f"{namespace}.{schema}"
        case {"type": "record"}:
            namespace = schema.get("namespace", namespace)
            fields = [
                (f["name"], described(f["type"], namespace, f["name"]), f.get("default", "required"))
                for f in schema["fields"]
            ]
            return (f"{namespace}.{schema['name']}", fields)
        case {"type": "enum"}:
            return (f"{schema.get('namespace', namespace)}.{schema['name']}", schema["symbols"])
        case {"type": "array"}:
            return [described(schema["items"], namespace, field)]
        case {"logicalType": "timestamp-micros"}:
            assert field == "at" or field.endswith("_at") or field == "delayed_until"
            return schema["type"]
        case [*branches]:
            return tuple(described(branch, namespace, field) for branch in branches)
        case _:
            raise AssertionError(schema)


def wanted(annotation: Any, namespace: str, seen: set[type], field: str = "") -> Any:
    """The expected result of `described` for a type of the model."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        is_shared = annotation.__module__ in {"perdure.model.failure", "perdure.model.options"}
        full = f"{'perdure' if is_shared else namespace}.{annotation.__name__}"
        if annotation in seen:
            return full
        seen.add(annotation)
        hints = typing.get_type_hints(annotation)
        return (
            full,
            [
                (f.name, wanted(hints[f.name], namespace, seen, f.name), default(f))
                for f in msgspec.structs.fields(annotation)
            ],
        )
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        # `model.states.stored`: a paused run is written as a suspended one
        symbols = [each.value for each in annotation if each.value != "paused"]
        return (f"perdure.{annotation.__name__}", symbols)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        title = "".join(word.title() for word in field.split("_"))
        return "string" if field in OPEN_WORDS else (f"{namespace}.{title}", list(arguments))
    if typing.get_origin(annotation) in (list, tuple):
        return [wanted(arguments[0], namespace, seen, field)]
    if type(None) in arguments:
        return ("null", wanted(arguments[0], namespace, seen, field))
    if arguments:
        return tuple(wanted(each, namespace, seen, field) for each in arguments)
    return PLAIN[annotation]


def default(field: Any) -> Any:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return json.loads(json.dumps(msgspec.to_builtins(as_maps(value))))


def as_maps(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: as_maps(getattr(value, name)) for name in value.__struct_fields__}
    return value.decode("latin-1") if isinstance(value, bytes) else value


@names
def test_every_record_and_field_says_what_it_is(name: str) -> None:
    silent = [part.get("name") for part in parts(schemas.current(name).parsed()) if not part.get("doc")]
    assert not silent


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Records and fields."""
    match schema:
        case {"type": "record"}:
            yield schema
            for field in schema["fields"]:
                yield field
                yield from parts(field["type"])
        case {"items": items}:
            yield from parts(items)
        case [*branches]:
            for branch in branches:
                yield from parts(branch)
        case _:
            pass


def test_what_several_schemas_define_they_define_alike() -> None:
    found: dict[str, Any] = {}
    for name in schemas.NAMES:
        for part in parts(schemas.current(name).parsed()):
            if part.get("namespace") == "perdure":
                assert found.setdefault(part["name"], part) == part
    assert set(found) == {"FailureInfo", "ActivityOptions", "RetryPolicy"}


# ---- versions


@names
def test_a_released_version_is_never_edited(name: str) -> None:
    """`schema_headers.txt` has the header of each; add that of a new version, and edit none."""
    lines = (Path(__file__).parent / "schema_headers.txt").read_text().splitlines()
    recorded = dict(line.rsplit("/", 1) for line in lines)
    assert len(recorded) == len(lines)
    for schema in schemas.released(name):
        version = f"{name}/{schema.version}"
        assert schema.fingerprint == recorded.get(version), f"{version}: see docs/internals/schemas.md"


@names
def test_each_version_differs_from_the_one_before_only_as_the_rules_allow(name: str) -> None:
    versions = schemas.released(name)
    assert [schema.version for schema in versions] == list(range(1, len(versions) + 1))
    for old, new in pairwise(versions):
        assert not faults(old.parsed(), new.parsed())


def faults(old: Any, new: Any, where: str = "") -> list[str]:
    """Changes that the rules of docs/internals/schemas.md forbid."""
    match old, new:
        case {"type": "record"}, {"type": "record"}:
            before, after = old["fields"], new["fields"]
            where = f"{where}/{old['name']}"
            found = [] if old["name"] == new["name"] else [f"{where}: renamed"]
            if [f["name"] for f in after[: len(before)]] != [f["name"] for f in before]:
                return [*found, f"{where}: a field was removed, renamed or moved"]
            found += [
                f"{where}.{f['name']}: a new field has no default"
                for f in after[len(before) :]
                if "default" not in f
            ]
            found += [
                f"{where}.{b['name']}: its default changed"
                for b, a in zip(before, after, strict=False)
                if b.get("default", ...) != a.get("default", ...)
            ]
            return found + [
                fault
                for b, a in zip(before, after, strict=False)
                for fault in faults(b["type"], a["type"], f"{where}.{b['name']}")
            ]
        case {"items": before}, {"items": after}:
            return faults(before, after, where)
        case {"type": "enum"}, {"type": "enum"}:
            return [] if old["symbols"] == new["symbols"] else [f"{where}: an enum changed"]
        case [*before], [*after]:
            if len(after) < len(before) or ("null" in before and len(after) != len(before)):
                return [f"{where}: a branch was removed, or added beside null"]
            return [fault for b, a in zip(before, after, strict=False) for fault in faults(b, a, where)]
        case _:
            return [] if old == new else [f"{where}: its type changed"]


RECORD: dict[str, Any] = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "b", "type": ["null", "bytes"], "default": None},
        {"name": "c", "type": {"type": "array", "items": [{"type": "record", "name": "S", "fields": []}]}},
        {"name": "d", "type": {"type": "enum", "name": "E", "symbols": ["x"]}, "default": "x"},
    ],
}


def changed(change: str) -> dict[str, Any]:
    new: dict[str, Any] = json.loads(json.dumps(RECORD))
    exec(change, {"fields": new["fields"], "new": new})
    return new


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("fields.pop()", "/R: a field was removed, renamed or moved"),
        ("fields.reverse()", "/R: a field was removed, renamed or moved"),
        ("fields[0]['name'] = 'z'", "/R: a field was removed, renamed or moved"),
        ("fields[0]['type'] = 'string'", "/R.a: its type changed"),
        ("fields[0]['default'] = 0", "/R.a: its default changed"),
        ("fields.append({'name': 'e', 'type': 'long'})", "/R.e: a new field has no default"),
        ("fields[1]['type'].append('long')", "/R.b: a branch was removed, or added beside null"),
        ("fields[2]['type']['items'][0]['name'] = 'T'", "/R.c/S: renamed"),
        ("fields[3]['type']['symbols'].append('y')", "/R.d: an enum changed"),
    ],
)
def test_the_rules_find_what_old_readers_or_old_records_would_not_bear(change: str, fault: str) -> None:
    assert fault in faults(RECORD, changed(change))


@pytest.mark.parametrize(
    "change",
    [
        "fields.append({'name': 'e', 'type': 'long', 'default': 0})",
        "fields[2]['type']['items'].append({'type': 'record', 'name': 'T', 'fields': []})",
        "fields[0]['doc'] = 'better said'",
    ],
)
def test_the_rules_allow_what_both_can_read(change: str) -> None:
    assert not faults(RECORD, changed(change))
