"""A release on a real node, from install to uninstall, while a shop sells: nothing is lost, nothing
is done twice. Prints what it sees, and its figures as JSON.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

import manifests
import mishaps
import pressure
import umbrella
from images import KAFKA, PERDURE, POSTGRES, build_app
from node import Cluster, until
from shop import PYTHON, Prober, Shop

NAMESPACE: Final = "shop"
RELEASE: Final = "fulfil"
NAME: Final = f"{RELEASE}-perdure"
PERFECT: Final = {"unknown": 0, "shipped_twice": 0, "not_shipped": 0}
COMPATIBLE: Final = ("from __future__ import annotations", "# version 2\nfrom __future__ import annotations")
INSTALL_S: Final = 90
MEMORY_MB: Final = 600
LATE_S: Final = 20
ANSWERS: Final = {"200", "201", "503"}
"""What a client gets while a release is upgraded: with a 503, when to ask again."""

figures: dict[str, Any] = {}


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def tell_story(cluster: Cluster, rate: float) -> dict[str, Any]:
    """All of it.

    Args:
        cluster: with the images.
        rate: orders a second.

    Returns:
        The figures.

    Raises:
        AssertionError: something was lost, or done twice, or did not end as it must.
    """
    shutil.copytree(Path(__file__).parents[1] / "helm/perdure", cluster.work / "chart")
    volumes(cluster, 8)
    restricted_namespace(cluster)
    admitted(cluster)
    first, second = build_app(cluster, "v1"), build_app(cluster, "v2", patch=COMPATIBLE)
    breaking = build_app(cluster, "v3", patch=breaking_patch())
    shop = Shop(cluster, NAMESPACE, first, f"{NAME}-kafka:9092")
    install(cluster, shop)
    helm_test(cluster)
    idle(cluster)
    shop.open(rate)
    probers = ask(cluster)
    progress(cluster, shop, 50)
    refused(cluster, breaking)
    upgrade(cluster, second)
    answered(probers)
    figures["after_upgrade"] = audited(shop)
    assert figures["after_upgrade"]["latest_s"] <= LATE_S, figures["after_upgrade"]
    kills(cluster, shop)
    evict(cluster, shop)
    squeeze(cluster, shop)
    rollback(cluster, first)
    progress(cluster, shop, 50)
    shop.close()
    tell("the shop has closed; waiting for the last orders")
    found = until(lambda: ended(shop), "all orders end", 180, every_s=3)
    figures["in_all"] = found
    tell(f"in all: {found}")
    assert {name: found[name] for name in PERFECT} == PERFECT, found
    helm_test(cluster)
    servers = f"{NAME}-kafka:9092", f"{NAME}-postgres"
    mishaps.second_release(cluster, lambda: given(first), *servers, tell)
    mishaps.suffer(cluster, lambda: given(first), *servers, tell)
    uninstall(cluster)
    umbrella.umbrella(cluster, NAMESPACE, PERDURE, tell)
    return figures


def tell_umbrella(cluster: Cluster) -> dict[str, Any]:
    """The umbrella chart alone.

    Args:
        cluster: with the images.

    Returns:
        The figures.

    Raises:
        AssertionError: one alias has pods of the other, or does not work.
    """
    volumes(cluster, 2)
    restricted_namespace(cluster)
    admitted(cluster)
    umbrella.umbrella(cluster, NAMESPACE, PERDURE, tell)
    return figures


def restricted_namespace(cluster: Cluster) -> None:
    """The namespace of the story, which takes no pod beyond the restricted standard."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    about = {"name": NAMESPACE, "labels": labels}
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": about}))


def admitted(cluster: Cluster) -> None:
    """The API server takes the chart in every combination of modes."""
    begun = time.monotonic()
    figures["admitted"] = manifests.verify(cluster, NAMESPACE)
    tell(
        f"the API server admits {figures['admitted']} manifests of all modes, strictly: "
        f"{time.monotonic() - begun:.0f} s"
    )


def volumes(cluster: Cluster, count: int) -> None:
    """Local ones, for any claim."""
    for number in range(count):
        path = f"/var/lib/e2e-volumes/{number}"
        cluster.run("rm", "-rf", path)
        cluster.run("mkdir", "-p", path)
        cluster.apply(json.dumps(mishaps.local_volume(f"local-{number}", path)))


def breaking_patch() -> tuple[str, str]:
    """Makes the workflow begin with a timer, where histories have an activity."""
    line = "        async with workflow.saga() as saga:"
    return line, f"        await workflow.sleep('1 second')\n{line}"


