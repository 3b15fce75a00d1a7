"""The file of a `perdure dev` copied while orders are in flight, lost, and restored elsewhere: the
orders continue, and no charge is applied twice."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from perdure.client import Client
from tests.e2e.apps.ledger_orders import LedgerOrder
from tests.e2e.conftest import until
from tests.e2e.test_kill_dev import Dev, check_history, confirm, patiently

ORDERS = 60


def charges(ledger: Path) -> int:
    return ledger.read_text().count("charge ") if ledger.exists() else 0


@pytest.mark.timeout(150)
def test_orders_continue_from_a_backup_made_while_they_ran(tmp_path: Path) -> None:
    first, second, ledger = tmp_path / "first", tmp_path / "second", tmp_path / "ledger"
    first.mkdir()
    second.mkdir()
    for folder in (first, second):  # the services outside outlive the machine
        (folder / "ledger").symlink_to(ledger)
    ledger.touch()
    dev = Dev(first)
    dev.start()
    until((first / "app.db").exists, "the database is made")

    async def before() -> None:
        async with Client.connect(f"sqlite:///{first}/app.db") as client:
            attached = client.options(if_running="attach", if_closed="refuse")
            for number in range(ORDERS):
                name = f"order-{number}"
                await patiently(
                    lambda name=name, number=number: attached.start(name, LedgerOrder.process, number)
                )
                if number % 3 == 0:
                    await confirm(client, name)
                if number == ORDERS - 1:
                    back_up(first / "app.db", second / "app.db")
            for number in range(1, ORDERS, 3):
                await confirm(client, f"order-{number}")
            while charges(ledger) < ORDERS:
                await asyncio.sleep(0.02)

    async def after() -> dict[int, str]:
        async with Client.connect(f"sqlite:///{second}/app.db") as client:
            keys: dict[int, str] = {}
            for number in range(ORDERS):
                await confirm(client, f"order-{number}")
            for number in range(ORDERS):
                handle = client.get(f"order-{number}", LedgerOrder.process)
                key = await patiently(handle.result)
                assert isinstance(key, str)
                keys[number] = key
                check_history(await client.history(f"order-{number}"))
            return keys

    try:
        asyncio.run(before())
    finally:
        dev.kill()
    for file in first.glob("app.db*"):
        file.unlink()
    assert [each.name for each in second.glob("app.db*")] == ["app.db"], "a copy is one file"
    restored = Dev(second)
    restored.start()
    try:
        keys = asyncio.run(after())
    finally:
        restored.kill(signal.SIGTERM)
    applied: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in ledger.read_text().splitlines():
        what, order, key, _ = line.split()
        applied[what, order].add(key)
    assert {number: applied["charge", f"order-{number}"] for number in range(ORDERS)} == {
        n: {key} for n, key in keys.items()
    }
    assert [len(applied["send", f"order-{number}"]) for number in range(ORDERS)] == [1] * ORDERS


def back_up(file: Path, copy: Path) -> None:
    """As docs/howto/backup-and-restore.md says."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
