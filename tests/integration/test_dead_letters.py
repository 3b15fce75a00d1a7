"""`perdure dead-letters` on a SQLite file, beside a platform that runs it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time_ns

import pytest

from perdure import workflow
from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters
from perdure.adapters.sqlite.published import publish_record
from perdure.adapters.sqlite.schema import FORMAT, SCHEMA
from perdure.cli import main
from perdure.client import Client
from perdure.codec.records import encode_command
from perdure.embedded import Platform
from perdure.model.commands import StartWorkflow
from perdure.registry import Registry

WITHIN_S = 20.0


@workflow.defn
async def shouted(name: str) -> str:
    return f"{name}!"


@workflow.defn
class Parcel:
    def __init__(self) -> None:
        self.place = ""

    @workflow.run
    async def carry(self) -> str:
        await workflow.wait_until(lambda: self.place)
        return self.place

    @workflow.trigger("seen", str, id=lambda place: place.partition("@")[0])
    @workflow.signal
    def seen(self, place: str) -> None:
        self.place = place


Perdure = Callable[..., tuple[int, str, str]]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def platform(db: Path) -> Iterator[Platform]:
    with Platform(Registry.of([shouted, Parcel]), f"sqlite:///{db}") as platform:
        yield platform


@pytest.fixture
def perdure(db: Path, capsys: pytest.CaptureFixture[str]) -> Perdure:
    """Runs a command; its exit code, what it printed, and what it complained about."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["dead-letters", *arguments, "--db", str(db)])
        said = capsys.readouterr()
        code = ended.value.code
        return (
            (code, said.out, said.err)
            if isinstance(code, int)
            else (1, said.out, f"{said.err}{code}")
            if code
            else (0, said.out, said.err)
        )

    return run


def put(db: Path, *records: bytes) -> None:
    """As a client in another process does."""
    with sqlite3.connect(db, timeout=WITHIN_S) as connection:
        connection.executemany("INSERT INTO commands (record) VALUES (?)", [(record,) for record in records])
    connection.close()


def count(db: Path, table: str) -> int:
    connection = sqlite3.connect(db, timeout=WITHIN_S)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def until(is_so: Callable[[], bool]) -> None:
    limit = monotonic() + WITHIN_S
    while not is_so():
        assert monotonic() < limit


def set_aside(db: Path, position: int, record: bytes, reason: str = "ValueError: not yet") -> None:
    with sqlite3.connect(db, timeout=WITHIN_S) as connection:
        connection.execute(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?)", (position, record, reason, time_ns() // 1_000)
        )
    connection.close()


def test_each_is_given_once_page_by_page(platform: Platform, db: Path) -> None:
    put(db, b"\xff 1", b"\xff 2", b"\xff 3")
    until(lambda: count(db, "dead_letters") == 3)
    letters = SqliteDeadLetters(f"sqlite:///{db}")
    found: list[str] = []
    after = ""
    for _ in range(3):
        page = letters.page(1, after)
        found += [each.id for each in page.letters]
        after = page.next
    assert (found, after) == (["1", "2", "3"], "")


def test_what_cannot_be_read_is_listed_with_why_and_from_where(
    platform: Platform, db: Path, perdure: Perdure, caplog: pytest.LogCaptureFixture
) -> None:
    put(db, b"\xff garbage", b"\x93\xa7Unknown\xa7order-1\xa0")
    until(lambda: count(db, "dead_letters") == 2)
    assert "command 1 cannot be read: " in caplog.text
    assert "(undecodable)" in caplog.text
    code, out, _ = perdure("list", "-o", "json")
    assert code == 0
    first, second = json.loads(out)
    assert [first["id"], second["id"]] == ["1", "2"]
    assert first["topic"] == "commands"
    assert first["reason"] == "undecodable"
    assert first["message"]
    assert first["key"] is None
    assert second["key"] == "b3JkZXItMQ=="  # order-1
    assert first["found_at"] is not None
    _, out, _ = perdure("list")
    assert "order-1" in out
    assert re.search(r"order-1 +\d+s ", out), "how long ago it was found"
    code, out, _ = perdure("show", "1")
    assert code == 0
    assert "garbage" in out
    assert "it still cannot be read" in out


def test_without_any_list_says_so(platform: Platform, perdure: Perdure) -> None:
    assert perdure("list") == (0, "no dead letters\n", "")


def test_a_retried_command_acts_and_is_not_listed_any_more(
    platform: Platform, db: Path, perdure: Perdure
) -> None:
    set_aside(db, 70, encode_command(StartWorkflow("late", type="shouted", input=b'["Ada"]')))
    assert perdure("retry", "70") == (0, "70: back in commands\n", "")
    assert perdure("list") == (0, "no dead letters\n", "")

    async def result() -> object:
        async with Client.connect(f"sqlite:///{db}") as client:
            handle = client.get_by_name("late")
            limit = monotonic() + WITHIN_S
            while not [state for state in await client.list() if state.workflow_id == "late"]:
                assert monotonic() < limit
            return await handle.result()

    assert asyncio.run(result()) == "Ada!"


def test_what_still_cannot_be_read_stays_and_the_others_are_retried(
    platform: Platform, db: Path, perdure: Perdure
) -> None:
    set_aside(db, 70, b"\xff")
    set_aside(db, 71, encode_command(StartWorkflow("late", type="shouted", input=b'["Ada"]')))
    code, out, error = perdure("retry", "--all")
    assert code == 1
    assert out == "71: back in commands\n"
    assert error.startswith("70: it still cannot be read (")
    assert [each["id"] for each in json.loads(perdure("list", "-o", "json")[1])] == ["70"]