def given(image: str) -> dict[str, str]:
    """The values of the release."""
    repository, _, tag = image.rpartition(":")
    return {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "Never",
        "app": "ecommerce_order.app",
        "namespace": "fulfilment",
        "generateSecrets": "true",
        "kafka.mode": "bundled",
        "kafka.bundled.image": KAFKA,
        "kafka.bundled.pullPolicy": "Never",
        "kafka.topics.partitions": "4",
        "kafka.topics.replicationFactor": "1",
        "postgres.mode": "bundled",
        "postgres.bundled.image": POSTGRES,
        "postgres.bundled.pullPolicy": "Never",
        "ingest.enabled": "true",
        # what is late is then late by the platform, and not by retries
        "workerDefaults.env[0].name": "SHOP_FAILURE_RATE",
        "workerDefaults.env[0].value": "0.0",
        "engine.resources.requests.cpu": "50m",
        "kafka.bundled.resources.requests.cpu": "50m",
    }


def values(image: str) -> list[str]:
    """The same, as Helm takes them."""
    return [part for name, value in given(image).items() for part in ("--set", f"{name}={value}")]


def install(cluster: Cluster, shop: Shop) -> None:
    begun = time.monotonic()
    # ingest is ready once the topics are there that it reads: somebody else's, made by the shop
    shop.open(0.001)
    cluster.helm(
        "install",
        RELEASE,
        "/e2e/chart",
        "-n",
        NAMESPACE,
        "--wait",
        "--timeout",
        "5m",
        *values("localhost/shop:v1"),
    )
    figures["install_s"] = round(time.monotonic() - begun, 1)
    tell(f"helm install --wait: {figures['install_s']} s")
    assert figures["install_s"] <= INSTALL_S
    shop.close()


def helm_test(cluster: Cluster) -> None:
    said = cluster.helm("test", RELEASE, "-n", NAMESPACE, "--logs")
    assert "its state is right in the tables" in said, said
    tell(
        "helm test: " + "; ".join(line for line in said.splitlines() if line.startswith(("started", "its ")))
    )


def idle(cluster: Cluster) -> None:
    """Measure the memory of the release without its Kafka and PostgreSQL."""
    ours = until(lambda: memory(cluster), "the kubelet has measured each pod", 60, every_s=1)
    figures["idle_mb"] = {"in_all": sum(ours.values()), **ours}
    tell(f"idle memory without Kafka and PostgreSQL: {figures['idle_mb']}")
    assert figures["idle_mb"]["in_all"] <= MEMORY_MB


def memory(cluster: Cluster) -> dict[str, int]:
    """Megabytes of the working set of each pod that runs; empty while one is not measured."""
    summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"))
    measured = {
        pod["podRef"]["uid"]: pod.get("memory", {}).get("workingSetBytes", 0) for pod in summary["pods"]
    }
    theirs = "app.kubernetes.io/component notin (kafka,postgres)"
    selector = f"app.kubernetes.io/instance={RELEASE},{theirs}"
    pods = cluster.get("-n", NAMESPACE, "pods", "-l", selector, "--field-selector", "status.phase=Running")[
        "items"
    ]
    found = {pod["metadata"]["name"]: round(measured.get(pod["metadata"]["uid"], 0) / 1e6) for pod in pods}
    return found if all(found.values()) else {}


def ask(cluster: Cluster) -> dict[str, Prober]:
    """Somebody reads the list twenty times a second, and somebody starts four workflows."""
    service = cluster.get("-n", NAMESPACE, "service", f"{NAME}-api")["spec"]
    key = base64.b64decode(cluster.get("-n", NAMESPACE, "secret", f"{NAME}-api-keys")["data"]["key"]).decode()
    url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/api/v1/workflows"
    body = json.dumps({"type": "perdure.echo", "id": "asked-NUMBER", "args": ["text", []]})
    return {
        "reads": Prober(cluster, "reads", f"{url}?limit=1", key),
        "starts": Prober(cluster, "starts", url, key, body=body, every_s=0.25),
    }


def answered(probers: dict[str, Prober]) -> None:
    """Each request got yes, or the time at which to retry."""
    for name, prober in probers.items():
        found = figures[f"upgrade_{name}"] = prober.stop()
        tell(f"{name} through the API while it was upgraded: {found}")
        assert found["answers"].keys() <= ANSWERS, found
        assert not found["errors_without_retry_after"], found


def progress(cluster: Cluster, shop: Shop, orders: int) -> None:
    """Wait until so many more have ended."""
    begun = closed(shop.audit("fulfilment"))
    until(
        lambda: closed(shop.audit("fulfilment")) >= begun + orders,
        f"{orders} more orders end",
        180,
        every_s=1,
    )


def closed(found: dict[str, Any]) -> int:
    return int(found["statuses"]["completed"] + found["statuses"]["failed"])


def audited(shop: Shop) -> dict[str, Any]:
    found = shop.audit("fulfilment")
    tell(f"audit: {found}")
    assert not found["shipped_twice"], found
    assert not found["not_shipped"], found
    return found


