"""A database that cannot be used: each process says what to do, nothing hangs, and what was
accepted is there afterwards."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.adapters.sqlite.file import SqliteFile
from perdure.cli import main as perdure
from perdure.client import Client
from perdure.embedded import Platform
from perdure.errors import InfrastructureError
from perdure.registry import Registry


@workflow.defn
async def doubles(number: int) -> int:
    return 2 * number


REGISTRY = Registry.of([doubles], [], [])


class Said:
    """The messages to the operator; wakes those that wait for one."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, message: str, /, **where: str | int) -> None:
        self.messages.append(message)


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def make_text(path: Path) -> None:
    path.write_text("dear diary, " * 1000)


def make_anothers(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id)")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "is damaged.*restore it from a backup"),
        (make_newer, "written by a newer perdure.*upgrade perdure"),
        (make_text, "is not a database; name another file"),
        (make_anothers, "database of another program; name another file"),
        (Path.unlink, "no database.*start `perdure dev"),
        (make_empty, "is empty: if `perdure dev` is starting, try again"),
    ],
)
def test_platform_client_and_command_line_report_an_unusable_file(
    tmp_path: Path, spoil: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.db"
    with Platform(REGISTRY, f"sqlite:///{path}"):
        pass
    spoil(path)

    async def program(ask: Callable[[Client], Coroutine[Any, Any, object]]) -> None:
        async with Client.connect(f"sqlite:///{path}") as client:
            await ask(client)

    asks: list[Callable[[Client], Coroutine[Any, Any, object]]] = [
        lambda client: client.start("w", doubles, 1),
        lambda client: client.state("w"),
        lambda client: client.list(),
    ]
    for ask in asks:
        with pytest.raises(InfrastructureError, match=said):
            asyncio.run(program(ask))
    for arguments in (["list"], ["show", "w"], ["start", "w", "doubles", "1"], ["result", "w"]):
        with pytest.raises(SystemExit, match=r"^1$"):
            perdure(["workflow", *arguments, "--db", str(path)])
        assert re.match(rf"perdure: .*{said}", capsys.readouterr().err)
    if spoil not in (Path.unlink, make_empty):
        with pytest.raises(InfrastructureError, match=said):
            Platform(REGISTRY, f"sqlite:///{path}").start()


def test_a_lock_of_another_process_is_reported_and_no_data_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_settings: dict[str, str] = {}
    monkeypatch.setattr(SqliteFile.__init__, "__defaults__", (0.05, no_settings))
    said = Said()
    path = tmp_path / "app.db"

    async def main(platform: Platform) -> None:
        async with asyncio.timeout(20), platform.client() as client:
            with closing(sqlite3.connect(path, isolation_level=None)) as shell:
                shell.execute("BEGIN IMMEDIATE")
                start = asyncio.create_task(client.start("w", doubles, 21))
                while not said.messages:
                    await asyncio.sleep(0.01)
                assert not start.done()
                shell.execute("ROLLBACK")
            assert await (await start).result() == 42

    with Platform(REGISTRY, f"sqlite:///{path}", report=said) as platform:
        asyncio.run(main(platform))
    assert "locked by another process; end that process" in said.messages[0]
    assert "no data lost, retrying" in said.messages[0]


def test_a_full_disk_is_reported_and_no_data_is_lost(tmp_path: Path) -> None:
    said = Said()

    async def main(platform: Platform, file: SqliteFile) -> None:
        async with asyncio.timeout(20), platform.client() as client:
            assert await client.execute("before", doubles, 1) == 2
            with closing(sqlite3.connect(file.path)) as shell:
                (pages,) = shell.execute("PRAGMA page_count").fetchone()
            file.connection.execute(f"PRAGMA max_page_count = {pages}")  # as if the disk ended here
            start = [
                asyncio.create_task(client.start(f"{number}{'x' * 200}", doubles, number))
                for number in range(200)
            ]
            while not said.messages:
                await asyncio.sleep(0.01)
            file.connection.execute("PRAGMA max_page_count = 1000000")
            for number, handle in enumerate(await asyncio.gather(*start)):
                assert await handle.result() == 2 * number

    platform = Platform(REGISTRY, f"sqlite:///{tmp_path}/app.db", report=said)
    store: Any = platform._adapters.store
    with platform:
        asyncio.run(main(platform, store._file))
    assert "no space left" in said.messages[0]
    assert "no data lost, retrying" in said.messages[0]
