"""Problems of a file, and their messages; and data that other programs write into it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import SqliteFile, connect
from perdure.adapters.sqlite.log import SqliteLog
from perdure.adapters.sqlite.ownership import is_owned, owner_of
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.adapters.sqlite.schema import FORMAT
from perdure.adapters.sqlite.store import SqliteStore
from perdure.client.listing import ListQuery
from perdure.engine.ports import Batch
from perdure.errors import CommitAborted, InfrastructureError
from tests.contract.media import SqliteMedia
from tests.contract.samples import (
    ELSEWHERE,
    commands,
    names,
    record,
    replies,
    state,
    states,
    task,
    tasks,
    timer,
    with_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.media import Node


@pytest.fixture
def media(tmp_path: Path) -> Iterator[SqliteMedia]:
    media = SqliteMedia(tmp_path)
    yield media
    media.close()


@pytest.fixture
def node(media: SqliteMedia) -> Node:
    return media.node().open()


def full_batch(at: int = 1, run_id: str = "run-1") -> Batch:
    batch = with_record(tasks(task(1, run_id=run_id), at=at), record(run_id))
    batch.states = {"w": state("w", run_id)}
    batch.timers = {timer(5, run_id)}
    return batch


def refused(path: Path) -> str:
    with pytest.raises(InfrastructureError) as caught:
        SqliteLog(SqliteFile(path), Channel()).open()
    assert not isinstance(caught.value, CommitAborted)
    assert not is_owned(path), "who was refused holds nothing"
    return str(caught.value)


# ---- files that cannot be used


def test_a_second_owner_gets_an_error_that_names_the_first_process(media: SqliteMedia, node: Node) -> None:
    with pytest.raises(InfrastructureError, match=rf"in use by process {os.getpid()}; stop that process"):
        media.node().open()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path / "nowhere" / "app.db")
    assert f"the directory {tmp_path / 'nowhere'} does not exist" in message


def test_a_text_file_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 1_000)
    assert "is not a database" in refused(path)
    assert path.read_text().startswith("dear diary"), "it is left as it was"


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id)")
        connection.commit()
    before = path.read_bytes()
    assert "a database of another program" in refused(path)
    assert path.read_bytes() == before


def test_the_next_format_is_refused(media: SqliteMedia, node: Node) -> None:
    node.close()
    with closing(sqlite3.connect(media.path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    assert f"written by a newer perdure (format {FORMAT + 1}, this version knows {FORMAT})" in refused(
        media.path
    )


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "app.db")
    file.open()
    assert file.connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL: each commit is synced"
    assert file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_who_gives_a_file_up_leaves_no_process_id_behind(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "app.db")
    file.open()
    assert owner_of(file.path) == os.getpid()
    file.close()
    assert (owner_of(file.path), is_owned(file.path)) == (0, False)


def test_a_newer_format_is_refused(media: SqliteMedia, node: Node) -> None:
    node.close()
    with closing(connect(media.path, 1.0)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "written by a newer perdure (format 99" in refused(media.path)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.mkdir()
    assert "cannot be opened; check that it is a file" in refused(path)


def test_a_damaged_file_and_a_broken_disk_give_different_errors(media: SqliteMedia, node: Node) -> None:
    for at in range(1, 200):
        node.write(full_batch(at, f"run-{at}"))
    node.close()
    content = bytearray(media.path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    media.path.write_bytes(content)
    assert "is damaged" in refused(media.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_named(media: SqliteMedia, node: Node) -> None:
    node.close()
    media.path.parent.chmod(0o500)
    try:
        assert "write access to it and its directory" in refused(media.path)
    finally:
        media.path.parent.chmod(0o700)


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    file = SqliteFile(path)
    file.open()
    file.close()
    reader = SqliteReader(path)
    assert reader.list(ListQuery()) == []
    reader.close()


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "question?.db", "hash#.db", "ünï.db"])
def test_any_file_name_is_accepted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    file = SqliteFile(path)
    file.open()
    file.close()
    assert path.exists()
    reader = SqliteReader(path)
    assert reader.list(ListQuery()) == []
    reader.close()


def test_a_reader_of_a_missing_file_says_how_to_create_it_and_does_not(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="start `perdure dev APP --db"):
        SqliteReader(tmp_path / "app.db").state("w")
    assert list(tmp_path.iterdir()) == []


# ---- commits that fail


def count(path: Path, table: str) -> int:
    with closing(connect(path, 1.0, mode="ro")) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert isinstance(found, int)
    return found


def test_a_full_disk_aborts_the_commit_whole_and_it_succeeds_once_there_is_space(
    media: SqliteMedia, node: Node
) -> None:
    media.append(commands("a"))
    assert names(node.log.take(10, 1.0)) == ["a"]
    connection = media._files[id(node)].connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = full_batch()
    for number in range(500):
        with_record(batch, record(f"run-{number + 2}"))
    with pytest.raises(CommitAborted, match="no space left"):
        node.log.commit(batch)
    assert [count(media.path, table) for table in ("events", "workflows", "tasks", "timers", "commands")] == [
        0,
        0,
        0,
        0,
        1,
    ]
    connection.execute("PRAGMA max_page_count = 1000000")
    node.log.abort()
    assert names(node.log.take(10, 0.0)) == ["a"]
    node.log.commit(batch)
    assert [count(media.path, table) for table in ("events", "workflows", "tasks", "timers", "commands")] == [
        501,
        1,
        1,
        1,
        0,
    ]


def test_a_lock_of_another_process_aborts_the_commit(media: SqliteMedia, node: Node) -> None:
    with closing(connect(media.path, 1.0)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CommitAborted, match="locked by another process"):
            node.log.commit(full_batch())
        assert node.store.events("w", "run-1") == []
        other.execute("ROLLBACK")
    node.write(full_batch())
    assert node.store.events("w", "run-1") == [record()]


def test_a_lock_that_hinders_reading_ends_no_take(media: SqliteMedia, node: Node) -> None:
    with closing(connect(media.path, 1.0)) as other:
        other.execute("INSERT INTO commands (record) VALUES (x'ff')")
        other.execute("BEGIN IMMEDIATE")
        node.log.submit(commands("a"))
        assert names(node.log.take(10, 0.0)) == ["a"], "the row that is no command cannot be set aside now"
        other.execute("ROLLBACK")
    node.log.take(10, 0.0)
    assert count(media.path, "dead_letters") == 1


def test_an_event_that_is_there_already_is_refused_for_good_and_changes_nothing(node: Node) -> None:
    node.write(full_batch())
    again = full_batch(2)
    again.states = {"w": state("w", view=b"changed")}
    with pytest.raises(InfrastructureError) as caught:
        node.log.commit(again)
    assert not isinstance(caught.value, CommitAborted)
    assert node.store.state("w") == state("w")


def test_a_log_that_is_closed_says_so(node: Node) -> None:
    node.close()
    with pytest.raises(InfrastructureError, match="is closed"):
        node.log.commit(full_batch())


def test_a_batch_that_keeps_nothing_writes_nothing(media: SqliteMedia, node: Node) -> None:
    node.log.submit(commands("a"))
    node.log.take(10, 0.0)
    with closing(connect(media.path, 1.0)) as other:
        other.execute("BEGIN IMMEDIATE")
        node.log.commit(Batch(1))
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("code", "is_retried", "words"),
    [
        (sqlite3.SQLITE_BUSY, True, "locked by another process"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True, "locked by another process"),
        (sqlite3.SQLITE_FULL, True, "no space left"),
        (sqlite3.SQLITE_IOERR, True, "the disk"),
        (sqlite3.SQLITE_IOERR_FSYNC, True, "the disk"),
        (sqlite3.SQLITE_READONLY, False, "read-only"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, False, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, False, "cannot be opened"),
        (sqlite3.SQLITE_NOTADB, False, "is not a database"),
        (sqlite3.SQLITE_CORRUPT, False, "is damaged"),
        (sqlite3.SQLITE_CORRUPT_INDEX, False, "is damaged"),
        (sqlite3.SQLITE_TOOBIG, False, "cannot be used"),
        (None, False, "cannot be used"),
    ],
)
def test_every_error_says_what_to_do_and_whether_to_try_again(
    tmp_path: Path, code: int | None, is_retried: bool, words: str
) -> None:
    error = sqlite3.OperationalError("told by SQLite")
    if code is not None:
        error.sqlite_errorcode = code
    found = fault(error, tmp_path / "app.db")
    assert isinstance(found, CommitAborted) is is_retried
    assert words in str(found)
    assert str(tmp_path / "app.db") in str(found)


# ---- what others write


def test_a_row_that_is_no_command_is_set_aside_and_stops_nothing(media: SqliteMedia, node: Node) -> None:
    media.append(commands("a"))
    with closing(connect(media.path, 1.0)) as other:
        rows: list[tuple[object]] = [
            (b"\xff",),
            (b"",),
            ("text",),
            (7,),
            (b"\x92\xa7Unheard\xa1w",),
            (b"\x92\xaeSignalWorkflow\xa2\xc3\x28",),
        ]
        other.executemany("INSERT INTO commands (record) VALUES (?)", rows)
    media.append(commands("b"))
    assert names(node.log.take(10, 1.0)) == ["a", "b"]
    node.log.commit(Batch(1))
    assert count(media.path, "commands") == 0
    with closing(connect(media.path, 1.0)) as other:
        found = other.execute("SELECT record, reason FROM dead_letters ORDER BY position").fetchall()
    assert [row[0] for row in found] == [row[0] for row in rows]
    assert all(row[1] for row in found)


def test_replies_to_other_processes_are_forgotten_after_a_while(media: SqliteMedia, node: Node) -> None:
    minute_us = 60_000_000
    for minute in range(1, 40):
        node.log.commit(replies(ELSEWHERE, str(minute), at=minute * minute_us))
    left = [int(reply.request_id) for reply in media.replies_to(ELSEWHERE)]
    assert left[-1] == 39
    assert 27 <= left[0] <= 30


def test_an_owner_reads_what_an_older_store_wrote(media: SqliteMedia, node: Node) -> None:
    node.write(full_batch())
    node.close()
    file = SqliteFile(media.path)
    store = SqliteStore(file)
    store.open()
    assert store.events("w", "run-1") == [record()]
    assert store.state("w") == state("w")
    assert file.epoch == 2
    store.close()


def test_states_that_change_in_any_way_stay_in_step_with_the_indexes(media: SqliteMedia, node: Node) -> None:
    node.write(with_record(states(state("w")), record()))
    node.write(states(state("w", view=b"1"), state("new", started_at=3), at=3))
    reader = media.reader()
    assert [each.workflow_id for each in reader.list(ListQuery(statuses=("running",)))] == ["new", "w"]
    reader.close()
    with closing(connect(media.path, 1.0)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
