"""The data that other programs see in a SQLite file with its own tools: SQL views, one per workflow
type."""

from __future__ import annotations

import sqlite3
import typing
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import json
from msgspec.structs import replace

from perdure import workflow
from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.file import SqliteFile
from perdure.adapters.sqlite.log import SqliteLog
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.adapters.sqlite.schema import FORMAT
from perdure.codec.columns import Shape, shape_of
from perdure.embedded import Platform
from perdure.model.states import Status
from perdure.registry import Registry
from tests.contract.samples import state, states

HOSTILE = 'it\'s \\ "x" {s} %s; DROP TABLE workflows; --'


class Colour(Enum):
    RED = "red"


@dataclass
class Look:
    colour: Colour
    status: str
    is_gift: bool
    lines: list[str]
    weight: float | None = None


@workflow.defn
class Painted:
    @workflow.run
    async def run(self) -> None: ...

    @workflow.view
    def look(self) -> Look:
        return Look(Colour.RED, "new", True, ["a"])


def select(path: Path, text: str) -> list[Any]:
    """Connect like another program."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def write(path: Path, shapes: Mapping[str, Shape], **views: bytes) -> None:
    file = SqliteFile(path, shapes=shapes)
    log = SqliteLog(file, Channel())
    log.open()
    log.commit(states(*(replace(state(name), view=view) for name, view in views.items())))
    log.close()


def test_what_runs_is_seen_in_the_view_of_its_type(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with Platform(Registry.of([Painted], []), f"sqlite:///{path}") as platform:
        import asyncio

        async def live() -> None:
            async with platform.client() as client:
                await client.execute("p", Painted.run)

        asyncio.run(live())
        found = select(
            path, "SELECT workflow_id, status, colour, view_status, is_gift, lines, weight FROM wf_painted"
        )
        times = select(
            path,
            "SELECT started_at <= updated_at, updated_at = closed_at, closed_at GLOB '20*T*Z' FROM "
            "wf_painted",
        )
    assert found == [("p", "completed", "red", "new", 1, '["a"]', None)]
    assert times == [(1, 1, 1)]


def test_a_state_that_changes_is_changed_in_its_columns(tmp_path: Path) -> None:
    path, shapes = tmp_path / "app.db", {"Order": shape_of(int)}
    file = SqliteFile(path, shapes=shapes)
    log = SqliteLog(file, Channel())
    log.open()
    for number, status in enumerate((Status.RUNNING, Status.RUNNING, Status.SUSPENDED, Status.COMPLETED), 1):
        closed = number if status.is_closed else 0
        log.commit(
            states(
                replace(state("w"), status=status, updated_at=number, closed_at=closed, view=b"%d" % number),
                at=number,
            )
        )
        shown = select(
            path, "SELECT view, status, substr(updated_at, -7), substr(closed_at, -7) FROM wf_order"
        )
        assert shown == [(number, str(status), f"00000{number}Z", f"00000{number}Z" if closed else None)]
    log.close()


def test_one_row_that_does_not_fit_takes_no_view_away(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    write(
        path,
        {"Order": shape_of(Look)},
        w=b'{"colour":"red"}',
        none=b"",
        closed=b"\0aes\0x",
        array=b"[1]",
        odd=b'"x"',
        cut=b'{"colour',
    )
    assert select(path, "SELECT workflow_id, colour FROM wf_order WHERE colour IS NOT NULL") == [("w", "red")]
    assert select(path, "SELECT count(*) FROM wf_order") == [(6,)]


def test_a_view_follows_its_annotation(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    write(path, {"Order": shape_of(make_dataclass("One", [("a", int)]))}, w=b'{"a":1,"b":2}')
    assert select(path, "SELECT a FROM wf_order") == [(1,)]
    write(path, {"Order": shape_of(make_dataclass("Two", [("b", int)]))})
    assert select(path, "SELECT b FROM wf_order") == [(2,)]
    write(path, {})
    assert select(path, "SELECT b FROM wf_order") == [(2,)], "another app on the file leaves it alone"


def test_names_are_no_sql(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    odd = vars(typing)["TypedDict"]("odd", {HOSTILE: int, "b": str})
    write(path, {"Order": shape_of(odd), HOSTILE: shape_of(odd)}, w=json.encode({HOSTILE: 7, "b": "x"}))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM wf_order").fetchall()
    assert rows[0][6:] == (7, "x")


def test_a_users_table_with_the_name_of_a_view_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    write(path, {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE wf_order (mine)")
    write(path, {"Order": shape_of(int)}, w=b"1")
    assert select(path, "SELECT * FROM wf_order") == []


def test_a_file_of_the_format_before_gets_the_columns_from_its_records(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    write(path, {}, w=b'{"a":1}', v=b"")
    with closing(sqlite3.connect(path)) as connection:
        for column in ("run_id", "updated_at", "closed_at", "view"):
            connection.execute(f"ALTER TABLE workflows DROP COLUMN {column}")
        connection.execute("DROP TABLE closed")  # of a later format
        connection.execute("PRAGMA user_version = 3")
    write(path, {"Order": shape_of(make_dataclass("One", [("a", int)]))})
    assert select(path, "SELECT workflow_id, run_id, a FROM wf_order ORDER BY 1") == [
        ("v", "run-1", None),
        ("w", "run-1", 1),
    ]
    assert select(path, "PRAGMA user_version") == [(FORMAT,)]
    reader = SqliteReader(path)
    assert reader.state("w") == replace(state("w"), view=b'{"a":1}')
    reader.close()