def refused(cluster: Cluster, image: str) -> None:
    """Code that would break running orders does not get in."""
    done = cluster.ask(
        "/e2e/bin/helm",
        "upgrade",
        RELEASE,
        "/e2e/chart",
        "-n",
        NAMESPACE,
        "--wait",
        "--timeout",
        "3m",
        *values(image),
        timeout=240,
    )
    log = cluster.kubectl("-n", NAMESPACE, "logs", f"job/{NAME}-upgrade-gate", check=False)
    assert done.returncode, "an upgrade that breaks running orders went through"
    assert "would break" in log, log + done.stderr
    broken = [line for line in log.splitlines() if line.startswith("would break:")]
    tell(f"an upgrade that would break {len(broken)} running orders is refused: {broken[0][:200]}")
    tags = {
        each["image"]
        for each in cluster.get("-n", NAMESPACE, "statefulset", f"{NAME}-engine")["spec"]["template"]["spec"][
            "containers"
        ]
    }
    assert tags == {"localhost/shop:v1"}


def upgrade(cluster: Cluster, image: str) -> None:
    begun = time.monotonic()
    cluster.helm(
        "upgrade", RELEASE, "/e2e/chart", "-n", NAMESPACE, "--wait", "--timeout", "5m", *values(image)
    )
    figures["upgrade_s"] = round(time.monotonic() - begun, 1)
    tell(f"helm upgrade --wait while the shop sells: {figures['upgrade_s']} s")


def kills(cluster: Cluster, shop: Shop) -> None:
    for component in ("engine", "worker-default", "ingest", "projector", "api"):
        pods = cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        name = pods[0]["metadata"]["name"]
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force")
        tell(f"killed {name}")
        progress(cluster, shop, 10)
    figures["after_kills"] = audited(shop)


def evict(cluster: Cluster, shop: Shop) -> None:
    """The kubelet throws an engine out, since it has filled its temporary volume."""
    pod = f"{NAME}-engine-0"
    uid = cluster.get("-n", NAMESPACE, "pod", pod)["metadata"]["uid"]
    fill = "open('/tmp/fill', 'wb').write(bytes(100_000_000))"
    cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", PYTHON, "-c", fill, check=False)

    def is_another() -> bool:
        found = cluster.ask("/e2e/bin/kubectl", "-n", NAMESPACE, "get", "pod", pod, "-o", "json")
        return found.returncode == 0 and json.loads(found.stdout)["metadata"]["uid"] != uid

    until(is_another, "the engine is evicted and created again", 180, every_s=1)
    cluster.kubectl(
        "-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", pod, "--timeout=120s", timeout=130
    )
    events = cluster.kubectl("-n", NAMESPACE, "get", "events", "--field-selector", "reason=Evicted")
    tell(f"the kubelet has evicted {pod}: {events.strip().splitlines()[-1][-120:]}")
    progress(cluster, shop, 10)
    figures["after_eviction"] = audited(shop)


def squeeze(cluster: Cluster, shop: Shop) -> None:
    """The node's disk runs short, and the kubelet throws an engine out; it comes back when the node
    is well.
    """
    begun = time.monotonic()
    said = pressure.press(cluster, NAMESPACE, f"{NAME}-engine-1")
    tell(f"node pressure, {time.monotonic() - begun:.0f} s till the engine is back: {said}")
    progress(cluster, shop, 10)
    figures["after_pressure"] = audited(shop)


def rollback(cluster: Cluster, image: str) -> None:
    begun = time.monotonic()
    cluster.helm("rollback", RELEASE, "1", "-n", NAMESPACE, "--wait", "--timeout", "5m")
    spec = cluster.get("-n", NAMESPACE, "statefulset", f"{NAME}-engine")["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == image
    figures["rollback_s"] = round(time.monotonic() - begun, 1)
    tell(f"helm rollback --wait while the shop sells: {figures['rollback_s']} s")


def ended(shop: Shop) -> dict[str, Any]:
    found = shop.audit("fulfilment")
    is_over = closed(found) >= found["placed"] and not found["unknown"]
    return found if is_over else {}


def uninstall(cluster: Cluster) -> None:
    cluster.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    # Helm leaves what hooks made
    serving = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component notin (test,upgrade-gate)"
    until(lambda: not cluster.get("-n", NAMESPACE, "pods", "-l", serving)["items"], "the pods are gone")
    claims = [each["metadata"]["name"] for each in cluster.get("-n", NAMESPACE, "pvc")["items"]]
    tell(f"uninstalled; volumes that stay: {', '.join(claims)}")


__all__ = ["PERDURE", "figures", "tell", "tell_story", "tell_umbrella"]

if __name__ == "__main__":
    sys.exit("run deploy/e2e/run.py")
