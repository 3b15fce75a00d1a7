"""constraints.txt has a pin with hashes for everything that an extra needs, directly or not."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from deploy.dependencies.licences import SHIPPED, licence_of
from deploy.dependencies.pins import BUILD, closure, direct, normal, read
from packaging.requirements import Requirement

from tests.pythons import EXTRAS

HOUSE = Path(__file__).parents[2]
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
PINS = read()
LICENCES = (HOUSE / "docs" / "licences.md").read_text()
OPTIONAL = sorted(PROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize("extra", OPTIONAL)
def test_every_requirement_is_pinned_at_a_version_that_it_allows(extra: str) -> None:
    lines = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"][extra]]
    wanted = [each for each in map(Requirement, lines) if normal(each.name) != "perdure"]
    assert not [each for each in wanted if not each.specifier.contains(PINS[normal(each.name)].version)]
    assert {normal(each.name) for each in wanted} <= direct({extra})


@pytest.mark.parametrize("extra", sorted({"", *EXTRAS, "dev"}))
def test_the_pins_of_an_extra_are_all_that_its_packages_require(extra: str) -> None:
    """By the metadata of what is installed here: pip refuses an installation with hashes when one
    package is missing."""
    found = closure(direct(set(filter(None, [extra]))), PINS)
    missing = {
        f"{name} needs {wanted.name}"
        for name in found
        if PINS[name].version == _installed_version(name)
        for wanted in map(Requirement, metadata.requires(name) or ())
        if (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))
        and normal(wanted.name) not in found
    }
    assert not missing


def test_an_extra_of_our_own_brings_what_it_names() -> None:
    assert direct({"test"}) <= direct({"dev"})
    assert "perdure" not in direct({"dev"})


def test_what_runs_in_production_does_not_need_the_tools_of_developers() -> None:
    shipped = closure(direct({"api", "http", "kafka", "otel", "postgres"}), PINS)
    assert not shipped & {"pytest", "ruff", "mypy", "hatchling", "dbos"}


def test_the_build_backend_is_pinned_too() -> None:
    required = {normal(Requirement(line).name) for line in PROJECT["build-system"]["requires"]}
    assert required <= set(BUILD) <= PINS.keys()


def test_the_command_prints_requirements_with_their_hashes_for_the_extras_that_are_named() -> None:
    said = _pins("kafka")
    assert said.returncode == 0
    assert "confluent-kafka==" in said.stdout
    assert "--hash=sha256:" in said.stdout
    assert "psycopg==" not in said.stdout


def test_an_extra_that_does_not_exist_is_refused_by_name() -> None:
    said = _pins("kafka", "kafkaa")
    assert said.returncode == 1
    assert "there is no extra kafkaa" in said.stderr


def test_the_list_of_licences_agrees_with_the_pins() -> None:
    """A new or another version may have another licence: `make licences`, and read what has
    changed."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in LICENCES.splitlines()
        if line.startswith("| ")
    ][1:]
    listed = {name: version for name, version, _, _ in rows}
    shipped = {
        name
        for name in closure(direct(set(SHIPPED)), PINS)
        if "sys_platform == 'win32'" not in PINS[name].text
    }
    assert listed == {name: PINS[name].version for name in shipped}
    assert not [name for name, _, licence, _ in rows if licence in {"", "unknown", "UNKNOWN"}]
    assert not [name for name, _, licence, _ in rows if re.search(r"(?<!L)GPL", licence)], (
        "Apache-2.0 does not go with it"
    )
    others = [
        name
        for name, version, licence, _ in rows
        if _installed_version(name) == version and licence_of(name) != licence
    ]
    assert not others, "metadata say something else"


def _pins(*extras: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "deploy/dependencies/pins.py", *extras]
    return subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def test_the_readme_names_every_extra_that_a_user_may_install() -> None:
    named = (HOUSE / "README.md").read_text().partition("The extras are ")[2].partition(". Once")[0]
    ours = {"bench", "dev", "examples", "test"}
    assert set(re.findall(r"`(\w+)`", named)) == set(OPTIONAL) - ours
