"""With only what one extra installs, everything it promises is there: an import of another extra's
package would be a missing module.

The tests run where every extra is installed, so the packages that an installation would not have
are hidden from a process.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.e2e.conftest import Kitchen

if TYPE_CHECKING:
    from pathlib import Path

HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
SERVED = {
    "": [
        "perdure.cli.lifecycle.serving",
        "perdure.client",
        "perdure.echo",
        "perdure.embedded",
        "perdure.testing",
        "perdure.worker",
        "perdure.workflow",
    ],
    "http": ["perdure.adapters.http"],
    "kafka": [
        "perdure.distributed.ingesting",
        "perdure.distributed.platform",
        "perdure.distributed.working",
        "perdure.adapters.rocksdb",
    ],
    "kafka,postgres": [
        "perdure.distributed.projecting",
        "perdure.adapters.postgres.database",
        "perdure.adapters.postgres.migrating",
        "perdure.adapters.postgres.projector",
    ],
    "api": ["perdure.api.app", "perdure.api.server", "perdure.cli.lifecycle.dev_api"],
    "api,kafka,postgres": ["perdure.cli.lifecycle.api_backends"],
}


def _installed(distribution: str, extras: frozenset[str], found: set[str]) -> None:
    for line in metadata.requires(distribution) or ():
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if name not in found and (
            wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""})
        ):
            found.add(name)
            _installed(name, frozenset(wanted.extras), found)


def hiding(folder: Path, *extras: str) -> Path:
    """A folder to put on PYTHONPATH: its processes have what `pip install perdure[extras]` brings,
    and no more."""
    found = {"perdure", "pip"}
    _installed("perdure", frozenset(extras), found)
    hidden = {
        package
        for package, owners in metadata.packages_distributions().items()
        if not found & {canonicalize_name(owner) for owner in owners}
    }
    assert "pytest" in hidden
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDING.format(hidden=hidden))
    return folder


@pytest.mark.parametrize("extras", SERVED)
def test_what_an_extra_promises_needs_no_other(extras: str, tmp_path: Path) -> None:
    folder = hiding(tmp_path / "hiding", *filter(None, extras.split(",")))
    done = _python(folder, "-c", "; ".join(f"import {name}" for name in SERVED[extras]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (
            "engine app.py --kafka x:1 --namespace n",
            "Kafka needs the module confluent_kafka: pip install 'perdure[kafka]'",
        ),
        (
            "worker app.py --queue q --kafka x:1 --namespace n",
            "Kafka needs the module confluent_kafka: pip install 'perdure[kafka]'",
        ),
        (
            "migrate --postgres postgresql://x --namespace n",
            "PostgreSQL needs the module psycopg: pip install 'perdure[postgres]'",
        ),
        (
            "api --kafka x:1 --postgres postgresql://x --namespace n",
            "the API needs the module fastapi: pip install 'perdure[api]'",
        ),
        ("echo --api http://x", "http:// needs the module httpx: pip install 'perdure[http]'"),
    ],
)
def test_a_command_without_its_extra_names_it(command: str, missing: str, tmp_path: Path) -> None:
    folder = hiding(tmp_path / "hiding")
    (folder / "app.py").write_text("")
    done = _python(folder, "-m", "perdure.cli", *command.split())
    assert (done.returncode, done.stderr.strip()) == (1, f"perdure: {missing}")


def test_the_food_delivery_runs_on_what_make_run_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hiding(tmp_path / "hiding", "examples")))
    kitchen = Kitchen(tmp_path).start()
    try:
        order = str(uuid4())
        assert kitchen.order(order, "poke")[0] == 201
        kitchen.until_state(order, "Paid")
    finally:
        kitchen.kill()


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
