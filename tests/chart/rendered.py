"""The chart as Helm renders it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import yaml
from helm_python import Chart

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy/helm/perdure"
EXTERNAL: Final[dict[str, Any]] = {
    "kafka": {"bootstrapServers": "broker:9092"},
    "postgres": {"existingSecret": "tables"},
}
BUNDLED: Final[dict[str, Any]] = {"kafka": {"mode": "bundled"}, "postgres": {"mode": "bundled"}}
GENERATED: Final[dict[str, Any]] = {"generateSecrets": True}
EVERYTHING: Final[dict[str, Any]] = {
    "workers": {"default": {}, "gpu": {"queues": ["gpu", "video"], "autoscaling": {"enabled": True}}},
    "api": {"autoscaling": {"enabled": True}},
    "ingest": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["shop.example.com"]},
    "networkPolicy": {"enabled": True},
    "metrics": {
        "podMonitor": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
}
"""All parts that can be switched on."""

Manifest = dict[str, Any]


@cache
def chart(path: Path = CHART) -> Chart:
    return Chart.load(path)


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    """The later ones over the earlier, key by key."""
    found: dict[str, Any] = {}
    for each in values:
        for key, value in each.items():
            below: Any = found.get(key)
            over: Any = value
            found[key] = (
                merged(cast("Any", below), cast("Any", over))
                if isinstance(over, dict) and isinstance(below, dict)
                else over
            )
    return found


def text_of(
    *values: dict[str, Any],
    path: Path = CHART,
    release: str = "shop",
    namespace: str = "prod",
    is_upgrade: bool = False,
) -> dict[str, str]:
    """The files of a release, NOTES among them."""
    given = merged(*values)
    chart(path).validate_schema(given)
    return chart(path).render(
        given, name=release, namespace=namespace, is_install=not is_upgrade, is_upgrade=is_upgrade
    )


def render(
    *values: dict[str, Any],
    path: Path = CHART,
    release: str = "shop",
    namespace: str = "prod",
    is_upgrade: bool = False,
) -> list[Manifest]:
    """The manifests of a release, hooks and tests among them."""
    files = text_of(*values, path=path, release=release, namespace=namespace, is_upgrade=is_upgrade)
    return [
        each
        for name, text in files.items()
        if not name.endswith(".txt")
        for each in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if each
    ]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The specs of all pods, with what they belong to."""
    for each in manifests:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["spec"]
        elif each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield name, each["spec"]["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def generator() -> Any:
    """deploy/helm/generate.py."""
    specification = importlib.util.spec_from_file_location("generate", ROOT / "deploy/helm/generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["generate"] = module
    specification.loader.exec_module(module)
    return module
