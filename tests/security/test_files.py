"""Files that hold what callers handed over, or say who may come in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.refusals import Unauthenticated
from perdure.api.roles import Role
from perdure.embedded import Platform
from perdure.engine.operator_log import Report
from perdure.registry import Registry
from tests.api.served import Parcel, weigh


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _reports(said: list[str]) -> Report:
    def report(message: str, /, **where: str | int) -> None:
        said.append(message)

    return report


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read_a_database_and_the_files_beside_it(tmp_path: Path) -> None:
    with Platform(Registry.of([Parcel], [weigh]), f"sqlite:///{tmp_path}/app.db"):
        found = {path.name: oct(_mode(path)) for path in tmp_path.iterdir()}
    assert {"app.db", "app.db-wal", "app.db-shm", "app.db-owner"} <= set(found)
    assert set(found.values()) == {"0o600"}, found


def test_the_permissions_of_an_existing_database_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with Platform(Registry.of([Parcel], [weigh]), f"sqlite:///{path}"):
        pass
    path.chmod(0o640)
    with Platform(Registry.of([Parcel], [weigh]), f"sqlite:///{path}"):
        assert _mode(path) == 0o640


def test_only_the_owner_may_read_the_store_of_an_engine_on_kafka(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    from perdure.adapters.rocksdb.directory import Directory

    made = Directory(tmp_path / "state", "shop", lambda _: None, lambda: 0, 1 << 20)
    made._claim()
    assert _mode(tmp_path / "state") == 0o700


def test_when_the_file_of_keys_is_gone_no_key_is_valid_until_it_is_back(tmp_path: Path) -> None:
    path, said = tmp_path / "keys.toml", list[str]()
    key, _ = create_key(path, "one", Role.READER, ["shop"])
    keys = ApiKeys(path, _reports(said))
    assert keys.verify(key).role is Role.READER
    path.rename(tmp_path / "elsewhere")
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            keys.verify(key)
    assert len(said) == 1
    assert str(path) in said[0]
    assert key not in said[0]
    (tmp_path / "elsewhere").rename(path)
    assert keys.verify(key).role is Role.READER


def test_when_the_file_of_keys_becomes_something_else_no_key_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key, _ = create_key(path, "one", Role.READER, ["shop"])
    keys = ApiKeys(path, _reports([]))
    path.unlink()
    path.mkdir()
    with pytest.raises(Unauthenticated):
        keys.verify(key)


def test_only_the_owner_may_read_a_backup_that_is_made_as_the_how_to_says(tmp_path: Path) -> None:
    with Platform(Registry.of([Parcel], [weigh]), f"sqlite:///{tmp_path}/shop.db"):
        document = (Path(__file__).parents[2] / "docs/howto/backup-and-restore.md").read_text()
        (command,) = [
            line for line in document.splitlines() if line.startswith("(umask") and "VACUUM" in line
        ]
        command = command.replace("python ", f"{sys.executable} ")
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
    assert oct(_mode(tmp_path / "backup.db")) == "0o600"
