"""One umbrella chart with two aliases of ours in one release: each has its own pods, topics, tables
and Secrets, and works.

The first alias runs the derived image of deploy/container/README.md. The second one has what
platform teams add: a digest in place of the tag, containers of their own, settings of Kafka,
network policies.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from images import KAFKA, POSTGRES, build_printed
from node import Cluster, until
from shop import PYTHON

CHART: Final = Path(__file__).parents[1] / "helm/perdure"
RELEASE: Final = "duo"
ALIASES: Final = ("orders", "payments")
_SMALL: Final[dict[str, Any]] = {
    "engine": {"replicas": 1, "persistence": {"enabled": False}, "resources": {"requests": {"cpu": "20m"}}},
    "api": {"replicas": 1},
    "generateSecrets": True,
}
_SETTING: Final = ("socket.send.buffer.bytes", 1_048_576)
_WAIT_FOR_THE_END: Final = (
    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); signal.sigwait([15])"
)
_POSTGRES_USERS: Final = {"api", "projector", "setup", "test"}
_DEFAULT_PARTS: Final = {"api", "engine", "projector", "worker-default"}


def umbrella(cluster: Cluster, namespace: str, image: str, tell: Callable[[str], None]) -> None:
    """Install it, ask each alias to work, and remove it. Kafka and PostgreSQL come with the first
    alias; the second one uses them, too.

    Args:
        cluster: with the images, and two volumes.
        namespace: of Kubernetes.
        image: perdure's, as repository:tag.
        tell: prints a line.

    Raises:
        AssertionError: a Service has pods of the other alias, one alias does not work, or a pod has
            what it should not.
    """
    begun = time.monotonic()
    _quota(cluster, namespace)
    _write(cluster, namespace, image)
    arguments = ("-n", namespace, "--wait", "--timeout", "8m", "-f", "/e2e/umbrella.json")
    cluster.helm("install", RELEASE, "/e2e/umbrella", *arguments, timeout=600)
    tell(f"an umbrella chart with two aliases: helm install --wait {time.monotonic() - begun:.0f} s")
    served = {alias: _served(cluster, namespace, alias) for alias in ALIASES}
    assert not set(served["orders"]) & set(served["payments"]), served
    tell(
        f"each alias has its own pods: {', '.join(f'{alias} {len(pods)}' for alias, pods in served.items())}"
    )
    said = cluster.helm("test", RELEASE, "-n", namespace, "--logs", timeout=300)
    for alias in ALIASES:
        assert f"its state is right in the tables of {RELEASE}-{alias}" in said, said
    tell("helm test: both aliases are well, each in its own topics and tables")
    _promised(cluster, namespace, tell)
    _first_sync(cluster, namespace, image, tell)
    _refused(cluster, namespace, image, tell)
    cluster.helm("uninstall", RELEASE, "-n", namespace, "--wait")


def _quota(cluster: Cluster, namespace: str) -> None:
    """A quota, under which the API server takes no pod without requests and limits."""
    hard = {
        "requests.cpu": "8",
        "requests.memory": "8Gi",
        "limits.memory": "16Gi",
        "requests.ephemeral-storage": "2Gi",
    }
    about = {"name": "quota", "namespace": namespace}
    cluster.apply(
        json.dumps({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": about, "spec": {"hard": hard}})
    )


def _write(cluster: Cluster, namespace: str, image: str) -> None:
    """The chart in /e2e/umbrella, its values beside it."""
    folder = cluster.work / "umbrella"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHART, folder / "charts/perdure")
    version = "0.1.0"
    dependencies = [{"name": "perdure", "version": version, "alias": alias} for alias in ALIASES]
    about = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(json.dumps(about))
    values = {
        "orders": {
            **_common(build_printed(cluster)),
            "kafka": {
                "mode": "bundled",
                "bundled": {"image": KAFKA, "pullPolicy": "Never", "resources": {"requests": {"cpu": "50m"}}},
                "topics": {"partitions": 2, "replicationFactor": 1},
            },
            "postgres": {"mode": "bundled", "bundled": {"image": POSTGRES, "pullPolicy": "Never"}},
        },
        "payments": {**_common(image), **_others(), **_of_a_platform_team(cluster, image)},
    }
    (cluster.work / "umbrella.json").write_text(json.dumps(values))


def _common(image: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    return {**_SMALL, "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}}


def _others() -> dict[str, Any]:
    """The servers of the first alias, for all others."""
    return {
        "kafka": {
            "bootstrapServers": f"{RELEASE}-orders-kafka:9092",
            "topics": {"partitions": 2, "replicationFactor": 1},
        },
        "postgres": {"existingSecret": f"{RELEASE}-orders-postgres"},
    }


def _of_a_platform_team(cluster: Cluster, image: str) -> dict[str, Any]:
    """What they add to the values of an alias."""
    repository = image.rpartition(":")[0]
    listed = cluster.run("ctr", "-n", "k8s.io", "images", "ls", f"name=={image}").splitlines()[-1]
    digest = next(word for word in listed.split() if word.startswith("sha256:"))
    cluster.run("ctr", "-n", "k8s.io", "images", "tag", "--force", image, f"{repository}@{digest}")
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    amounts = {"cpu": "1m", "memory": "32Mi", "ephemeral-storage": "1Mi"}
    resources = {"requests": amounts, "limits": {"memory": "32Mi"}}
    theirs = {
        "image": f"{repository}@{digest}",
        "imagePullPolicy": "Never",
        "securityContext": security,
        "resources": resources,
    }
    kafka = _others()["kafka"]
    return {
        "image": {"repository": repository, "digest": digest, "pullPolicy": "Never"},
        "kafka": {**kafka, "settings": dict([_SETTING])},
        "podTemplate": {
            "spec": {
                "initContainers": [{**theirs, "name": "first", "command": [PYTHON, "-c", "print('first')"]}]
            }
        },
        "extraContainers": [{**theirs, "name": "beside", "command": [PYTHON, "-c", _WAIT_FOR_THE_END]}],
        "networkPolicy": {"enabled": True},
    }


def _served(cluster: Cluster, namespace: str, alias: str) -> list[str]:
    """The pods behind all Services of an alias, each of which has its label."""
    found: list[str] = []
    selector = f"app.kubernetes.io/name={alias}"
    for each in cluster.get("-n", namespace, "endpointslices", "-l", selector)["items"]:
        found += [endpoint["targetRef"]["name"] for endpoint in each["endpoints"] or ()]
    pods = {
        each["metadata"]["name"] for each in cluster.get("-n", namespace, "pods", "-l", selector)["items"]
    }
    assert found, f"the Services of {alias} have no pods"
    assert set(found) <= pods, f"Services of {alias} have pods of others: {set(found) - pods}"
    return sorted(set(found))


def _promised(cluster: Cluster, namespace: str, tell: Callable[[str], None]) -> None:
    """Look at the pods that run: whose Secrets they have, their images, settings and containers,
    and what may be evicted.
    """
    pods = cluster.get("-n", namespace, "pods", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
    for pod in pods:
        name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
        alias, component = labels["app.kubernetes.io/name"], labels["app.kubernetes.io/component"]
        if component in {"kafka", "postgres"}:
            continue
        tables = {each for each in _secrets(pod["spec"]) if each.endswith("-postgres")}
        assert tables == ({f"{RELEASE}-orders-postgres"} if component in _POSTGRES_USERS else set()), (
            name,
            tables,
        )
        if alias == "payments":
            containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
            assert all("@sha256:" in each["image"] for each in containers), name
            assert "first" in {each["name"] for each in containers}, name
            assert component not in _DEFAULT_PARTS or "beside" in {each["name"] for each in containers}, name
    tell(
        f"only {', '.join(sorted(_POSTGRES_USERS))} have the Secret of PostgreSQL, in {len(pods)} pods; "
        "payments runs digests, with containers of its own"
    )
    _engines(cluster, namespace, tell)
    budgets = cluster.get("-n", namespace, "pdb", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
    found = {each["metadata"]["name"]: each["status"]["expectedPods"] for each in budgets}
    assert found == {f"{RELEASE}-{alias}-{part}": 1 for alias in ALIASES for part in _DEFAULT_PARTS}, found
    policies = cluster.kubectl("-n", namespace, "get", "networkpolicies", "-o", "name").split()
    assert f"networkpolicy.networking.k8s.io/{RELEASE}-payments-egress" in policies, policies
    tell(f"{len(found)} disruption budgets with one pod each, {len(policies)} network policies")


def _engines(cluster: Cluster, namespace: str, tell: Callable[[str], None]) -> None:
    """Ask the processes of the engines what they have."""
    orders, payments = (
        ("-n", namespace, "exec", f"{RELEASE}-{alias}-engine-0", "-c", "perdure", "--") for alias in ALIASES
    )
    cluster.kubectl(*orders, PYTHON, "-c", "import stripe; assert stripe.WORKS")
    sent = cluster.kubectl(
        *payments, "printenv", f"PERDURE_KAFKA_{_SETTING[0].upper().replace('.', '_')}"
    ).strip()
    assert sent == str(_SETTING[1]), sent
    cluster.kubectl(
        *payments, PYTHON, "-c", "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http"
    )
    tell(
        f"orders runs the README's derived image; the engine of payments has {_SETTING[0]}={sent}, and "
        "OpenTelemetry"
    )


def _secrets(spec: dict[str, Any]) -> set[str]:
    """The Secrets that a pod has, as environment or as files."""
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    variables = [each.get("valueFrom", {}) for container in containers for each in container.get("env", ())]
    found = {each["secretKeyRef"]["name"] for each in variables if "secretKeyRef" in each}
    return found | {each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}


def _first_sync(cluster: Cluster, namespace: str, image: str, tell: Callable[[str], None]) -> None:
    """Argo CD renders without the cluster, and runs the upgrade gate before the first install, too:
    it passes, and nothing is random.
    """
    values = {**_common(image), **_others(), "generateSecrets": False}
    (cluster.work / "argo.json").write_text(json.dumps(values))
    template = ("template", "argo", "/e2e/umbrella/charts/perdure", "-n", namespace, "-f", "/e2e/argo.json")
    assert cluster.helm(*template) == cluster.helm(*template), "the chart renders otherwise each time"
    hooks = [
        part
        for name in ("serviceaccount", "upgrade-gate")
        for part in ("--show-only", f"templates/{name}.yaml")
    ]
    manifest = cluster.helm(*template, *hooks)
    cluster.apply(manifest)
    try:
        gate = ("-n", namespace, "job/argo-perdure-upgrade-gate")
        cluster.kubectl("wait", *gate, "--for=condition=Complete", "--timeout=100s")
        said = cluster.kubectl("logs", *gate).strip().splitlines()
        tell(
            "the upgrade gate before the first install passes: "
            f"{said[-1][:200] if said else 'without a word'}"
        )
    finally:
        cluster.kubectl("delete", "-f", "-", "--wait", text=manifest, check=False)


def _refused(cluster: Cluster, namespace: str, image: str, tell: Callable[[str], None]) -> None:
    """A release with the namespace of workflows of another one: its setup and its engine say whose
    it is.
    """
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
