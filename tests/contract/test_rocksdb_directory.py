"""A directory that cannot be trusted is reported and begun again; one that is not ours is
left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from perdure.adapters.rocksdb import values
from perdure.adapters.rocksdb.directory import BESIDE, FUTURE_US, TRUSTED_US
from perdure.adapters.rocksdb.faults import DAMAGED, fault
from perdure.errors import InfrastructureError
from tests.contract.chronicle import Chronicle, random_moves
from tests.contract.rocks import NOW_US, contents, opened, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def chronicle() -> Chronicle:
    chance, chronicle = Random(11), Chronicle()
    for _ in range(300):
        chronicle.batch(random_moves(chance))
    return chronicle


@pytest.fixture
def directory(tmp_path: Path, chronicle: Chronicle) -> Path:
    """Of a store with files on disk, closed."""
    path = tmp_path / "store"
    store, restorer = opened(path, chronicle)
    take_over(restorer, 0, chronicle.topic[0])
    store.owned[0]._db.flush()
    store.close()
    return path


def largest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda each: each.stat().st_size)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(path.stat().st_size))


def into_a_file(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_text("hello", encoding="utf-8")


def mark(path: Path) -> None:
    fault(Exception("Corruption: block checksum mismatch"), path)


@pytest.mark.parametrize(
    ("pattern", "harm", "said"),
    [
        ("0/*.sst", remove, "it is damaged"),
        ("0/*.sst", cut, "it is damaged"),
        ("0/*.sst", garble, "it is damaged"),
        ("0/CURRENT", remove, "it has no checkpoint|it is damaged"),
        ("0/CURRENT", cut, "it is damaged"),
        ("0/MANIFEST-*", remove, "it is damaged"),
        ("0/MANIFEST-*", cut, "it has no checkpoint|it is damaged"),
        ("0/MANIFEST-*", garble, "it is damaged"),
        ("0", into_a_file, "it is damaged"),
        ("0", mark, "its last process found it damaged"),
    ],
)
def test_a_damaged_directory_is_rebuilt(
    directory: Path, chronicle: Chronicle, pattern: str, harm: Callable[[Path], None], said: str
) -> None:
    store, restorer = opened(directory, chronicle)
    take_over(restorer, 0, chronicle.topic[0])
    expected = contents(store, chronicle)
    store.close()
    harm(largest(directory, pattern))
    told: list[str] = []
    store, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(0, len(chronicle.topic[0])) is None
    (message,) = told
    assert "rebuilding the store" in message
    assert any(each in message for each in said.split("|"))
    take_over(restorer, 0, chronicle.topic[0])
    assert contents(store, chronicle) == expected
    store.close()


def test_a_lost_store_is_restored_without_a_report(directory: Path, chronicle: Chronicle) -> None:
    (directory / "0").rename(directory / "gone")
    store, restorer = opened(directory, chronicle)
    assert restorer.open(0, 1_000_000) is None
    store.close()
    restorer.close(0)


def test_a_store_of_another_topic_is_rebuilt(directory: Path, chronicle: Chronicle) -> None:
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append, identity="another")
    assert restorer.open(0, 1_000_000) is None
    assert "it belongs to another topic (topic; ours is another)" in told[0]
    restorer.close(0)


def test_a_store_of_another_partition_is_rebuilt(directory: Path, chronicle: Chronicle) -> None:
    (directory / "0").rename(directory / "3")
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(3, 1_000_000) is None
    assert "it belongs to partition 0" in told[0]
    restorer.close(3)


def test_a_store_that_is_ahead_of_the_topic_is_rebuilt(directory: Path, chronicle: Chronicle) -> None:
    end = len(chronicle.topic[0])
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(0, end) == end
    assert restorer.open(0, end - 1) is None
    assert f"it contains the events up to offset {end}, but the topic ends at {end - 1}" in told[0]
    restorer.close(0)


def test_a_store_written_by_a_clock_that_was_ahead_is_rebuilt(directory: Path, chronicle: Chronicle) -> None:
    """How long ago that was cannot be known."""
    end = len(chronicle.topic[0])
    _, restorer = opened(directory, chronicle, now=NOW_US - FUTURE_US)
    assert restorer.open(0, end) == end
    restorer.close(0)
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append, now=NOW_US - FUTURE_US - 1)
    assert restorer.open(0, end) is None
    assert "by a clock that was ahead" in told[0]
    restorer.close(0)


def test_a_store_that_was_unused_for_long_is_rebuilt(directory: Path, chronicle: Chronicle) -> None:
    end = len(chronicle.topic[0])
    _, restorer = opened(directory, chronicle, now=NOW_US + TRUSTED_US)
    assert restorer.open(0, end) == end
    restorer.close(0)
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append, now=NOW_US + TRUSTED_US + 1)
    assert restorer.open(0, end) is None
    assert "last written 12 hours ago" in told[0]
    restorer.close(0)


def test_a_store_of_another_format_is_rebuilt(
    directory: Path, chronicle: Chronicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.adapters.rocksdb.directory.FORMAT", values.FORMAT + 1)
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(0, 1_000_000) is None
    assert f"its format is {values.FORMAT}" in told[0]
    restorer.close(0)


def test_a_checkpoint_that_cannot_be_read_is_not_trusted(directory: Path, chronicle: Chronicle) -> None:
    store, restorer = opened(directory, chronicle)
    take_over(restorer, 0, chronicle.topic[0])
    store.owned[0]._db.put(b"c", b"hello")
    store.close()
    told: list[str] = []
    _, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(0, 1_000_000) is None
    assert "its checkpoint cannot be read" in told[0]
    restorer.close(0)


@pytest.fixture
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has partition 0 open."""
    code = (
        "import sys; from rocksdict import Rdict; held = Rdict(sys.argv[1]); print('open', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(directory / "0")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_store_that_another_process_holds_is_left_to_it_and_restored_beside_it(
    directory: Path, chronicle: Chronicle, holder: subprocess.Popen[str]
) -> None:
    end = len(chronicle.topic[0])
    told: list[str] = []
    store, restorer = opened(directory, chronicle, told.append)
    assert restorer.open(0, end) is None
    assert "is in use by another process: partition 0 gets a second store beside it" in told[0]
    take_over(restorer, 0, chronicle.topic[0])
    found = contents(store, chronicle)
    store.close()
    holder.communicate("")
    store, restorer = opened(directory, chronicle)
    assert restorer.open(0, end) == end
    take_over(restorer, 0, chronicle.topic[0])
    assert contents(store, chronicle) == found
    store.close()


