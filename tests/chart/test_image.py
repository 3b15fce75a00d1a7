"""The image has what the chart's processes need, and an image on top of it is built as the README
prints it.

There is no container engine here: the instructions are run on this machine, each as its user, on an
environment that belongs to root as the image's does. `make e2e-k8s` builds the images themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendered import CHART, ROOT, named, render

CONTAINER = ROOT / "deploy/container"
PYTHON = "/usr/bin/python3"
"""Of the machine: user 10001 cannot reach one in root's home."""
NOT_IN_IMAGES = {"bench", "dev", "examples", "test"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Of a Containerfile: each with its argument, continued lines as one."""
    lines = [
        line
        for line in text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def printed() -> str:
    (block,) = re.findall(r"```dockerfile\n(.*?)```", (CONTAINER / "README.md").read_text(), re.DOTALL)
    return str(block)


def extras_in(text: str) -> list[set[str]]:
    """Of `perdure[a,b]`, and of `make wheels EXTRAS="a b"`."""
    bracketed = [set(found.split(",")) for found in re.findall(r"\[([a-z]+(?:,[a-z]+)+)\]['\"]", text)]
    return bracketed + [set(found.split()) for found in re.findall(r'EXTRAS="?([a-z ]+)"', text)]


def test_every_extra_that_runs_is_in_the_image() -> None:
    """`http` is a part of `api`."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    wanted = extras - NOT_IN_IMAGES - {"http"}
    for path in ("deploy/container/Containerfile", "deploy/e2e/prepared.py"):
        found = extras_in((ROOT / path).read_text())
        assert found, path
        assert all(each == wanted for each in found), path


@pytest.mark.parametrize(
    "text",
    [printed(), (CONTAINER / "Containerfile").read_text(), (CONTAINER / "Containerfile.app").read_text()],
)
def test_an_image_does_not_run_as_root(text: str) -> None:
    users = [argument for name, argument in instructions(text) if name == "USER"]
    own = named(
        render({"kafka": {"bootstrapServers": "b:1"}, "postgres": {"mode": "none"}}),
        "StatefulSet",
        "shop-perdure-engine",
    )
    security = own["spec"]["template"]["spec"]["securityContext"]
    assert [*users, "10001:10001"][-1] == f"{security['runAsUser']}:{security['runAsGroup']}"
    if "RUN" in text:
        assert users, "and says so, since it has changed it"


def test_the_derived_image_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert instructions(printed())[0] == ("FROM", f"perdure:{version}")
    assert f"perdure:{version}" in (CONTAINER / "Containerfile.app").read_text()
    assert (CHART / "Chart.yaml").read_text().count(version) == 2


@pytest.fixture
def folder() -> Iterator[Path]:
    """That everybody may read, unlike pytest's own."""
    found = Path(tempfile.mkdtemp(prefix="perdure-image-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def wheel(folder: Path, name: str) -> None:
    """The least package that pip installs."""
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "WORKS = True\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def test_the_derived_image_of_the_readme_is_built_as_printed(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can run a command as another user")
    if subprocess.run([PYTHON, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        pytest.skip(f"{PYTHON} has no ensurepip")
    environment = folder / "environment"
    subprocess.run([PYTHON, "-m", "venv", environment], check=True)
    (stripped,) = re.findall(r"rm -rf (/opt/perdure\S+)", (CONTAINER / "Containerfile").read_text())
    for left in environment.glob(stripped.removeprefix("/opt/perdure/")):
        shutil.rmtree(left)
    wheel(folder, "stripe")
    user, ran = 10001, 0  # as perdure's image leaves it
    for name, argument in instructions(printed()):
        if name == "USER":
            user = 0 if argument == "root" else int(argument.partition(":")[0])
        if name == "RUN":
            ran += 1
            command = argument.replace("/opt/perdure", str(environment))
            done = subprocess.run(
                ["sh", "-c", command], user=user, group=user, extra_groups=[], cwd=folder, text=True,
                capture_output=True, check=False,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "PIP_NO_INDEX": "1",
                    "PIP_FIND_LINKS": str(folder)},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    assert ran
    check = [str(environment / "bin/python"), "-c", "import stripe; assert stripe.WORKS"]
    subprocess.run(check, user=user, group=user, extra_groups=[], check=True, cwd=folder, env={})
    assert user == 10001
