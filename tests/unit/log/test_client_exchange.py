"""What a client writes into the file of another process: synced when nobody awaits an answer that
would prove it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.sqlite import client_exchange as module
from perdure.adapters.sqlite.client_exchange import FileExchange
from perdure.adapters.sqlite.file import SqliteFile, connect
from perdure.codec.records import decode_command
from perdure.model.commands import AnyCommand, SignalWorkflow

AWAITED = SignalWorkflow("w", "", "r", "udp:1:me", name="a")
HANDED_OVER = SignalWorkflow("w", name="b")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    file = SqliteFile(tmp_path / "app.db")
    file.open()
    yield tmp_path / "app.db"
    file.close()


@pytest.mark.parametrize(
    ("commands", "synced"),
    [
        ([AWAITED], "NORMAL"),
        ([HANDED_OVER], "FULL"),
        ([AWAITED, HANDED_OVER], "FULL"),
        ([HANDED_OVER, AWAITED], "FULL"),
    ],
)
def test_a_command_without_a_waiter_is_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[AnyCommand], synced: str
) -> None:
    statements: list[str] = []
    may_write = threading.Event()

    def traced(path: Path, busy_s: float, *, mode: str) -> sqlite3.Connection:
        may_write.wait(20)
        connection = connect(path, busy_s, mode=mode)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(module, "connect", traced)
    made = FileExchange(path, 5.0, lambda _: None, lambda _: None)
    made.send(commands)
    may_write.set()
    made.close()
    assert [each for each in statements if "synchronous" in each] == [f"PRAGMA synchronous = {synced}"]
    assert made.fault is None
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT record FROM commands ORDER BY position").fetchall()
    connection.close()
    assert [decode_command(row[0]) for row in rows] == commands, "in one transaction, in order"
