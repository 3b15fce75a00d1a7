"""Two deployments that chose one namespace on one Kafka: the second is refused, until it takes the
topics over on purpose."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from tests.kafka.namespace import ROOT

_numbers = itertools.count(1)
APP = """
from perdure import activity, workflow

@activity.defn
async def pack(what: str) -> str:
    return what

@workflow.defn
class Parcel:
    @workflow.run
    async def carry(self, what: str) -> str:
        return what
"""


def run(kafka: str, namespace: str, *command: str, owner: str = "", timeout: float = 120) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PERDURE_KAFKA": kafka,
        "PERDURE_NAMESPACE": namespace,
        "PERDURE_OWNER": owner,
    }
    done = subprocess.run(
        [sys.executable, "-m", "perdure.cli", *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_topics_of_another_deployment_are_refused_and_may_be_taken_over(kafka: str, tmp_path: Path) -> None:
    namespace = f"owned-{next(_numbers)}"
    (tmp_path / "app.py").write_text(APP)
    app = str(tmp_path / "app.py")
    gate = ("check", app, "--live", "--allow-new")
    code, said = run(kafka, namespace, *gate)
    assert (code, f"{namespace} has no topics yet: no run can be open" in said) == (0, True), said
    code, said = run(kafka, namespace, *gate, "--set", "ssl.ca.location=/nonexistent/ca.crt")
    assert (code, "/nonexistent/ca.crt does not exist yet: no run can be open" in said) == (0, True), said

    apply = ("topics", "apply", "--partitions", "2", "--replication", "1")
    assert run(kafka, namespace, *apply, owner="prod/shop")[0] == 0
    assert run(kafka, namespace, *apply, owner="prod/shop")[0] == 0, "the owner applies again"
    refused = f"the topics of {namespace} belong to prod/shop, not to test/shop"
    for command in (
        apply,
        ("topics", "plan"),
        ("topics", "check"),
        ("engine", app, "--state-dir", str(tmp_path / "state")),
        ("engine", app, "--state-dir", str(tmp_path / "state"), "--processes", "2"),
        ("worker", app),
        ("ingest", app),
        ("projector", "--postgres", "postgresql://nobody@127.0.0.1:1/none"),
        ("api", "--insecure"),
    ):
        code, said = run(kafka, namespace, *command, owner="test/shop")
        assert (code, refused in said) == (1, True), f"{command}: {said}"
    assert run(kafka, namespace, *apply)[0] == 0, "an operator without a name adds a queue"
    assert refused in run(kafka, namespace, "topics", "check", owner="test/shop")[1], (
        "and has not removed the owner"
    )

    code, said = run(kafka, namespace, *apply, "--take-over")
    assert (code, "--owner" in said) == (2, True), said
    assert run(kafka, namespace, *apply, "--take-over", owner="test/shop")[0] == 0
    assert run(kafka, namespace, "topics", "check", owner="test/shop")[0] == 0
    assert (
        "belong to test/shop, not to prod/shop"
        in run(kafka, namespace, "topics", "check", owner="prod/shop")[1]
    )
