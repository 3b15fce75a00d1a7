"""What platform teams expect: hooks that work under Argo CD, spreading, disruption budgets,
policies, storage limits, digests."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.rendered import (
    BUNDLED,
    EVERYTHING,
    EXTERNAL,
    Manifest,
    containers,
    merged,
    named,
    pods,
    render,
    text_of,
)
from tests.chart.test_manifests import KAFKA, POSTGRES, fault_of

STRIMZI = {"kafka": {"mode": "strimzi", "strimzi": {"cluster": "main"}}}
HOOK = "helm.sh/hook"


def first_sync(manifests: list[Manifest]) -> list[Manifest]:
    """What Argo CD runs before all else, at the first sync, too:
    https://argo-cd.readthedocs.io/en/stable/user-guide/helm/#helm-hooks."""
    before = [each for each in manifests if {"pre-install", "pre-upgrade"} & set(hooks_of(each))]
    return sorted(before, key=lambda each: int(each["metadata"]["annotations"].get("helm.sh/hook-weight", 0)))


def hooks_of(manifest: Manifest) -> list[str]:
    hook: str = manifest["metadata"].get("annotations", {}).get(HOOK, "")
    return hook.split(",")


@pytest.mark.parametrize("kafka", KAFKA)
@pytest.mark.parametrize("postgres", POSTGRES)
def test_hooks_need_nothing_that_the_release_brings(kafka: str, postgres: str) -> None:
    """At Argo CD's first sync nothing of the release is there: no ServiceAccount, no Secret, no
    Kafka."""
    setups = (
        [False, True] if kafka in {"external", "secured"} and postgres in {"external", "none"} else [False]
    )
    for is_hook in setups:
        manifests = render(EVERYTHING, KAFKA[kafka], POSTGRES[postgres], {"setup": {"useHelmHooks": is_hook}})
        hooks = first_sync(manifests)
        brought = {(each["kind"], each["metadata"]["name"]) for each in manifests if each not in hooks}
        accounts = {each["metadata"]["name"] for each in hooks if each["kind"] == "ServiceAccount"}
        jobs = [each for each in hooks if each["kind"] == "Job"]
        assert bool(jobs) == (kafka != "bundled")
        for job in jobs:
            pod = job["spec"]["template"]["spec"]
            assert pod["serviceAccountName"] in accounts
            assert hooks.index(job) > min(
                hooks.index(each) for each in hooks if each["kind"] == "ServiceAccount"
            )
            for container in containers(pod):
                for variable in container["env"]:
                    reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
                    assert ("Secret", reference.get("name")) not in brought
                    assert "-postgres" not in reference.get("name", "")
            for volume in pod["volumes"]:
                if "secret" in volume and kafka == "strimzi":
                    assert volume["secret"]["optional"] is True, "Strimzi makes it during the sync"


def test_the_gate_passes_before_the_first_install() -> None:
    gate = named(render(EXTERNAL), "Job", "shop-perdure-upgrade-gate")
    assert "--allow-new" in gate["spec"]["template"]["spec"]["containers"][0]["args"]
    assert not [each for each in render(BUNDLED) if "gate" in each["metadata"]["name"]], (
        "its Kafka comes with the release"
    )
    assert named(render(BUNDLED, is_upgrade=True), "Job", "shop-perdure-upgrade-gate")


