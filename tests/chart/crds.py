"""Turns CustomResourceDefinitions into the schemas of custom_resources.json.

    git -C <operator> show <tag>:<path of a CRD> | python -m tests.chart.crds "<operator> <tag>"

Descriptions and the status are left out, and objects are closed: a field that the API server would
prune is a fault here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, cast

import yaml

FILE: Final = Path(__file__).parent / "custom_resources.json"
_DROPPED: Final = ("description", "format", "default")
_METADATA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {
            "type": "string",
            "maxLength": 253,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        },
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def schemas_of(definition: dict[str, Any], source: str) -> dict[str, Any]:
    """The served versions of a definition, by "group/version/Kind"."""
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    found: dict[str, Any] = {}
    for version in definition["spec"]["versions"]:
        if not version["served"]:
            continue
        schema = _closed(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        schema["properties"] |= {
            "apiVersion": {"const": f"{group}/{version['name']}"},
            "kind": {"const": kind},
            "metadata": _METADATA,
        }
        schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata"})
        found[f"{group}/{version['name']}/{kind}"] = {"$comment": source, **schema}
    return found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DROPPED or key.startswith("x-kubernetes-"):
            continue
        if key == "properties":
            found[key] = {name: _closed(each) for name, each in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            found[key] = _closed(cast("dict[str, Any]", value))
        elif key in {"anyOf", "oneOf", "allOf"}:
            found[key] = [_closed(each) for each in value]
        else:
            found[key] = value
    if "properties" in found and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


def main() -> None:
    """Read definitions from standard input and keep their schemas."""
    stored: dict[str, Any] = json.loads(FILE.read_text())
    for definition in yaml.safe_load_all(sys.stdin):
        if definition:
            stored |= schemas_of(definition, sys.argv[1])
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(stored[name])}" for name in sorted(stored))
    FILE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
