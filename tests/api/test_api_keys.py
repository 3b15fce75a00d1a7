"""API keys: made, found, revoked, and what a file of them must be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key, hash_of, read_keys, revoke_key
from perdure.api.auth.principal import Principal
from perdure.api.auth.refusals import Unauthenticated
from perdure.api.roles import Role
from perdure.errors import UsageError
from tests.api.identity import Reports


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_key_gives_name_and_role_and_is_not_stored_in_the_file(path: Path) -> None:
    key, stored = create_key(path, "checkout", Role.OPERATOR, ["shop"])
    assert ApiKeys(path, Reports()).verify(key) == Principal(
        f"key:{stored.id} checkout", Role.OPERATOR, ("shop",)
    )
    secret = key.split("_", 2)[2]
    assert len(secret) >= 40
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_read_whatever_the_name_holds(path: Path) -> None:
    expires = datetime(2099, 1, 31, tzinfo=UTC)
    made = [
        create_key(path, name, Role.READER, ["a", "*"], expires)[1]
        for name in ('"\\x', "günther 🍕", "]]#'''")
    ]
    assert list(read_keys(path)) == made


def test_an_unknown_key_is_refused(path: Path) -> None:
    key, _ = create_key(path, "checkout", Role.OPERATOR, ["shop"])
    keys = ApiKeys(path, Reports())
    for other in (key[:-1], key + "x", key.upper(), "perdure_", "perdure__", "perdure_\ud800"):
        with pytest.raises(Unauthenticated):
            keys.verify(other)


def test_the_secret_of_one_key_does_not_open_another(path: Path) -> None:
    one, _ = create_key(path, "reader", Role.READER, ["shop"])
    _, two = create_key(path, "admin", Role.ADMIN, ["shop"])
    with pytest.raises(Unauthenticated):
        ApiKeys(path, Reports()).verify(f"perdure_{two.id}_{one.split('_', 2)[2]}")


def test_a_key_ends_when_it_expires(path: Path) -> None:
    time = [datetime.now(UTC)]
    key, _ = create_key(path, "checkout", Role.OPERATOR, ["shop"], time[0] + timedelta(days=1))
    keys = ApiKeys(path, Reports(), now=lambda: time[0])
    assert keys.verify(key).namespaces == ("shop",)
    time[0] += timedelta(days=1)
    with pytest.raises(Unauthenticated):
        keys.verify(key)


def test_a_revoked_key_ends_and_a_new_one_begins_without_a_restart(path: Path) -> None:
    one, stored = create_key(path, "one", Role.READER, ["shop"])
    keys = ApiKeys(path, Reports())
    assert revoke_key(path, stored.id) == stored
    with pytest.raises(Unauthenticated):
        keys.verify(one)
    two, _ = create_key(path, "two", Role.READER, ["shop"])
    assert keys.verify(two).role is Role.READER


def test_a_key_file_that_becomes_invalid_is_reported_and_the_old_keys_stay_valid(path: Path) -> None:
    key, _ = create_key(path, "one", Role.READER, ["shop"])
    reports = Reports()
    keys = ApiKeys(path, reports)
    path.write_text("[[keys]\n")
    assert keys.verify(key).namespaces == ("shop",)
    assert keys.verify(key).namespaces == ("shop",)
    assert len(reports.said) == 1


@pytest.mark.parametrize(
    "text",
    [
        "keys = 7",
        "key = []",
        '[[keys]]\nid = "a"',
        f'[[keys]]\nid="a"\nname="b"\nrole="root"\nnamespaces=["*"]\nhash="{hash_of("x")}"\ncreated=2027-01-01T00:00:00Z',
        '[[keys]]\nid="a"\nname="b"\nrole="reader"\nnamespaces=["*"]\nhash="plain"\ncreated=2027-01-01T00:00:00Z',
        f'[[keys]]\nid="a"\nname="b"\nrole="reader"\nnamespaces=["*"]\nhash="{hash_of("x")}"\ncreated=2027-01-01T00:00:00',
        f'[[keys]]\nid="a"\nname="b"\nrole="reader"\nnamespaces=["*"]\nhash="{hash_of("x")}"\ncreated=2027-01-01T00:00:00Z\nscope="all"',
    ],
)
def test_an_invalid_key_file_is_refused_at_the_start(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match="not a file of API keys"):
        ApiKeys(path, Reports())


def test_two_keys_with_one_id_are_refused(path: Path) -> None:
    create_key(path, "one", Role.READER, ["shop"])
    path.write_text(path.read_text() * 2)
    with pytest.raises(UsageError, match="two keys"):
        read_keys(path)


def test_a_world_writable_file_is_refused(path: Path) -> None:
    create_key(path, "one", Role.READER, ["shop"])
    path.chmod(0o666)
    with pytest.raises(UsageError, match="chmod 600"):
        ApiKeys(path, Reports())


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
def test_a_name_is_for_people(path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="printable"):
        create_key(path, name, Role.READER, ["shop"])
    assert not path.exists()


def test_a_key_for_no_namespace_or_for_no_time_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="name the namespaces"):
        create_key(path, "one", Role.READER, [])
    with pytest.raises(UsageError, match="in the past"):
        create_key(path, "one", Role.READER, ["*"], datetime(2020, 1, 1, tzinfo=UTC))


def test_to_revoke_what_is_not_there_changes_nothing(path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        revoke_key(path, "abc")
    create_key(path, "one", Role.READER, ["shop"])
    with pytest.raises(UsageError, match="has no key"):
        revoke_key(path, "abc")
    assert len(read_keys(path)) == 1


def test_concurrently_created_keys_are_all_stored(path: Path) -> None:
    with ThreadPool(8) as pool:
        made = pool.map(lambda number: create_key(path, f"key {number}", Role.READER, ["*"])[1], range(40))
    assert {key.id for key in read_keys(path)} == {key.id for key in made}
