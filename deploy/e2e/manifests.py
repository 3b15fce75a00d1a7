"""The API server's own verdict on every way to run the chart: it admits each manifest, strictly,
and keeps none.

Kinds of operators that are not here (Strimzi, KEDA, CloudNativePG, Prometheus, gateways) are
defined by the schemas that the unit tests use.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final, cast

from node import Cluster, until

_PLAIN: Final = (
    "enum",
    "items",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
)
"""Keys of a schema that a definition may have everywhere."""


def verify(cluster: Cluster, namespace: str) -> int:
    """Render the chart in every combination of modes, with all parts switched on, and have the API
    server admit it.

    Args:
        cluster: whose API server answers.
        namespace: that the releases would be in; it exists.

    Returns:
        How many manifests were admitted.

    Raises:
        RuntimeError: one was not, or with a warning; the message has the reason.
    """
    from tests.chart.rendered import EVERYTHING, merged, render
    from tests.chart.test_manifests import KAFKA, POSTGRES, WAYS

    define(cluster)
    _refuses_a_typo(cluster, namespace)
    secured = {"kafka": {"strimzi": {"createUser": False}, "security": KAFKA["secured"]["kafka"]["security"]}}
    more = [
        merged(
            KAFKA["external"],
            POSTGRES["external"],
            {"setup": {"useHelmHooks": True}, "podAntiAffinity": "hard"},
        ),
        merged(KAFKA["secured"], POSTGRES["none"], {"image": {"digest": f"sha256:{'0' * 64}"}}),
        merged(KAFKA["strimzi"], POSTGRES["cnpg"], secured),
        merged(KAFKA["external"], POSTGRES["none"], {"engine": {"persistence": {"enabled": False}}}),
    ]
    ways = [*(merged(KAFKA[kafka], POSTGRES[postgres]) for kafka, postgres in WAYS), *more]
    count = 0
    for way in ways:
        manifests = render(EVERYTHING, way, namespace=namespace, release="dry")
        admit(cluster, manifests)
        count += len(manifests)
    return count


def admit(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    """Have the API server look at manifests as at a release, unknown and repeated fields included.

    Raises:
        RuntimeError: it refuses one, or warns of one.
    """
    if verdict := _verdict(cluster, manifests):
        raise RuntimeError(verdict)


def _verdict(cluster: Cluster, manifests: list[dict[str, Any]]) -> str:
    """Errors and warnings of the API server; empty: it admits them."""
    items = [_of_an_account_that_exists(each) if each["kind"] == "Pod" else each for each in manifests]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    done = cluster.ask(
        "/e2e/bin/kubectl", "create", "--dry-run=server", "--validate=strict", "-f", "-", text=text
    )
    return done.stderr.strip() or ("" if done.returncode == 0 else done.stdout)


def _refuses_a_typo(cluster: Cluster, namespace: str) -> None:
    """Make sure that a verdict of this API server means something."""
    spec: dict[str, Any] = {"maxReplicas": 3, "scaleTargetRef": {"name": "x"}, "triggers": []}
    about = {"name": "x", "namespace": namespace}
    wrong: dict[str, Any] = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": about,
        "spec": spec,
    }
    assert "maxReplicas" in _verdict(cluster, [wrong]), "the API server admits what does not exist"


def _of_an_account_that_exists(pod: dict[str, Any]) -> dict[str, Any]:
    """The same with the namespace's own ServiceAccount: a pod is not admitted before its account is
    there.
    """
    return {**pod, "spec": {**pod["spec"], "serviceAccountName": "default"}}


def define(cluster: Cluster) -> None:
    """Define the kinds of operators, and wait until the API server serves them."""
    from tests.chart.test_manifests import CUSTOM

    versions: dict[tuple[str, str], dict[str, Any]] = {}
    for name, schema in sorted(CUSTOM.items()):
        group, version, kind = name.split("/")
        versions.setdefault((group, kind), {})[version] = schema
    for (group, kind), schemas in versions.items():
        cluster.apply(json.dumps(definition(group, kind, schemas)))
        until(partial(_is_served, cluster, f"{kind.lower()}s.{group}"), f"{kind} of {group} is served", 30)


def _is_served(cluster: Cluster, plural: str) -> bool:
    return cluster.ask("/e2e/bin/kubectl", "get", plural).returncode == 0


def definition(group: str, kind: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A CustomResourceDefinition of a kind, its versions by name."""
    plural = f"{kind.lower()}s"
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == min(schemas, key=len),
            "schema": {"openAPIV3Schema": _structural(schema)},
        }
        for name, schema in schemas.items()
    ]
    for version in versions:  # these three the API server knows itself
        properties = cast("Any", version)["schema"]["openAPIV3Schema"]["properties"]
        properties |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    # groups of *.k8s.io are Kubernetes' own, unless they say that nobody has approved them
    about = {
        "name": f"{plural}.{group}",
        "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"},
    }
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": about,
        "spec": spec,
    }


def _structural(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema as definitions have it: each value has a type, an object is closed by itself.

    See
    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema.
    """
    found: dict[str, Any] = {key: schema[key] for key in _PLAIN if key in schema}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if "properties" in found:
        found["properties"] = {name: _structural(each) for name, each in schema["properties"].items()}
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(schema["additionalProperties"])
    elif schema.get("type") == "object":
        found["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in found:
        found["items"] = _structural(schema["items"])
    kind = schema.get("type")
    if isinstance(kind, str):
        found["type"] = kind
    elif "enum" in found:
        found["type"] = "string"
    elif "anyOf" in schema:
        found["x-kubernetes-int-or-string"] = True
    else:
        found["x-kubernetes-preserve-unknown-fields"] = True
    return found
