"""README.md and values.schema.json of the chart, made of the comments in values.yaml.

`# -- text` says what the value below does; `# @schema {…}` narrows its JSON schema. `python
deploy/helm/generate.py` writes both files; a test holds them against values.yaml.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parent / "perdure"
_LINE: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9_.-]+):(?: (?P<rest>.*))?$")
_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}


@dataclass
class Value:
    """One value.

    Attributes:
        path: of keys.
        text: what it does; empty for what only groups others.
        schema: what narrows it.
        default: as values.yaml has it.
    """

    path: tuple[str, ...]
    text: str
    schema: dict[str, Any]
    default: Any
    children: list[Value] = field(default_factory=list["Value"])

    @property
    def is_leaf(self) -> bool:
        """Whether it is set as a whole."""
        return bool(self.text)


def values_of(text: str) -> list[Value]:
    """The values of a values.yaml, those of the top level with all below them.

    Raises:
        ValueError: a value has no comment, and neither what is around it nor what is below it.
    """
    defaults: dict[str, Any] = yaml.safe_load(text)
    top: list[Value] = []
    open_: list[tuple[int, Value]] = []
    comment, schema = "", dict[str, Any]()
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment, schema = stripped.removeprefix("# -- "), {}
        elif stripped.startswith("# @schema "):
            schema = json.loads(stripped.removeprefix("# @schema "))
        elif (found := _LINE.match(line)) is not None:
            indent = len(found["indent"])
            while open_ and open_[-1][0] >= indent:
                open_.pop()
            above = open_[-1][1] if open_ else None
            if above is not None and above.is_leaf:
                continue  # a part of its default
            path = (*(above.path if above else ()), found["key"])
            value = Value(path, comment, schema, _at(defaults, path))
            (above.children if above else top).append(value)
            open_.append((indent, value))
            comment, schema = "", {}
    if bare := [".".join(value.path) for value in _all(top) if not value.is_leaf and not value.children]:
        raise ValueError(f"no comment says what these do: {', '.join(bare)}")
    return top


def leaves(values: list[Value]) -> list[Value]:
    """Those that are set as a whole, in their order."""
    return [value for value in _all(values) if value.is_leaf]


def schema_of(values: list[Value]) -> dict[str, Any]:
    """The JSON schema of a values.yaml. It is closed: an unknown value is refused by its name."""
    by_name = {value.path[-1]: value for value in values}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_object(values),
        "$defs": {"worker": {**_one(by_name["workerDefaults"]), "type": ["object", "null"]}},
    }


def readme_of(values: list[Value]) -> str:
    """README.md."""
    rows = [
        f"| `{'.'.join(each.path)}` | {_shown(each.default)} | {each.text.replace('|', '&#124;')} |"
        for each in leaves(values)
    ]
    head = (CHART.parent / "README.head.md").read_text()
    return "\n".join([head, "| value | default | |", "|---|---|---|", *rows, ""])


def _object(values: list[Value]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {value.path[-1]: _one(value) for value in values},
    }


def _one(value: Value) -> dict[str, Any]:
    if not value.is_leaf:
        return _object(value.children)
    found: dict[str, Any] = {"description": value.text}
    if value.path == ("workers",):
        return {**found, "type": "object", **value.schema}
    return {**found, "type": _TYPES[type(value.default)], **value.schema}


def _all(values: list[Value]) -> list[Value]:
    return [each for value in values for each in (value, *_all(value.children))]


def _at(defaults: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        defaults = defaults[key]
    return defaults


def _shown(default: Any) -> str:
    return f"`{json.dumps(default)}`"


def main() -> None:
    """Write both."""
    values = values_of((CHART / "values.yaml").read_text())
    (CHART / "values.schema.json").write_text(
        json.dumps(schema_of(values), indent=2, ensure_ascii=False) + "\n"
    )
    (CHART / "README.md").write_text(readme_of(values))


if __name__ == "__main__":
    main()
