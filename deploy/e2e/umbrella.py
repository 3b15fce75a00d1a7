"""One umbrella chart with two aliases of ours in one release: each has its own pods, topics and tables, and works."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from images import KAFKA, POSTGRES
from node import Cluster, until

CHART: Final = Path(__file__).parents[1] / "helm/perdure"
RELEASE: Final = "duo"
ALIASES: Final = ("orders", "payments")
_SMALL: Final[dict[str, Any]] = {
    "engine": {"replicas": 1, "persistence": {"enabled": False}, "resources": {"requests": {"cpu": "20m"}}},
    "api": {"replicas": 1},
    "generateSecrets": True,
}


def umbrella(cluster: Cluster, namespace: str, image: str, tell: Callable[[str], None]) -> None:
    """Install it, ask each alias to work, and remove it. Kafka and PostgreSQL come with the first alias; the second one uses them, too.

    Args:
        cluster: with the images, and two volumes.
        namespace: of Kubernetes.
        image: perdure's, as repository:tag.
        tell: prints a line.

    Raises:
        AssertionError: a Service has pods of the other alias, or one alias does not work.
    """
    begun = time.monotonic()
    _write(cluster, namespace, image)
    arguments = ("-n", namespace, "--wait", "--timeout", "8m", "-f", "/e2e/umbrella.json")
    cluster.helm("install", RELEASE, "/e2e/umbrella", *arguments, timeout=600)
    tell(f"an umbrella chart with two aliases: helm install --wait {time.monotonic() - begun:.0f} s")
    served = {alias: _served(cluster, namespace, alias) for alias in ALIASES}
    assert not set(served["orders"]) & set(served["payments"]), served
    tell(f"each alias has its own pods: {', '.join(f'{alias} {len(pods)}' for alias, pods in served.items())}")
    said = cluster.helm("test", RELEASE, "-n", namespace, "--logs", timeout=300)
    for alias in ALIASES:
        assert f"its state is right in the tables of {RELEASE}-{alias}" in said, said
    tell("helm test: both aliases are well, each in its own topics and tables")
    _refused(cluster, namespace, image, tell)
    cluster.helm("uninstall", RELEASE, "-n", namespace, "--wait")


def _write(cluster: Cluster, namespace: str, image: str) -> None:
    """The chart in /e2e/umbrella, its values beside it."""
    folder = cluster.work / "umbrella"
    shutil.copytree(CHART, folder / "charts/perdure")
    version = "0.1.0"
    dependencies = [{"name": "perdure", "version": version, "alias": alias} for alias in ALIASES]
    about = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(json.dumps(about))
    values = {
        "orders": {
            **_common(image),
            "kafka": {
                "mode": "bundled",
                "bundled": {"image": KAFKA, "pullPolicy": "Never", "resources": {"requests": {"cpu": "50m"}}},
                "topics": {"partitions": 2, "replicationFactor": 1},
            },
            "postgres": {"mode": "bundled", "bundled": {"image": POSTGRES, "pullPolicy": "Never"}},
        },
        "payments": {**_common(image), **_others()},
    }
    (cluster.work / "umbrella.json").write_text(json.dumps(values))


def _common(image: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    return {**_SMALL, "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}}


def _others() -> dict[str, Any]:
    """The servers of the first alias, for whoever else."""
    return {
        "kafka": {"bootstrapServers": f"{RELEASE}-orders-kafka:9092", "topics": {"partitions": 2, "replicationFactor": 1}},
        "postgres": {"existingSecret": f"{RELEASE}-orders-postgres"},
    }


def _served(cluster: Cluster, namespace: str, alias: str) -> list[str]:
    """The pods behind all Services of an alias, each of which has its label."""
    found: list[str] = []
    selector = f"app.kubernetes.io/name={alias}"
    for each in cluster.get("-n", namespace, "endpointslices", "-l", selector)["items"]:
        found += [endpoint["targetRef"]["name"] for endpoint in each["endpoints"] or ()]
    pods = {each["metadata"]["name"] for each in cluster.get("-n", namespace, "pods", "-l", selector)["items"]}
    assert found, f"the Services of {alias} have no pods"
    assert set(found) <= pods, f"Services of {alias} have pods of others: {set(found) - pods}"
    return sorted(set(found))


def _refused(cluster: Cluster, namespace: str, image: str, tell: Callable[[str], None]) -> None:
    """A release with the namespace of workflows of another one: its setup and its engine say whose it is."""
    values = {**_common(image), **_others(), "namespace": f"{RELEASE}-orders", "setup": {"backoffLimit": 0}}
    (cluster.work / "thief.json").write_text(json.dumps(values))
    cluster.helm("install", "thief", "/e2e/umbrella/charts/perdure", "-n", namespace, "-f", "/e2e/thief.json")
    try:
        for component in ("setup", "engine"):
            tell(f"topics of another release, {component}: {_line(cluster, namespace, component)[:240]}")
    finally:
        cluster.helm("uninstall", "thief", "-n", namespace, "--wait", check=False)


def _line(cluster: Cluster, namespace: str, component: str) -> str:
    selector = f"app.kubernetes.io/instance=thief,app.kubernetes.io/component={component}"
    said = f"belong to {namespace}/{RELEASE}-orders, not to {namespace}/thief-perdure"

    def find() -> str:
        common = ("-n", namespace, "logs", "-l", selector, "--all-containers", "--tail=50")
        logs = cluster.kubectl(*common, check=False) + cluster.kubectl(*common, "-p", check=False)
        return next((line.strip() for line in logs.splitlines() if said in line), "")

    found: str = until(find, f"{component} says {said}", 120, every_s=2)
    return found
