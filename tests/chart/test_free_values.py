"""Values that are passed on: numbers, booleans and lists come out as they were meant, and beside
ours."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from helm_python.errors import HelmError

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
from tests.chart.test_manifests import fault_of
from tests.chart.test_values import LEAVES, nested


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1048576, "1048576"),
        (10_000_000, "10000000"),
        (2**53 - 1, "9007199254740991"),
        (-1, "-1"),
        (0, "0"),
        (0.5, "0.5"),
        (1.25e-3, "0.00125"),
        (True, "true"),
        (False, "false"),
        ("9223372036854775807", "9223372036854775807"),
        ("on # really", "on # really"),
    ],
)
def test_a_setting_comes_out_as_it_was_written(value: object, text: str) -> None:
    manifests = render(EXTERNAL, {"kafka": {"settings": {"socket.send.buffer.bytes": value}}})
    seen = 0
    for _, pod in pods(manifests):
        for container in containers(pod):
            environment = {each["name"]: each.get("value") for each in container["env"]}
            if "PERDURE_KAFKA" in environment:
                seen += 1
                assert environment["PERDURE_KAFKA_SOCKET_SEND_BUFFER_BYTES"] == text
    assert seen >= 6


def test_a_setting_that_is_null_is_left_out() -> None:
    assert "SOCKET_SEND" not in json.dumps(
        render(EXTERNAL, {"kafka": {"settings": {"socket.send.buffer.bytes": None}}})
    )


@pytest.mark.parametrize("value", [2**53, -(2**60), 1e30, [1], {"a": 1}])
def test_a_setting_that_helm_would_change_is_refused(value: object) -> None:
    with pytest.raises(HelmError, match=r"/kafka/settings"):
        render(EXTERNAL, {"kafka": {"settings": {"some.number": value}}})


INTEGERS = [
    path
    for path, leaf in LEAVES.items()
    if isinstance(leaf.default, int) and not isinstance(leaf.default, bool)
]
PROPORTIONS = {"engine.processes": 1, "kafka.topics.partitions": 4_000_000}
"""What other values limit."""


@pytest.mark.parametrize("postgres", ["bundled", "cnpg"])
def test_a_large_number_is_written_in_full(postgres: str) -> None:
    """Where YAML reads 2e+06 Kubernetes refuses a float, and a command line a text."""
    large = {
        path: PROPORTIONS.get(path, min(LEAVES[path].schema.get("maximum", 2_000_000), 2_000_000))
        for path in INTEGERS
    }
    scaling = {"api": {"autoscaling": {"enabled": postgres == "cnpg"}}}
    values = [nested(path, value) for path, value in large.items()]
    files = text_of(EVERYTHING, BUNDLED, {"postgres": {"mode": postgres}}, scaling, *values, is_upgrade=True)
    for name, text in files.items():
        if "dashboard" not in text:
            assert not re.search(r"[ \"']\d(\.\d+)?e\+?\d\d\b", text), name
    assert "2000000" in "".join(files.values())
    assert len(INTEGERS) > 20


def test_numbers_of_a_workers_environment_are_text() -> None:
    values = {
        "workerDefaults": {"env": [{"name": "BATCH", "value": 1048576}, {"name": "FAST", "value": True}]}
    }
    worker = named(render(EXTERNAL, values), "Deployment", "shop-perdure-worker-default")
    environment = {
        each["name"]: each.get("value") for each in worker["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (environment["BATCH"], environment["FAST"]) == ("1048576", "true")
    assert fault_of(worker, "1.36") == ""


def test_a_default_variable_may_be_replaced_and_never_appears_twice() -> None:
    """Helm 4 applies on the server, where a list with two items of one name is refused."""
    values = merged(
        {
            "engine": {
                "env": [{"name": "PERDURE_LOG_FORMAT", "value": "console"}, {"name": "A", "value": "1"}]
            }
        },
        {"kafka": {"settings": {"security.protocol": "SSL"}}},
    )
    for name, pod in pods(render(EXTERNAL, values)):
        for container in containers(pod):
            variables = [each["name"] for each in container["env"]]
            assert len(variables) == len(set(variables)), name
    engine = named(render(EXTERNAL, values), "StatefulSet", "shop-perdure-engine")["spec"]["template"][
        "spec"
    ]["containers"][0]
    assert {"name": "PERDURE_LOG_FORMAT", "value": "console"} in engine["env"]


EXTRAS: dict[str, Any] = {
    "extraContainers": [{"name": "proxy", "image": "proxy:1"}],
    "extraInitContainers": [{"name": "token", "image": "token:1"}],
    "extraVolumes": [{"name": "token", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "token", "mountPath": "/token"}],
}


def of_ours(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    return [(name, pod) for name, pod in pods(manifests) if not name.endswith(("-kafka", "-postgres"))]


def test_extra_containers_and_volumes_are_beside_ours() -> None:
    before = {
        name.rsplit("-", 1)[0] if "setup" in name else name: pod
        for name, pod in of_ours(render(EXTERNAL, EVERYTHING))
    }
    after = of_ours(render(EXTERNAL, EVERYTHING, EXTRAS))
    for name, pod in after:
        old = before[name.rsplit("-", 1)[0] if "setup" in name else name]
        is_job = not name.startswith(("Deployment", "StatefulSet"))
        ours = [each["name"] for each in old["containers"]]
        assert [each["name"] for each in pod["containers"]] == ours + ([] if is_job else ["proxy"]), name
        assert [each["name"] for each in pod["initContainers"]] == [
            "token",
            *(each["name"] for each in old.get("initContainers", [])),
        ]
        assert {each["name"] for each in pod["volumes"]} == {each["name"] for each in old["volumes"]} | {
            "token"
        }
        for container in containers(pod):
            if container["name"] not in {"proxy", "token"}:
                assert {"name": "token", "mountPath": "/token"} in container["volumeMounts"], name
    assert len(after) >= 9


def test_init_containers_of_a_pod_template_do_not_replace_the_one_that_makes_topics() -> None:
    theirs: dict[str, Any] = {
        "spec": {
            "initContainers": [{"name": "wait", "image": "wait:1"}],
            "volumes": [{"name": "wait", "emptyDir": {}}],
        }
    }
    (setup,) = [pod for name, pod in pods(render(EXTERNAL, {"podTemplate": theirs})) if "setup" in name]
    assert [each["name"] for each in setup["initContainers"]] == ["topics", "wait"]
    assert {"tmp", "wait"} <= {each["name"] for each in setup["volumes"]}


def test_a_container_of_a_pod_template_is_merged_into_ours_by_its_name() -> None:
    ours = named(render(EXTERNAL), "StatefulSet", "shop-perdure-engine")["spec"]["template"]["spec"][
        "containers"
    ][0]
    mine = {
        "name": "perdure",
        "env": [{"name": "MINE", "value": "1"}, {"name": "PERDURE_INSTANCE", "value": "fixed"}],
        "volumeMounts": [{"name": "mine", "mountPath": "/mine"}],
        "resources": {"limits": {"memory": "4Gi"}},
    }
    template: dict[str, Any] = {
        "spec": {
            "containers": [mine, {"name": "proxy", "image": "proxy:1"}],
            "volumes": [{"name": "mine", "emptyDir": {}}],
        }
    }
    engine = named(
        render(EXTERNAL, {"engine": {"podTemplate": template}}), "StatefulSet", "shop-perdure-engine"
    )
    found, proxy = engine["spec"]["template"]["spec"]["containers"]
    assert proxy == {"name": "proxy", "image": "proxy:1"}
    assert (found["args"], found["livenessProbe"]) == (ours["args"], ours["livenessProbe"])
    assert {each["name"] for each in found["env"]} == {each["name"] for each in ours["env"]} | {"MINE"}
    assert {"name": "PERDURE_INSTANCE", "value": "fixed"} in found["env"]
    assert {each["mountPath"] for each in found["volumeMounts"]} == {
        each["mountPath"] for each in ours["volumeMounts"]
    } | {"/mine"}
    assert found["resources"]["limits"]["memory"] == "4Gi"
    assert found["resources"]["requests"] == ours["resources"]["requests"]
    assert fault_of(engine, "1.36") == ""
