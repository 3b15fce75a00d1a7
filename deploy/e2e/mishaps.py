"""What an operator sees when a release cannot work: each mishap is installed beside one that does,
and must say what is wrong where one looks first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from node import Cluster, until

NAMESPACE: Final = "shop"
RELEASE: Final = "mishap"
NAME: Final = f"{RELEASE}-perdure"
FULL: Final = "/var/lib/e2e-volumes/full"


@dataclass(frozen=True)
class Mishap:
    """One.

    Attributes:
        what: it is.
        values: that lead to it, over those of a release that works.
        seen: where it is looked for: the text that is there.
        said: must be in that text.
        done: to the node, before.
    """

    what: str
    values: dict[str, str]
    seen: Callable[[Cluster], str]
    said: str
    done: tuple[str, ...] = ()


def events(cluster: Cluster) -> str:
    return cluster.kubectl("-n", NAMESPACE, "get", "events", "-o", "custom-columns=M:.message", check=False)


def log_of(component: str) -> Callable[[Cluster], str]:
    """What the pods of a component have said."""

    def seen(cluster: Cluster) -> str:
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        common = ("-n", NAMESPACE, "logs", "-l", selector, "--all-containers", "--tail=50")
        return cluster.kubectl(*common, check=False) + cluster.kubectl(*common, "-p", check=False)

    return seen


def mishaps(kafka: str, postgres: str) -> list[Mishap]:
    """All of them.

    Args:
        kafka: brokers that work.
        postgres: a Secret that works.
    """
    good = {
        "kafka.mode": "external",
        "kafka.bootstrapServers": kafka,
        "postgres.mode": "external",
        "postgres.existingSecret": postgres,
    }
    return [
        Mishap(
            "a Secret is missing",
            {**good, "postgres.existingSecret": "nothing"},
            events,
            'secret "nothing" not found',
        ),
        Mishap(
            "Kafka is not reached",
            {**good, "kafka.bootstrapServers": "127.0.0.1:1"},
            log_of("engine"),
            "Kafka at 127.0.0.1:1 cannot be reached",
        ),
        Mishap(
            "a password is wrong",
            {**good, "postgres.existingSecret": "wrong"},
            log_of("setup"),
            "password authentication failed",
        ),
        Mishap(
            "the topics are there, with other partitions",
            # As the owner of the topics, so that the partitions are what stops it; without engines,
            # which would join those of the release that runs.
            {
                **good,
                "namespace": "fulfilment",
                "kafka.owner": "shop/fulfil-perdure",
                "kafka.topics.partitions": "8",
                "engine.replicas": "0",
            },
            log_of("setup"),
            "--partitions 8: the number is fixed at 4",
        ),
        Mishap(
            "the topics belong to another release",
            {**good, "namespace": "fulfilment", "kafka.topics.partitions": "4"},
            log_of("engine"),
            "belong to shop/fulfil-perdure, not to shop/mishap-perdure",
        ),
        Mishap(
            "the engine's volume is full",
            {**good, "engine.persistence.enabled": "true"},
            log_of("engine"),
            "no space left on that disk",
        ),
        Mishap(
            "the engine's volume is read-only",
            {**good, "engine.persistence.enabled": "true"},
            log_of("engine"),
            "Read-only file system",
            done=("mount", "-o", "remount,ro", FULL),
        ),
    ]


def _line_of(cluster: Cluster, mishap: Mishap) -> str:
    """The line that says what is wrong, once it is there."""

    def find() -> str:
        return next((line.strip() for line in mishap.seen(cluster).splitlines() if mishap.said in line), "")

    found: str = until(find, f"{mishap.what}: {mishap.said}", 120, every_s=2)
    return found


def suffer(
    cluster: Cluster,
    values: Callable[[], dict[str, str]],
    kafka: str,
    postgres: str,
    tell: Callable[[str], None],
) -> None:
    """Have each of them, one after the other.

    Raises:
        TimeoutError: one does not say what is wrong.
    """
    wrong = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong", "namespace": NAMESPACE}}
    address = f"postgresql://perdure:wrong@{postgres}:5432/postgres"
    cluster.apply(json.dumps({**wrong, "stringData": {"uri": address}}))
    tell(f"a value is unknown: {_refusal(cluster, RELEASE, 'engnie', '--set', 'engnie.replicas=3')}")
    name = ("--set", "kafka.bootstrapServers=kafka:9092", "--set", "postgres.mode=none")
    tell(
        "a release's name cannot be that of a Service: "
        f"{_refusal(cluster, '1shop', 'cannot be the name of a Service', *name)}"
    )
    _full_volume(cluster)
    for mishap in mishaps(kafka, postgres):
        given = {
            **values(),
            "namespace": RELEASE,
            "engine.persistence.enabled": "false",
            "engine.replicas": "1",
            "api.replicas": "1",
            **mishap.values,
        }
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        if mishap.done:
            cluster.run(*mishap.done)
        cluster.helm("install", RELEASE, "/e2e/chart", "-n", NAMESPACE, *sets)
        try:
            tell(f"{mishap.what}: {_line_of(cluster, mishap)[:240]}")
        finally:
            cluster.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait", check=False)


def _refusal(cluster: Cluster, release: str, said: str, *sets: str) -> str:
    """The line with which Helm refuses a release."""
    done = cluster.ask("/e2e/bin/helm", "install", release, "/e2e/chart", "-n", NAMESPACE, *sets)
    assert done.returncode, f"{release} was installed with {sets}"
    return next(line.strip()[:240] for line in done.stderr.splitlines() if said in line)


def _full_volume(cluster: Cluster) -> None:
    """A volume of a few pages, kept for the engine of the mishaps."""
    cluster.run("mkdir", "-p", FULL)
    cluster.run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", FULL)
    volume = local_volume("full", FULL)
    volume["spec"]["claimRef"] = {"namespace": NAMESPACE, "name": f"state-{NAME}-engine-0"}
    cluster.apply(json.dumps(volume))


def local_volume(name: str, path: str) -> dict[str, Any]:
    """The manifest of a volume that is a folder of the node."""
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}]}
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "local": {"path": path},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def second_release(
    cluster: Cluster,
    values: Callable[[], dict[str, str]],
    kafka: str,
    postgres: str,
    tell: Callable[[str], None],
) -> None:
    """Another release beside the first, with a namespace of workflows of its own: neither takes
    notice of the other.
    """
    given = {
        **values(), "kafka.mode": "external", "kafka.bootstrapServers": kafka, "postgres.mode": "external",
        "postgres.existingSecret": postgres,
        "namespace": "second", "engine.persistence.enabled": "false", "engine.replicas": "1",
        "api.replicas": "1", "ingest.enabled": "false",
    }  # fmt: skip
    sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    cluster.helm("install", "second", "/e2e/chart", "-n", NAMESPACE, "--wait", "--timeout", "4m", *sets)
    said = cluster.helm("test", "second", "-n", NAMESPACE, "--logs")
    assert "its state is right in the tables of second" in said, said
    cluster.helm("uninstall", "second", "-n", NAMESPACE, "--wait")
    tell("a second release in the same Kubernetes namespace: helm test is well")
