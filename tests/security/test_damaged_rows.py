"""Rows that are damaged, or that another program wrote: each can be shown, and none hides the
others. On a SQLite file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.adapters.sqlite.audit import SqliteAuditTrail
from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.security import Unsecured
from perdure.cli import main
from perdure.cli.lifecycle.api_backends import on_file
from perdure.codec.records import encode_command, encode_event_record, encode_state
from perdure.embedded import Platform
from perdure.model.commands import StartWorkflow
from perdure.model.states import Status, WorkflowState
from perdure.ports.dead_letters import PREVIEW_BYTES, pages
from perdure.registry import Registry
from tests.contract.samples import record

BAD: list[Any] = [
    b"",
    b"\xff",
    b"\x92\xa3Odd\xa2\xff\xfe",
    b"\x91" * 5_000,
    b"\xc1",
    "text",
    "\ud7ff",
    7,
    2.5,
    b"\x81\x80\x80",
]
"""Records: none, garbage, text that is no UTF-8, deep nesting, another type of SQLite's, a key that
has no hash."""
INVALID_TEXT = "CAST(x'ff41ff' AS TEXT)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with Platform(Registry.of([]), f"sqlite:///{path}"):
        pass
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@asynccontextmanager
async def api(path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    backend, trail = on_file(f"sqlite:///{path}", None)
    app = create_app(backend, Unsecured(), AuditLog(trail))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    base = "http://localhost/api/v1"
    async with (
        app._app.router.lifespan_context(app._app),
        httpx.AsyncClient(transport=transport, base_url=base) as http,
    ):
        yield http


def perdure(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--db", str(path)])
    code: object = ended.value.code
    return code if isinstance(code, int) else int(bool(code)), capsys.readouterr().out


def put_letters(connection: sqlite3.Connection) -> int:
    for number, bad in enumerate(BAD):
        connection.execute(
            "INSERT INTO dead_letters VALUES (?, ?, 'why', ?)",
            (number + 1, bad, "yesterday" if number % 2 else 1),
        )
    for position in (-(2**40), -3, 2**40):
        connection.execute(f"INSERT INTO dead_letters VALUES ({position}, x'ff', {INVALID_TEXT}, -9e18)")
    return len(BAD) + 3


def test_every_dead_letter_is_listed_shown_and_dropped_whatever_it_is(
    path: Path, connection: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    count = put_letters(connection)
    code, out = perdure(capsys, path, "dead-letters", "list", "-o", "json")
    listed = json.loads(out)
    assert (code, len(listed)) == (0, count)
    assert perdure(capsys, path, "dead-letters", "list")[0] == 0
    for each in listed:
        assert perdure(capsys, path, "dead-letters", "show", each["id"])[0] == 0

    async def ask() -> None:
        async with api(path) as http:
            found: list[Any] = []
            cursor: str | None = ""
            while cursor is not None:
                answer = await http.get("/dead-letters", params={"limit": 4, "cursor": cursor})
                assert answer.status_code == 200, answer.text
                page = answer.json()
                found, cursor = found + page["dead_letters"], page["next"]
            assert [each["id"] for each in found] == [each["id"] for each in listed]
            for each in found:
                whole = await http.get(f"/dead-letters/{each['id']}")
                assert whole.status_code == 200, whole.text
                assert (await http.post(f"/dead-letters/{each['id']}/retry")).status_code in {200, 422}
            for bad in ("x", "r", "1e3", "99999999999999999999", "-1", "%FF"):
                assert (await http.get(f"/dead-letters?cursor={bad}")).status_code == 422
                assert (await http.get(f"/dead-letters/{bad}")).status_code in {404, 422}

    asyncio.run(ask())
    left = sum(map(len, pages(SqliteDeadLetters(f"sqlite:///{path}"))))
    code, out = perdure(capsys, path, "dead-letters", "drop", "--all", "--yes")
    assert (code, out.count("dropped")) == (0, left)
    assert perdure(capsys, path, "dead-letters", "list") == (0, "no dead letters\n")


def test_a_list_of_letters_has_the_beginning_of_each_and_one_alone_has_all(
    path: Path, connection: sqlite3.Connection
) -> None:
    large = encode_command(StartWorkflow("order-1", type="Order", input=b"x" * 1_000_000))
    connection.executemany(
        "INSERT INTO dead_letters VALUES (?, ?, ?, 1)", [(n, large, "y" * 100_000) for n in range(1, 31)]
    )

    async def ask() -> None:
        async with api(path) as http:
            answer = await http.get("/dead-letters?limit=25")
            assert len(answer.content) < 25 * 8 * PREVIEW_BYTES
            page = answer.json()
            assert len(page["dead_letters"]) == 25
            first = page["dead_letters"][0]
            assert (first["size"], first["is_whole"], first["key"]) == (len(large), False, "b3JkZXItMQ==")
            rest = (await http.get(f"/dead-letters?cursor={page['next']}")).json()
            assert ([each["id"] for each in rest["dead_letters"]], rest["next"]) == (
                [str(n) for n in range(26, 31)],
                None,
            )
            whole = (await http.get("/dead-letters/7")).json()
            assert whole["is_whole"]
            assert len(whole["value"]) > 1_300_000

    asyncio.run(ask())


def test_letters_are_read_while_another_process_holds_the_write_lock(
    path: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("INSERT INTO dead_letters VALUES (1, x'ff', 'no', 1)")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        letters = SqliteDeadLetters(f"sqlite:///{path}")
        assert [each.id for each in letters.page().letters] == ["1"]
        assert [each.id for each in letters.get(["1"])] == ["1"]
        writer.execute("ROLLBACK")


def test_many_letters_are_retried_and_dropped_in_batches(
    path: Path, connection: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    good = encode_command(StartWorkflow("order-1", type="Order", input=b"x" * 200_000))
    rows = [(n, good if n % 5 else b"\xff") for n in range(1, 251)]
    connection.executemany("INSERT INTO dead_letters VALUES (?, ?, 'why', 1)", rows)
    code, out = perdure(capsys, path, "dead-letters", "retry", "--all")
    assert (code, out.count("back in commands")) == (1, 200)
    assert connection.execute("SELECT count(*) FROM commands").fetchone() == (200,)
    assert len(json.loads(perdure(capsys, path, "dead-letters", "list", "-o", "json")[1])) == 50
    assert (
        len(
            json.loads(
                perdure(capsys, path, "dead-letters", "list", "-o", "json", "--limit", "7", "--after", "100")[
                    1
                ]
            )
        )
        == 7
    )


def put_state(
    connection: sqlite3.Connection,
    workflow_id: str,
    encoded: Any,
    status: str = "'running'",
    started_at: int = 1,
) -> None:
    connection.execute(
        f"INSERT INTO workflows VALUES (?, 'Order', {status}, ?, ?, 'run-1', 5, 0, x'')",
        (workflow_id, started_at, encoded),
    )


def test_a_state_that_is_damaged_is_shown_with_why_among_the_others(
    path: Path, connection: sqlite3.Connection
) -> None:
    put_state(
        connection, "good", encode_state(WorkflowState("good", "run-1", "Order", Status.RUNNING, 1, 5, 0, 1))
    )
    for number, bad in enumerate(BAD):
        put_state(connection, f"bad-{number}", bad, INVALID_TEXT if number == 1 else "'running'", number)

    async def ask() -> None:
        async with api(path) as http:
            for sort in ("started_at", "updated_at", "closed_at", "workflow_id"):
                answer = await http.get("/workflows", params={"sort": sort})
                assert answer.status_code == 200, answer.text
                found = {each["id"]: each for each in answer.json()["workflows"]}
                assert len(found) == 1 + len(BAD)
                assert found["good"]["reason"] is None
                assert all(
                    "cannot be read" in each["reason"] for name, each in found.items() if name != "good"
                )
                assert found["bad-0"]["type"] == "Order"
            assert (await http.get("/workflows?status=running")).status_code == 200
            assert (await http.get("/workflows/counts?id_prefix=bad")).status_code == 200
            assert (await http.get("/workflows/bad-2")).json()["status"] == "running"
            assert (await http.get("/workflows/bad-2/describe")).status_code == 200

    asyncio.run(ask())


def test_a_record_of_a_history_that_is_damaged_is_shown_as_one_in_its_place(
    path: Path, connection: sqlite3.Connection
) -> None:
    put_state(connection, "w", encode_state(WorkflowState("w", "run-1", "Order", Status.RUNNING, 1, 5, 0, 6)))
    for first in (1, 3, 5):
        encoded: Any = encode_event_record(record("run-1", first)) if first != 3 else b"\x98\xa1w\xff"
        connection.execute("INSERT INTO events VALUES ('run-1', ?, ?)", (first, encoded))

    async def ask() -> None:
        async with api(path) as http:
            answer = await http.get("/workflows/w/history")
            assert answer.status_code == 200, answer.text
            found = [(each["event_id"], each["type"]) for each in answer.json()["events"]]
            assert [each for each in found if each[1] == "Unreadable"] == [(3, "Unreadable")]
            assert [event_id for event_id, _ in found] == [1, 2, 3, 5, 6]

    asyncio.run(ask())


def test_an_entry_of_the_audit_trail_that_is_damaged_is_shown_as_one(
    path: Path, connection: sqlite3.Connection
) -> None:
    SqliteAuditTrail(path).entries(1)
    for bad in (b"{", "text", b"[]", b"[" * 100_000, 5):
        connection.execute("INSERT INTO audit (at, record) VALUES (1, ?)", (bad,))

    async def ask() -> None:
        async with api(path) as http:
            answer = await http.get("/audit")
            assert answer.status_code == 200, answer.text
            assert [each["action"] for each in answer.json()["entries"]] == ["unreadable"] * 5

    asyncio.run(ask())
