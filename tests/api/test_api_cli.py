"""`perdure api` does not start where it would admit unauthenticated callers."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.api.auth.key_file import create_key
from perdure.api.roles import Role
from perdure.cli.app import app
from perdure.errors import UsageError


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    create_key(path, "ada", Role.ADMIN, ["*"])
    return path


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "no authentication is configured"),
        (["--host", "0.0.0.0"], "no authentication is configured"),
        (["--insecure", "--host", "0.0.0.0"], "for loopback only"),
        (["--insecure", "--host", "::"], "for loopback only"),
        (["--insecure", "--host", "shop.example"], "for loopback only"),
        (["--insecure", "--keys", "KEYS"], "omit it"),
        (["--insecure", "--oidc-issuer", "https://login.shop.example"], "omit it"),
        (["--keys", "KEYS.none"], "cannot be read"),
        (["--oidc-issuer", "http://login.shop.example"], "cannot be trusted"),
        (
            ["--oidc-issuer", "https://login.shop.example", "--oidc-jwks", "http://login.shop.example/keys"],
            "cannot be trusted",
        ),
    ],
)
def test_the_api_does_not_start_without_a_choice_of_authentication(
    keys: Path, tmp_path: Path, options: list[str], why: str
) -> None:
    given = [each.replace("KEYS", str(keys)) for each in options]
    done = CliRunner().invoke(app, ["api", "--db", str(tmp_path / "app.db"), "--port", "0", *given])
    assert isinstance(done.exception, UsageError)
    assert why in str(done.exception)
    assert "serving" not in done.stdout