def test_too_many_holders_of_a_partition_are_an_error_for_the_operator(
    tmp_path: Path, chronicle: Chronicle
) -> None:
    restorers = [opened(tmp_path, chronicle, lambda _: None)[1] for _ in range(BESIDE + 1)]
    for restorer in restorers[:-1]:
        assert restorer.open(0, 0) is None
    with pytest.raises(
        InfrastructureError, match=r"8 processes use the stores of partition 0 .*end the hanging ones"
    ):
        restorers[-1].open(0, 0)
    for restorer in restorers:
        restorer.close(0)


def test_a_directory_with_files_of_others_is_refused_and_left_alone(
    tmp_path: Path, chronicle: Chronicle
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "thesis.txt").write_text("all of it", encoding="utf-8")
    _, restorer = opened(tmp_path, chronicle)
    with pytest.raises(InfrastructureError, match="contains other files; name an empty directory"):
        restorer.open(0, 0)
    assert (tmp_path / "0" / "thesis.txt").exists()


def test_a_path_that_is_not_a_directory_is_refused_with_advice(tmp_path: Path, chronicle: Chronicle) -> None:
    path = tmp_path / "file"
    path.write_text("hello", encoding="utf-8")
    _, restorer = opened(path, chronicle)
    with pytest.raises(
        InfrastructureError, match=r"cannot be used: .*name another one, or fix its permissions"
    ):
        restorer.open(0, 0)


def harm_blocks(path: Path) -> None:
    """Harm what is not read when a store is opened."""
    with path.open("r+b") as file:
        for position in range(2_000, path.stat().st_size - 12_000, 3_000):
            file.seek(position)
            file.write(b"harm")


def test_damage_found_by_a_read_is_an_error_and_repaired_at_the_next_start(
    directory: Path, chronicle: Chronicle
) -> None:
    end = len(chronicle.topic[0])
    store, restorer = opened(directory, chronicle)
    take_over(restorer, 0, chronicle.topic[0])
    expected = contents(store, chronicle)
    store.close()
    harm_blocks(largest(directory, "0/*.sst"))
    store, restorer = opened(directory, chronicle)
    assert restorer.open(0, end) == end, "RocksDB does not look at every block when it opens"
    restorer.restored(0, end)
    with pytest.raises(
        InfrastructureError, match=r"is damaged .*start again: it is rebuilt from the events topic"
    ):
        contents(store, chronicle)
    store.close()
    assert (directory / "0" / DAMAGED).exists()
    told: list[str] = []
    store, restorer = opened(directory, chronicle, told.append)
    take_over(restorer, 0, chronicle.topic[0])
    assert contents(store, chronicle) == expected
    assert len(told) == 1
    store.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "IO error: No space left on device: While appending to file: /x/000009.log",
            "no space left on that disk; free some",
        ),
        (
            "IO error: While open a file for appending: /x/LOCK: Permission denied",
            "this user may not read and write it",
        ),
        ("IO error: While open a file: Too many open files", "this user may not read and write it"),
    ],
)
def test_an_error_that_is_not_damage_deletes_nothing(tmp_path: Path, text: str, said: str) -> None:
    assert said in str(fault(Exception(text), tmp_path))
    assert list(tmp_path.iterdir()) == []
