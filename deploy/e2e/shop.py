"""The world around the release, as pods of their own: a shop that sells, an auditor that counts,
and somebody who asks the API all the time.
"""

from __future__ import annotations

import json
from typing import Any, Final

from node import Cluster, until

PYTHON: Final = "/opt/perdure/bin/python"

_AUDIT: Final = """
import json, sys
sys.path.insert(0, "/app")
from ecommerce_order.table import records, table
kafka, namespace = sys.argv[1:]
# in this order: who has ended by then has shipped by then
orders = [json.loads(each.value()) for each in records(kafka, "shop.orders")]
states = {
    key: (each["type"], each["status"], each["started_at"].timestamp(), each["closed_at"].timestamp())
    for key, each in table(kafka, namespace).items()
}
shipped = [json.loads(each.value())["order_id"] for each in records(kafka, "shop.shipped")]
placed = [each["placed_at"] for each in orders]
late = [
    states[each["order_id"]][3] - each["placed_at"]
    for each in orders
    if each["order_id"] in states and states[each["order_id"]][3]
]
print(json.dumps({
    "placed": len({each["order_id"] for each in orders}),
    "in_s": round(max(placed) - min(placed)) if placed else 0,
    "unknown": sum(each["order_id"] not in states for each in orders),
    "statuses": {
        status: sum(found[:2] == ("Order", status) for found in states.values())
        for status in ("running", "suspended", "completed", "failed")
    },
    "shipped": len(shipped),
    "shipped_twice": len(shipped) - len(set(shipped)),
    "not_shipped": len(
        {key for key, found in states.items() if found[:2] == ("Order", "completed")} - set(shipped)
    ),
    "latest_s": round(max(late, default=0), 1),
    "p50_s": round(sorted(late)[len(late) // 2], 2) if late else 0,
}))
"""

_PROBE: Final = """
import json, os, sys, time, urllib.error, urllib.request
url, key, body, every_s, stop = sys.argv[1:]
counts, slowest, without, said, number = {}, 0.0, 0, {}, 0
while not os.path.exists(stop):
    begun, number = time.monotonic(), number + 1
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = body.replace("NUMBER", str(number)).encode() or None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=15) as answer:
            code = str(answer.status)
    except urllib.error.HTTPError as error:
        code = str(error.code)
        without += error.headers.get("Retry-After") is None
        said.setdefault(error.read().decode()[:300], time.strftime("%H:%M:%S"))
    except OSError as error:
        code = type(getattr(error, "reason", error)).__name__
        said.setdefault(str(error), time.strftime("%H:%M:%S"))
    counts[code] = counts.get(code, 0) + 1
    slowest = max(slowest, time.monotonic() - begun)
    time.sleep(max(0.0, begun + float(every_s) - time.monotonic()))
print(json.dumps({"answers": counts, "errors_without_retry_after": without, "slowest_s": round(slowest, 2),
    "said": dict(list(said.items())[:5])}))
"""


class Shop:
    """Sells, in the cluster.

    Args:
        cluster: where.
        namespace: of Kubernetes.
        image: of the example.
        kafka: brokers.
    """

    def __init__(self, cluster: Cluster, namespace: str, image: str, kafka: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._image = image
        self._kafka = kafka

    def open(self, rate: float) -> None:
        """Begin to sell, so many orders a second; the topics are made first."""
        command = [
            PYTHON,
            "/app/ecommerce_order/shop.py",
            "place",
            "--kafka",
            self._kafka,
            "--rate",
            str(rate),
        ]
        self._cluster.apply(json.dumps(self._pod("shop", command, "Always")))

    def close(self) -> None:
        """Sell no more; what was sold is in the topic."""
        self._cluster.kubectl("-n", self._namespace, "delete", "pod", "shop", "--wait", "--grace-period=20")

    def audit(self, workflows: str) -> dict[str, Any]:
        """Count what was placed, and what has become of it, as a plain consumer sees it.

        Args:
            workflows: the namespace of workflows.
        """
        self._cluster.kubectl("-n", self._namespace, "delete", "pod", "audit", "--ignore-not-found", "--wait")
        self._cluster.apply(
            json.dumps(self._pod("audit", [PYTHON, "-c", _AUDIT, self._kafka, workflows], "Never"))
        )

        def phase() -> str:
            found: str = self._cluster.get("-n", self._namespace, "pod", "audit")["status"]["phase"]
            return found if found in {"Succeeded", "Failed"} else ""

        ended = until(phase, "the audit ends", 120)
        log = self._cluster.kubectl("-n", self._namespace, "logs", "audit")
        if ended == "Failed":
            raise RuntimeError(f"the audit failed:\n{log}")
        found: dict[str, Any] = json.loads(log.strip().splitlines()[-1])
        return found

    def _pod(self, name: str, command: list[str], restart: str) -> dict[str, Any]:
        container = {
            "name": name,
            "image": self._image,
            "imagePullPolicy": "Never",
            "command": command,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {
            "containers": [container],
            "restartPolicy": restart,
            "securityContext": security,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": spec,
        }


class Prober:
    """Asks the API all the time, until it is stopped.

    Args:
        cluster: where.
        name: of the prober.
        url: what to ask for.
        key: an API key.
        body: what to post, with NUMBER for that of the request; empty to get.
        every_s: seconds from a request to the next.
    """

    def __init__(
        self, cluster: Cluster, name: str, url: str, key: str, *, body: str = "", every_s: float = 0.05
    ) -> None:
        self._stop = cluster.work / f"stop-{name}"
        self._stop.unlink(missing_ok=True)
        self._process = cluster.spawn(
            "python3", "-c", _PROBE, url, key, body, str(every_s), f"/e2e/{self._stop.name}"
        )

    def stop(self) -> dict[str, Any]:
        """How often it got which answer, and how long the slowest took."""
        self._stop.touch()
        out, error = self._process.communicate(timeout=60)
        if self._process.returncode:
            raise RuntimeError(error)
        found: dict[str, Any] = json.loads(out)
        return found
