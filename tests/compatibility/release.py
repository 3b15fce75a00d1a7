"""The data that a release has left behind, as files: read by the tests, written by `make.py`.

data/2026-11-30/
    workflows.py        the code of the runs
    release.json        `Release`: the scenarios, and what was seen when the data was written
    file.sqlite.gz      the file of a `perdure dev` that was killed
    topics.json.gz      `Topics`: the topics of an engine and a worker that were killed
    store.tar.gz        the directory of that engine's store
    histories.zip       the history of every run in the file, from `perdure workflow history`
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgspec
from msgspec import Struct

from perdure import activity, workflow
from perdure.codec.history import history_from_json
from perdure.model.events import EventRecord
from perdure.registry import Registry
from tests.compatibility.scenarios import Scenario

DATA: Final = Path(__file__).parent / "data"
WORKFLOWS: Final = "workflows.py"
RELEASE: Final = "release.json"
FILE: Final = "file.sqlite.gz"
TOPICS: Final = "topics.json.gz"
STORE: Final = "store.tar.gz"
HISTORIES: Final = "histories.zip"
FILES: Final = frozenset({WORKFLOWS, RELEASE, FILE, TOPICS, STORE, HISTORIES})


class Seen(Struct):
    """A run when the data was written.

    Attributes:
        run_id: its id.
        events: the types of its events.
        view: JSON; None where it has none.
    """

    run_id: str
    events: list[str]
    view: Any = None


class Left(Struct):
    """The data on one medium.

    Attributes:
        at: when it was written, microseconds since 1970.
        runs: by workflow id, oldest first.
        statuses: by workflow id, of the last run.
        book: what activities had done.
    """

    at: int
    runs: dict[str, list[Seen]]
    statuses: dict[str, str]
    book: list[str]


class Record(Struct, array_like=True):
    """One record of a topic.

    Attributes:
        timestamp: milliseconds since 1970.
    """

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Topic(Struct):
    """One topic.

    Attributes:
        configuration: what differs from the broker's defaults.
        ends: the offset after the last one, by partition.
        records: committed ones, in the order of each partition.
    """

    configuration: dict[str, str]
    ends: list[int]
    records: list[Record]


class Topics(Struct):
    """A namespace.

    Attributes:
        identity: of the events topic, as engines' stores know it.
        own: its topics, by what follows the namespace and a dot.
        others: the topics that workflow code has written to, by name.
        committed: offsets by group, topic and partition; the names are without the namespace.
    """

    identity: str
    own: dict[str, Topic]
    others: dict[str, Topic]
    committed: dict[str, dict[str, dict[int, int]]]


class Release(Struct):
    """`release.json`.

    Attributes:
        version: of perdure, which wrote the data.
        python: on which it ran, major and minor.
        code: SHA-256 of `workflows.py`, hexadecimal.
        scenarios: how the runs were made and how they must continue.
        file: what was left in the file.
        topics: what was left in the topics.
    """

    version: str
    python: str
    code: str
    scenarios: list[Scenario]
    file: Left
    topics: Left


class Folder:
    """The data of one release.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def __repr__(self) -> str:
        return self.name

    @property
    def release(self) -> Release:
        return msgspec.json.decode((self.path / RELEASE).read_bytes(), type=Release)

    @property
    def digest(self) -> str:
        """SHA-256 of the code, hexadecimal."""
        return hashlib.sha256((self.path / WORKFLOWS).read_bytes()).hexdigest()

    @property
    def topics(self) -> Topics:
        return msgspec.json.decode(gzip.decompress((self.path / TOPICS).read_bytes()), type=Topics)

    @property
    def histories(self) -> dict[str, str]:
        """JSON, by file name."""
        with zipfile.ZipFile(self.path / HISTORIES) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}

    def records(self) -> dict[str, list[EventRecord]]:
        """The histories, by file name."""
        return {name: history_from_json(text) for name, text in self.histories.items()}

    def put_file(self, to: Path) -> None:
        """Write the SQLite file."""
        to.write_bytes(gzip.decompress((self.path / FILE).read_bytes()))

    def put_store(self, to: Path) -> None:
        """Write the directory of the engine's store, which has a directory for each partition."""
        with tarfile.open(fileobj=io.BytesIO((self.path / STORE).read_bytes()), mode="r:gz") as archive:
            archive.extractall(to, filter="data")

    def code(self, version: str) -> Registry:
        """What the folder's `workflows.py` defines when COMPATIBILITY_CODE is this version.

        `Registry.of_everything_imported` does not find it.
        """
        name = f"workflows_{self.name.replace('-', '_')}_{version}"
        spec = importlib.util.spec_from_file_location(name, self.path / WORKFLOWS)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        workflows, activities = len(workflow.DEFINED), len(activity.DEFINED)
        with patch.dict(os.environ, {"COMPATIBILITY_CODE": version}):
            spec.loader.exec_module(module)
        registry = Registry.of(workflow.DEFINED[workflows:], activity.DEFINED[activities:])
        del workflow.DEFINED[workflows:], activity.DEFINED[activities:]
        return registry


def folders() -> list[Folder]:
    """One of each release, oldest first."""
    return [Folder(path) for path in sorted(DATA.iterdir()) if path.is_dir()]