def test_argo_cd_does_not_make_the_setup_again_when_it_has_expired() -> None:
    (setup,) = [
        each for each in render(EXTERNAL) if each["kind"] == "Job" and "setup" in each["metadata"]["name"]
    ]
    assert setup["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
    assert HOOK not in setup["metadata"]["annotations"]


def test_an_account_that_exists_serves_hooks_too() -> None:
    manifests = render(EXTERNAL, {"serviceAccount": {"create": False, "name": "mine"}})
    assert not [each for each in manifests if each["kind"] == "ServiceAccount"]
    assert {pod["serviceAccountName"] for _, pod in pods(manifests)} == {"mine"}


def serving(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    return [
        (each["metadata"]["labels"]["app.kubernetes.io/component"], each)
        for each in manifests
        if each["kind"] in {"Deployment", "StatefulSet"}
        and not each["metadata"]["name"].endswith(("-kafka", "-postgres"))
    ]


@pytest.mark.parametrize(
    ("how", "key"),
    [
        ("soft", "preferredDuringSchedulingIgnoredDuringExecution"),
        ("hard", "requiredDuringSchedulingIgnoredDuringExecution"),
        ("none", None),
    ],
)
def test_pods_of_a_component_are_spread_over_hosts(how: str, key: str | None) -> None:
    manifests = render(EVERYTHING, EXTERNAL, {"podAntiAffinity": how})
    for component, each in serving(manifests):
        affinity = each["spec"]["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
        assert list(affinity) == ([key] if key else [])
        if key:
            (term,) = affinity[key]
            term = term.get("podAffinityTerm", term)
            assert term["topologyKey"] == "kubernetes.io/hostname"
            assert term["labelSelector"]["matchLabels"] == each["spec"]["selector"]["matchLabels"], component
        assert fault_of(each, "1.36") == ""
    (default,) = {
        str(each["spec"]["template"]["spec"].get("affinity"))
        for name, each in serving(render(EXTERNAL))
        if name == "engine"
    }
    assert "preferred" in default


def test_every_component_that_serves_has_a_disruption_budget() -> None:
    manifests = render(EVERYTHING, EXTERNAL)
    budgets = [
        each["spec"]["selector"]["matchLabels"] for each in manifests if each["kind"] == "PodDisruptionBudget"
    ]
    assert sorted(map(str, budgets)) == sorted(
        str(each["spec"]["selector"]["matchLabels"]) for _, each in serving(manifests)
    )


@pytest.mark.parametrize("modes", [EXTERNAL, BUNDLED])
def test_every_container_says_what_it_needs_since_a_quota_refuses_others(modes: dict[str, Any]) -> None:
    seen = 0
    for name, pod in pods(render(EVERYTHING, modes, is_upgrade=True)):
        for container in containers(pod):
            seen += 1
            assert container["resources"]["requests"].keys() >= {"cpu", "memory", "ephemeral-storage"}, name
            assert container["resources"]["limits"].keys() >= {"memory", "ephemeral-storage"}, name
    assert seen >= 10


def test_a_store_on_a_temporary_volume_is_limited_by_the_volume() -> None:
    engine = named(
        render(EXTERNAL, {"engine": {"persistence": {"enabled": False}}}),
        "StatefulSet",
        "shop-perdure-engine",
    )
    pod = engine["spec"]["template"]["spec"]
    assert "ephemeral-storage" not in pod["containers"][0]["resources"]["limits"], (
        "a pod of 10 GiB would be evicted at 256 MiB"
    )
    assert {"name": "state", "emptyDir": {"sizeLimit": "10Gi"}} in pod["volumes"]


def test_every_image_may_be_a_digest() -> None:
    digest = "sha256:" + "a" * 64
    values: dict[str, Any] = {
        "image": {"registry": "registry.example.com", "digest": digest},
        "workers": {"gpu": {"image": f"registry.example.com/gpu@{digest}"}},
        "kafka": {"bundled": {"image": f"apache/kafka@{digest}"}},
        "postgres": {"bundled": {"image": f"postgres@{digest}"}},
    }
    for name, pod in pods(render(EVERYTHING, BUNDLED, values, is_upgrade=True)):
        for container in containers(pod):
            assert container["image"].endswith(f"@{digest}"), name


def egress_of(manifests: list[Manifest], component: str) -> list[dict[str, Any]]:
    """The rules that let a component's pods out; every pod is one that some policy selects."""
    labels = {
        "app.kubernetes.io/name": "perdure",
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": component,
    }
    found: list[dict[str, Any]] = []
    is_isolated = False
    for each in manifests:
        if each["kind"] != "NetworkPolicy" or "Egress" not in each["spec"]["policyTypes"]:
            continue
        selector = each["spec"]["podSelector"]
        fits = selector["matchLabels"].items() <= labels.items()
        for expression in selector.get("matchExpressions", ()):
            fits = fits and (labels[expression["key"]] in expression["values"]) == (
                expression["operator"] == "In"
            )
        if fits:
            is_isolated = True
            found += each["spec"]["egress"]
    assert is_isolated, component
    return found


def ports_of(rules: list[dict[str, Any]]) -> set[int | str]:
    return {port["port"] for rule in rules for port in rule.get("ports", [{"port": "any"}])}


def test_pods_get_out_to_what_they_need_and_no_further() -> None:
    values = merged(
        EXTERNAL,
        {
            "kafka": {"bootstrapServers": "a:9093,b:9094"},
            "schemaRegistry": {"url": "https://registry.example.com"},
            "traces": {"enabled": True, "endpoint": "http://collector:4318"},
            "api": {"auth": {"oidc": {"issuer": "https://login.example.com:8443/realm"}}},
            "networkPolicy": {"egress": {"kafkaPorts": [9095], "postgresPort": 6432}},
        },
    )
    manifests = render(EVERYTHING, values)
    common: set[int | str] = {53, 9093, 9094, 9095, 443, 4318}
    assert ports_of(egress_of(manifests, "engine")) == common
    assert ports_of(egress_of(manifests, "ingest")) == common
    assert ports_of(egress_of(manifests, "projector")) == common | {6432}
    assert ports_of(egress_of(manifests, "setup")) == common | {6432}
    assert ports_of(egress_of(manifests, "api")) == common | {6432, 8443}
    assert ports_of(egress_of(manifests, "test")) == common | {6432, 8080}
    assert ports_of(egress_of(manifests, "worker-gpu")) == common | {"any"}, "activities call other systems"
    limited = render(EVERYTHING, values, {"networkPolicy": {"egress": {"workers": []}}})
    assert ports_of(egress_of(limited, "worker-gpu")) == common
    assert [
        fault for each in manifests if each["kind"] == "NetworkPolicy" and (fault := fault_of(each, "1.36"))
    ] == []


def test_bundled_servers_accept_only_the_release_and_connect_to_nothing() -> None:
    manifests = render(EVERYTHING, BUNDLED)
    for component in ("kafka", "postgres"):
        assert ports_of(egress_of(manifests, component)) == {53}
        labels = named(manifests, "NetworkPolicy", f"shop-perdure-{component}")["spec"]["ingress"][0]["from"][
            0
        ]["podSelector"]
        assert labels["matchLabels"] == {
            "app.kubernetes.io/name": "perdure",
            "app.kubernetes.io/instance": "shop",
        }
    kafka = [rule for rule in egress_of(manifests, "engine") if "to" in rule]
    assert [each["ports"][0]["port"] for each in kafka] == [9092]


def test_notes_say_that_a_bundled_server_is_for_trials_only() -> None:
    for values, named_ in (
        (BUNDLED, "Kafka and PostgreSQL"),
        (merged(EXTERNAL, {"postgres": {"mode": "bundled"}}), "PostgreSQL"),
    ):
        notes = text_of(values)["perdure/templates/NOTES.txt"]
        assert re.search(
            rf"FOR TRYING ONLY, never for work that matters: the release runs its own {named_}, one replica",
            notes,
        )
    assert "TRYING" not in text_of(EXTERNAL)["perdure/templates/NOTES.txt"]


def test_the_notes_say_which_secrets_pods_wait_for() -> None:
    notes = text_of(BUNDLED)["perdure/templates/NOTES.txt"]
    assert "create secret generic shop-perdure-postgres" in notes
    assert "create secret generic shop-perdure-api-keys" in notes
    quiet = text_of(BUNDLED, {"generateSecrets": True})["perdure/templates/NOTES.txt"]
    assert "create secret" not in quiet
    assert "get secret shop-perdure-api-keys" in quiet
