"""`perdure api-keys`: a key is shown once; the list has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from perdure.api.auth.api_keys import ApiKeys
from perdure.api.roles import Role
from perdure.cli.app import app
from perdure.errors import UsageError
from tests.api.identity import Reports


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["api-keys", *arguments, "--keys", str(path)])


def test_a_new_key_is_accepted_and_listed_without_its_secret_until_it_is_revoked(path: Path) -> None:
    made = run(path, "create", "checkout", "--role", "operator", "--namespace", "shop", "--namespace", "test")
    key = made.stdout.strip()
    principal = ApiKeys(path, Reports()).verify(key)
    assert (principal.role, principal.namespaces) == (Role.OPERATOR, ("shop", "test"))
    assert "not shown again" in made.stderr
    listed = run(path, "list").stdout
    assert all(said in listed for said in ("checkout", "operator", "shop, test"))
    assert key.split("_", 2)[2] not in listed
    assert "revoked" in run(path, "revoke", key.split("_")[1]).stdout
    assert run(path, "list").stdout == "no keys\n"


def test_programs_get_json(path: Path) -> None:
    made = json.loads(
        run(path, "create", "ci", "--namespace", "*", "--expires", "90 days", "-o", "json").stdout
    )
    assert ApiKeys(path, Reports()).verify(made.pop("key")).role is Role.READER
    assert json.loads(run(path, "list", "-o", "json").stdout) == [made]
    assert made["expires"] > made["created"]


def test_a_key_without_a_namespace_or_with_an_invalid_expiry_is_refused(path: Path) -> None:
    assert run(path, "create", "ci").exit_code == 2
    assert isinstance(
        run(path, "create", "ci", "--namespace", "*", "--expires", "10000000 days").exception, UsageError
    )
    assert not path.exists()
