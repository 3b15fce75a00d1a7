"""Several releases beside each other: two aliases in an umbrella chart, one name in two namespaces,
long names. Nothing collides."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import pytest
import yaml
from helm_python.errors import HelmError

from tests.chart.rendered import (
    BUNDLED,
    CHART,
    EVERYTHING,
    EXTERNAL,
    GENERATED,
    Manifest,
    merged,
    pods,
    render,
)

SERVERS = ("Deployment", "StatefulSet", "Job")
STRIMZI: dict[str, Any] = {
    "kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}},
    "postgres": {"mode": "cnpg"},
}


@cache
def umbrella(aliases: tuple[str, ...]) -> Path:
    """A chart that depends on ours under several names."""
    folder = Path(mkdtemp(prefix="umbrella-"))
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    dependencies = [
        {"name": "perdure", "version": about["version"], "alias": alias, "condition": f"{alias}.enabled"}
        for alias in aliases
    ]
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
    shutil.copytree(CHART, folder / "charts/perdure")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _folders_are_removed() -> Any:
    yield
    for aliases in _used:
        shutil.rmtree(umbrella(aliases), ignore_errors=True)


_used: set[tuple[str, ...]] = set()


def rendered(values: dict[str, Any], *aliases: str, release: str = "shop") -> list[Manifest]:
    _used.add(aliases)
    return render(dict.fromkeys(aliases, values), path=umbrella(aliases), release=release)


def identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


def selectors(manifests: list[Manifest]) -> list[tuple[str, dict[str, str]]]:
    """Whatever selects pods, as Kubernetes writes it in its several ways."""
    found: list[tuple[str, dict[str, str]]] = []

    def look(where: str, value: Any) -> None:
        values: Any = value
        if isinstance(value, dict):
            if "matchLabels" in value:
                found.append((where, cast("dict[str, Any]", value)["matchLabels"]))
            for each in cast("dict[str, Any]", value).values():
                look(where, each)
        elif isinstance(value, list):
            for each in values:
                look(where, each)

    for each in manifests:
        where = "/".join(identity(each))
        look(where, each.get("spec", {}))
        if each["kind"] == "Service":
            found.append((where, each["spec"]["selector"]))
    return found


def templates(manifests: list[Manifest]) -> list[dict[str, str]]:
    """Labels of all pods."""
    found = [each["spec"]["template"]["metadata"]["labels"] for each in manifests if each["kind"] in SERVERS]
    return found + [each["metadata"]["labels"] for each in manifests if each["kind"] == "Pod"]


def fits(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize(
    "values",
    [merged(EVERYTHING, EXTERNAL), merged(EVERYTHING, BUNDLED, GENERATED), merged(EVERYTHING, STRIMZI)],
)
def test_two_aliases_in_one_release_share_nothing(values: dict[str, Any]) -> None:
    both = rendered(values, "orders", "payments")
    assert [
        name for name, group in itertools.groupby(sorted(map(identity, both))) if len(list(group)) > 1
    ] == []
    theirs = {
        alias: [each for each in both if alias in json.dumps(each["metadata"]["labels"])]
        for alias in ("orders", "payments")
    }
    assert len(theirs["orders"]) == len(theirs["payments"]) == len(both) / 2
    for alias, other in (("orders", "payments"), ("payments", "orders")):
        for where, selector in selectors(theirs[alias]):
            assert not [labels for labels in templates(theirs[other]) if fits(selector, labels)], where
            component = selector.get("app.kubernetes.io/component")
            own = [labels for labels in templates(theirs[alias]) if fits(selector, labels)]
            assert own or component == "api-metrics", f"{where} selects nothing: {selector}"
        text = json.dumps(theirs[alias])
        assert other not in text, "one of them refers to the other"


@pytest.mark.parametrize("values", [merged(EVERYTHING, EXTERNAL), merged(EVERYTHING, STRIMZI)])
def test_two_aliases_have_a_namespace_of_workflows_each(values: dict[str, Any]) -> None:
    both = rendered(values, "orders", "payments")
    environment = {
        (each["metadata"]["labels"]["app.kubernetes.io/name"], variable["name"]): variable.get("value")
        for each in both
        if each["kind"] in SERVERS
        for variable in each["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    for variable in ("PERDURE_NAMESPACE", "PERDURE_OWNER"):
        assert environment["orders", variable] != environment["payments", variable]
    assert environment["orders", "PERDURE_NAMESPACE"] == "shop-orders"


def test_alerts_metrics_and_dashboards_tell_the_aliases_apart() -> None:
    both = rendered(merged(EVERYTHING, EXTERNAL), "orders", "payments")

    def values_of(kind: str, pattern: str) -> list[set[str]]:
        return [set(re.findall(pattern, json.dumps(each))) for each in both if each["kind"] == kind]

    assert values_of("PodMonitor", r'"replacement": "([^"]+)"') == [{"shop-orders"}, {"shop-payments"}]
    assert values_of("PrometheusRule", r'release=\\"([^"\\]+)\\"') == [{"shop-orders"}, {"shop-payments"}]
    groups = [each["spec"]["groups"][0]["name"] for each in both if each["kind"] == "PrometheusRule"]
    assert len(set(groups)) == 2
    boards = [
        each["data"]
        for each in both
        if each["kind"] == "ConfigMap" and "dashboard" in each["metadata"]["name"]
    ]
    files = [name for data in boards for name in data]
    ids = [json.loads(text)["uid"] for data in boards for text in data.values()]
    assert len(set(files)) == len(set(ids)) == 2
    assert all(len(each) <= 40 for each in ids), "Grafana's limit"


def test_one_name_in_two_namespaces_shares_nothing_that_both_put_elsewhere() -> None:
    values = merged(EVERYTHING, EXTERNAL, {"metrics": {"dashboards": {"namespace": "monitoring"}}})
    strimzi = {"cluster": "main", "namespace": "kafka", "userSecret": "user", "caSecret": "ca"}
    values = merged(values, {"kafka": {"mode": "strimzi", "bootstrapServers": "", "strimzi": strimzi}})
    first = [
        identity(each) for each in render(values, namespace="prod") if each["metadata"]["namespace"] != "prod"
    ]
    second = [
        identity(each) for each in render(values, namespace="test") if each["metadata"]["namespace"] != "test"
    ]
    same = set(first) & set(second)
    assert {kind for kind, _, _ in same} == {"KafkaTopic"}, (
        "those are one namespace of workflows; its owner decides"
    )
    owners = {each: json.dumps(render(EXTERNAL, namespace=each)) for each in ("prod", "test")}
    assert '"PERDURE_OWNER", "value": "prod/shop-perdure"' in owners["prod"]
    assert '"PERDURE_OWNER", "value": "test/shop-perdure"' in owners["test"]


@pytest.mark.parametrize("release", ["s" * 53, "s" * 45 + "-perdure"])
def test_names_of_a_long_release_are_short_enough(release: str) -> None:
    longest = {"workers": {"w" * 20: {"autoscaling": {"enabled": True}}}, "namespace": "shop"}
    for manifest in render(EVERYTHING, BUNDLED, GENERATED, longest, release=release):
        kind, _, name = identity(manifest)
        assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name), f"{kind} {name}"
        room = {"StatefulSet": 52, "Deployment": 54, "ScaledObject": 54}.get(kind, 63)
        assert len(name) <= room, f"{kind} {name}: pods and labels are named after it"
        for value in manifest["metadata"].get("labels", {}).values():
            assert re.fullmatch("([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value), (
                f"{kind} {name}: {value}"
            )


def test_two_long_names_stay_different() -> None:
    long = "s" * 45
    names = [
        {
            identity(each)
            for each in rendered({**EXTERNAL, "namespace": "x"}, "orders", "payments", release=long)
        }
    ]
    assert len(names[0]) == 2 * len(render(EXTERNAL))
    first = {identity(each) for each in render(EXTERNAL, {"namespace": "x"}, release=f"{long}-a")}
    second = {identity(each) for each in render(EXTERNAL, {"namespace": "x"}, release=f"{long}-b")}
    assert not first & second


@pytest.mark.parametrize(
    ("release", "values", "said"),
    [
        ("1shop", {}, '"1shop-perdure" cannot be the name of a Service'),
        ("my.shop", {"namespace": "shop"}, '"my.shop-perdure" cannot be the name of a Service'),
        ("shop", {"fullnameOverride": "Shop"}, '"Shop" cannot be the name of a Service'),
        ("shop", {"fullnameOverride": "x" * 41}, "fullnameOverride has 41 characters"),
        ("shop", {"nameOverride": "or/ders"}, '"or/ders" cannot be the value of a label'),
        ("shop", {"nameOverride": "orders-api"}, 'the name "orders-api" contains the name of a component'),
        ("shop", {"nameOverride": "x-worker-y"}, 'the name "x-worker-y" contains the name of a component'),
        ("s" * 51, {}, "at most 50"),
    ],
)
def test_a_name_that_cannot_work_is_refused_with_the_reason(
    release: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        render(EXTERNAL, values, release=release)


def test_a_name_that_begins_with_a_digit_works_when_it_is_overridden() -> None:
    assert render(EXTERNAL, {"fullnameOverride": "shop"}, release="1shop")


def test_no_selector_matches_pods_of_another_component() -> None:
    manifests = render(EVERYTHING, BUNDLED, GENERATED)
    for each in manifests:
        if each["kind"] not in {"Deployment", "StatefulSet", "PodDisruptionBudget", "Service"}:
            continue
        selector = each["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        chosen = {
            labels["app.kubernetes.io/component"] for labels in templates(manifests) if fits(selector, labels)
        }
        assert len(chosen) == 1, f"{identity(each)}: {chosen}"
    assert len([*pods(manifests)]) > 8