def test_a_drop_needs_a_yes(platform: Platform, db: Path, perdure: Perdure) -> None:
    set_aside(db, 70, b"\xff")
    code, _, error = perdure("drop", "70")
    assert code == 2
    assert "--yes" in error
    assert count(db, "dead_letters") == 1
    assert perdure("drop", "70", "--yes") == (0, "70: dropped\n", "")
    assert count(db, "dead_letters") == 0
    assert count(db, "commands") == 0


def test_a_missing_letter_is_refused_and_nothing_is_changed(
    platform: Platform, db: Path, perdure: Perdure
) -> None:
    set_aside(db, 70, b"\xff")
    code, _, error = perdure("drop", "70", "99", "--yes")
    assert code == 1
    assert "no open dead letter 99" in error
    assert count(db, "dead_letters") == 1


@pytest.mark.parametrize("arguments", [("retry",), ("retry", "1", "--all"), ("drop", "--yes")])
def test_which_ones_must_be_said_and_once(
    platform: Platform, perdure: Perdure, arguments: tuple[str, ...]
) -> None:
    assert perdure(*arguments)[0] == 2


def test_a_file_of_the_first_format_can_be_read_and_is_upgraded_by_its_engine(
    db: Path, perdure: Perdure
) -> None:
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("ALTER TABLE dead_letters DROP COLUMN found_at")
    for table in ("records", "closed"):
        connection.execute(f"DROP TABLE {table}")
    for column in ("run_id", "updated_at", "closed_at", "view"):
        connection.execute(f"ALTER TABLE workflows DROP COLUMN {column}")
    connection.execute("INSERT INTO dead_letters VALUES (0, x'ff', 'ValueError: no')")
    connection.execute("PRAGMA application_id = 0x50455244")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    (before,) = json.loads(perdure("list", "-o", "json")[1])
    assert before["found_at"] is None
    with Platform(Registry.of([shouted, Parcel]), f"sqlite:///{db}"):
        put(db, b"\xfe")
        until(lambda: count(db, "dead_letters") == 2)
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    connection.close()
    assert [each["found_at"] is None for each in json.loads(perdure("list", "-o", "json")[1])] == [
        True,
        False,
    ]


def test_a_record_whose_signal_was_refused_is_kept_and_delivered_when_it_is_retried(
    platform: Platform, db: Path, perdure: Perdure
) -> None:
    publish_record(f"sqlite:///{db}", "seen", b"key", b'"p-1@sea"', [])
    deadline = monotonic() + WITHIN_S
    while not (found := json.loads(perdure("list", "-o", "json")[1])):
        assert monotonic() < deadline
    (letter,) = found
    assert (letter["topic"], letter["offset"], letter["key"]) == ("seen", 1, "a2V5")
    assert perdure("retry", letter["id"]) == (
        1,
        "",
        f"r1: a dead letter again: {letter['message']}\n0 retried, 1 failed\n",
    )
    assert "was refused: workflow 'p-1' is not running" in letter["message"]

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), platform.client() as client:
            parcel = await client.start("p-1", Parcel.carry)
            assert perdure("retry", letter["id"])[0] == 0
            assert await parcel.result() == "p-1@sea"

    asyncio.run(main())
    assert json.loads(perdure("list", "-o", "json")[1]) == []


def test_a_retry_says_how_many_went_and_which_are_dead_letters_again(
    platform: Platform, db: Path, perdure: Perdure
) -> None:
    publish_record(f"sqlite:///{db}", "seen", None, b"{", [])
    set_aside(db, 70, b"\xff")
    set_aside(db, 71, encode_command(StartWorkflow("late", type="shouted", input=b'["Ada"]')))
    set_aside(db, 72, encode_command(StartWorkflow("late", type="no such type", reply_to="udp:9:gone")))
    until(lambda: count(db, "dead_letters") == 4)
    code, out, error = perdure("retry", "--all")
    assert (code, out) == (1, "71: back in commands\n")
    lines = [line for line in error.splitlines() if not line.startswith("perdure: ")]
    assert lines[0].startswith("70: it still cannot be read (")
    assert lines[1].startswith("r1: a dead letter again: seen, record 1: ")
    assert lines[2].startswith("72: a dead letter again: unknown workflow type 'no such type'")
    assert lines[3] == "1 retried, 3 failed"


def test_a_retry_while_no_engine_runs_says_that_no_record_was_processed(db: Path, perdure: Perdure) -> None:
    with Platform(Registry.of([shouted, Parcel]), f"sqlite:///{db}"):
        pass
    set_aside(db, 71, encode_command(StartWorkflow("late", type="shouted", input=b'["Ada"]')))
    assert perdure("retry", "71") == (0, "71: back in commands, not taken yet\n", "")


STORED = """
import asyncio, sys
from perdure.client import Client

async def main():
    async with Client.connect(sys.argv[1]) as client:
        asyncio.get_running_loop().create_task(client.get_by_name("p-1").signal_by_name("seen", "sea"))
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_change_that_a_client_stored_before_it_was_killed_and_that_is_refused_is_a_dead_letter(
    db: Path, perdure: Perdure
) -> None:
    with Platform(Registry.of([shouted, Parcel]), f"sqlite:///{db}"):
        pass
    client = subprocess.Popen([sys.executable, "-c", STORED, f"sqlite:///{db}"])
    try:
        until(lambda: count(db, "commands") == 1)
    finally:
        client.kill()
        client.wait()
    with Platform(Registry.of([shouted, Parcel]), f"sqlite:///{db}"):
        until(lambda: count(db, "dead_letters") == 1)
    (letter,) = json.loads(perdure("list", "-o", "json")[1])
    assert (letter["reason"], letter["key"]) == ("refused", "cC0x")  # p-1
    assert "workflow 'p-1' is not running" in letter["message"]
