"""Before and after an upgrade: `perdure check --live` and `perdure echo`, against a platform that
runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.client import Client
from tests.kafka.namespace import ROOT, Namespace
from tests.kafka.processes import perdure

APP = """
from perdure import activity, workflow

@activity.step
async def pack(what: str) -> str:
    return what + " packed"

@workflow.defn
class Parcel:
    def __init__(self) -> None:
        self.is_signed = False

    @workflow.run
    async def carry(self, what: str) -> str:
        await pack(what)
        {change}
        await workflow.wait_until(lambda: self.is_signed)
        return what

    @workflow.signal
    def sign(self) -> None:
        self.is_signed = True

@workflow.defn{name}
class Other:
    @workflow.run
    async def wait(self) -> None:
        await workflow.sleep("1 day")
"""
AFTER = 'await workflow.sleep("1 hour")'
BEFORE = "pass"


def app(folder: Path, change: str = BEFORE, name: str = "") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(APP.format(change=change, name=name))
    return str(folder / "app.py")


@contextmanager
def running(namespace: Namespace, *command: str) -> Generator[None]:
    process = subprocess.Popen(perdure(namespace, *command), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def check(namespace: Namespace, target: str, *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        perdure(namespace, "check", target, "--live", *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    return done.returncode, done.stdout, done.stderr


def test_code_that_would_break_open_runs_is_found_before_it_runs(
    namespace: Namespace, tmp_path: Path
) -> None:
    old = app(tmp_path / "old")

    async def begin() -> None:
        async with (
            asyncio.timeout(60),
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
        ):
            for number in range(5):
                await client.start_by_name(f"parcel-{number}", "Parcel", ["a vase"])
            await client.start_by_name("other", "Other")
            done = await client.start_by_name("done", "Parcel", ["a cup"])
            await done.signal_by_name("sign")
            await done.result()

    with running(namespace, "engine", old, "--state-dir", str(tmp_path / "state")):
        asyncio.run(begin())
        code, said, _ = check(namespace, old)
        assert (code, said.splitlines()[-1]) == (0, "every replayed run continues with this code")

        code, said, _ = check(namespace, app(tmp_path / "new", AFTER), "-o", "json")
        assert code == 1
        found: dict[str, Any] = {each["type"]: each for each in json.loads(said)}
        assert {name: (each["open"], each["replayed"]) for name, each in found.items()} == {
            "Other": (1, 1),
            "Parcel": (5, 5),
        }
        assert [line.partition(":")[0] for line in found["Parcel"]["broken"]] == [
            f"parcel-{number}" for number in range(5)
        ]
        assert not found["Other"]["broken"]

        code, said, _ = check(namespace, app(tmp_path / "sample", AFTER), "--limit", "2", "-o", "json")
        assert [line.partition(":")[0] for line in json.loads(said)[1]["broken"]] == ["parcel-0", "parcel-4"]

        code, said, _ = check(namespace, app(tmp_path / "less", name='(name="Another")'))
        assert code == 1
        assert "would break: Other: 1 open, but the app has no workflow of this type" in said


def test_an_upgrade_gate_that_cannot_reach_the_platform_says_so(kafka: str, tmp_path: Path) -> None:
    target = app(tmp_path / "old")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "perdure.cli",
            "check",
            target,
            "--live",
            "--kafka",
            kafka,
            "--namespace",
            "nowhere",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "topics apply" in done.stderr
    nameless = subprocess.run(
        [sys.executable, "-m", "perdure.cli", "check", target, "--live"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert nameless.returncode == 2
    assert "name the platform" in nameless.stderr


def test_the_echo_runs_beside_any_app_and_its_state_is_found_in_every_store(
    namespace: Namespace, postgres: str, tmp_path: Path
) -> None:
    target = app(tmp_path / "app")
    (tmp_path / "work.py").write_text(
        "from perdure import activity\n\n@activity.defn(queue='gpu')\nasync def draw() -> None: ...\n"
    )
    namespace.create({f"{namespace.name}.tasks.gpu": 2})
    url = f"kafka://{namespace.bootstrap}/{namespace.name}"
    echo = perdure(namespace, "echo", "--api", url, "--postgres", postgres, "--queue", "gpu")
    with (
        running(namespace, "engine", target, "--state-dir", str(tmp_path / "state")),
        running(namespace, "worker", str(tmp_path / "work.py")),
        running(namespace, "projector", "--postgres", postgres),
    ):
        done = subprocess.run(echo, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.partition(" perdure-echo-")[0] for line in done.stdout.splitlines()] == [
        "started",
        "its result came by the queues gpu",
        f"its state is right in {url}",
        f"its state is right in {namespace.name}.state",
        f"its state is right in the tables of {namespace.name}",
    ]
