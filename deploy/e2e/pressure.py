"""Node pressure: the disk of the node runs short, and the kubelet throws out the pod that has used
most of what it never asked for: here an engine.
"""

from __future__ import annotations

import json
from typing import Final

from inside import KUBELET_DIR, NODEFS_FREE_MIB
from node import Cluster, until
from shop import PYTHON

_TENANT: Final = f"{KUBELET_DIR}/another-tenant"
_LEFT_MIB: Final = NODEFS_FREE_MIB - 20
_FILL_MIB: Final = 55
"""Less than the limit of the pod's temporary volume, so that it is not evicted for that; more than
is short, so that nobody else is."""


def press(cluster: Cluster, namespace: str, pod: str) -> str:
    """Let a pod use more of the node's disk than others, and somebody else the rest of it; end when
    the node is well and the pod is back.

    Args:
        cluster: whose kubelet keeps its files on a small disk.
        namespace: of the pod.
        pod: of a StatefulSet, with a temporary volume at /tmp.

    Returns:
        What the kubelet says of the eviction.

    Raises:
        TimeoutError: nobody is evicted, or the pod does not come back.
    """
    uid = _uid(cluster, namespace, pod)
    fill = f"open('/tmp/fill', 'wb').write(bytes({_FILL_MIB} << 20))"
    cluster.kubectl("-n", namespace, "exec", pod, "--", PYTHON, "-c", fill)
    until(
        lambda: _used_mib(cluster, uid) >= _FILL_MIB, "the kubelet knows what the pod has used", 60, every_s=1
    )
    free = int(cluster.run("df", "--output=avail", "--block-size=1M", KUBELET_DIR).split()[-1])
    cluster.run("fallocate", "-l", f"{free - _LEFT_MIB}M", _TENANT)
    try:
        until(lambda: _is_short(cluster), "the node is short of disk", 60, every_s=1)
        said = until(lambda: _eviction(cluster, namespace, pod, uid), f"{pod} is evicted", 120, every_s=1)
    finally:
        cluster.run("rm", "-f", _TENANT)
    until(lambda: not _is_short(cluster), "the node is well", 120, every_s=1)
    until(lambda: _uid(cluster, namespace, pod) not in {"", uid}, f"{pod} is created again", 60, every_s=1)
    cluster.kubectl(
        "-n", namespace, "wait", "--for=condition=Ready", "pod", pod, "--timeout=120s", timeout=130
    )
    return str(said)


def _uid(cluster: Cluster, namespace: str, pod: str) -> str:
    return cluster.kubectl(
        "-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}", "--ignore-not-found"
    ).strip()


def _used_mib(cluster: Cluster, uid: str) -> float:
    summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"))
    used = [
        pod.get("ephemeral-storage", {}).get("usedBytes", 0)
        for pod in summary["pods"]
        if pod["podRef"]["uid"] == uid
    ]
    return max(used, default=0) / (1 << 20)


def _is_short(cluster: Cluster) -> bool:
    path = 'jsonpath={.status.conditions[?(@.type=="DiskPressure")].status}'
    return cluster.kubectl("get", "node", "node", "-o", path).strip() == "True"


def _eviction(cluster: Cluster, namespace: str, pod: str, uid: str) -> str:
    selector = f"reason=Evicted,involvedObject.name={pod},involvedObject.uid={uid}"
    found = cluster.get("-n", namespace, "events", "--field-selector", selector)["items"]
    return found[-1]["message"] if found else ""
