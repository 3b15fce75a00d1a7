"""An app names codec, interceptors and store: every process of the command line uses them."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli import Dev, ask, devs, perdure, until_text

__all__ = ["devs"]
SEALED = Path(__file__).parents[1] / "kafka/apps/sealed.py"
SECRET = "secret-4111"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copy(SEALED, tmp_path / "app.py")
    keys(tmp_path, k1=90)
    (tmp_path / "perdure.toml").write_text('app = "app.py"\n')
    return tmp_path


def keys(place: Path, **known: int) -> None:
    (place / "keys.new").write_text(json.dumps(known))
    (place / "keys.new").rename(place / "keys.json")


def plainly(place: Path, *arguments: str) -> str:
    """The message of a command without an app."""
    done = perdure(place, "--config", os.devnull, "workflow", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def api(dev: Dev) -> Generator[Callable[..., Any]]:
    base = dev.wait_for("api ").split()[1].rstrip(",")

    def call(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{base}{path}", data, {"content-type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    yield call


def test_everything_that_one_process_records_is_encoded_and_its_readers_decode_it(
    place: Path, devs: Callable[..., Dev]
) -> None:
    dev = devs(place, "app.py", "--api-port", "0")
    ask(place, "start", "one", "SealedOrder", SECRET)
    assert ask(place, "result", "one") == f'"charged {SECRET}"\n'
    with api(dev) as call:
        assert call("POST", "/workflows", {"type": "SealedOrder", "id": "two", "args": [SECRET]})["is_new"]
        assert call("GET", "/workflows/two/result")["result"] == f"charged {SECRET}"
        assert call("POST", "/workflows/two/queries/paid_with", {"args": ["by "]})["result"] == f"by {SECRET}"
        assert call("GET", "/workflows/two")["view"] == {"card": SECRET}
        assert SECRET in json.dumps(call("GET", "/workflows/two/history"))
        call("POST", "/workflows", {"type": "SealedOrder", "id": "bad", "args": ["secret-stolen"]})
        failure = call("GET", "/workflows/bad/result")["failure"]
        assert failure["cause"]["message"] == "secret-stolen was declined"
        large = "secret " * 1_000
        call("POST", "/workflows", {"type": "SealedOrder", "id": "large", "args": [large]})
        assert call("GET", "/workflows/large/result")["result"] == f"charged {large}"

    assert SECRET in ask(place, "show", "two")
    assert SECRET in ask(place, "history", "two")
    assert "secret-stolen was declined" in ask(place, "show", "bad")
    for reading in ("show two", "history two", "history two -o json", "show bad", "list"):
        assert "secret" not in plainly(place, *reading.split())
    assert "encoded by file-keys, key k1" in plainly(place, "history", "two")
    assert "of the store of large payloads" in plainly(place, "history", "large")

    assert dev.stop() == 0
    for file in place.glob("perdure.db*"):
        assert b"secret" not in file.read_bytes()
    stored = [file for file in (place / "large").rglob("*") if file.is_file()]
    assert stored
    assert not [file for file in stored if b"secret" in file.read_bytes()]
    attempts = (place / "attempts").read_text().splitlines()
    assert attempts == [f"sealed_charge {each}" for each in ("one", "two", "bad", "large")]


def test_histories_of_an_app_with_a_codec_are_checked(place: Path, devs: Callable[..., Dev]) -> None:
    devs(place, "app.py")
    ask(place, "start", "one", "SealedOrder", SECRET)
    ask(place, "result", "one")
    (place / "histories").mkdir()
    (place / "histories/raw.json").write_text(plainly(place, "history", "one", "-o", "json"))
    (place / "histories/decoded.json").write_text(ask(place, "history", "one", "-o", "json"))
    ask(place, "start", "late", "SealedOrder", SECRET, "--delay", "1 hour")
    for arguments in (("--histories", "histories"), ("--db", "perdure.db"), ("--live", "--db", "perdure.db")):
        done = perdure(place, "check", "app.py", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    (place / "keys.json").write_text('{"k2": 3}')
    done = perdure(place, "check", "app.py", "--histories", "histories")
    assert done.returncode == 1
    assert "does not have the key 'k1' here" in done.stdout


def test_a_key_that_comes_back_continues_the_run_without_a_restart(
    place: Path, devs: Callable[..., Dev]
) -> None:
    dev = devs(place, "app.py", "--no-reload", serves=False)
    dev.wait_for("database ")
    ask(place, "start", "one", "SealedOrder", SECRET, "--delay", "1s")
    keys(place, k2=7)
    until_text(lambda: ask(place, "show", "one"), "does not have the key 'k1' here")
    ask(place, "start", "two", "SealedOrder", "another")
    assert ask(place, "result", "two") == '"charged another"\n'
    keys(place, k1=90, k2=7)
    assert ask(place, "result", "one", "--timeout", "60s") == f'"charged {SECRET}"\n'
    assert dev.stop() == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('codec = "gzip"', "codec='gzip' is no codec"),
        ("interceptors = [1]", "must be a list of perdure.interceptor.Interceptor"),
        ('payloads = "nowhere://x"', "payloads='nowhere://x'"),
    ],
)
def test_an_app_with_conflicting_declarations_does_not_start(tmp_path: Path, line: str, said: str) -> None:
    workflow = "from perdure import workflow\n\n@workflow.defn\nasync def nothing() -> None: ...\n"
    (tmp_path / "app.py").write_text(f"{workflow}\n{line}\n")
    done = perdure(tmp_path, "dev", "app.py", "--no-reload")
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
