"""The present code replays the histories that every release has recorded."""

from __future__ import annotations

from perdure.codec.history import history_to_json
from tests.compatibility.going_on import names_of, replay
from tests.compatibility.release import Folder
from tests.simulation.invariants import check_history


def test_every_beginning_of_a_history_is_replayed(folder: Folder) -> None:
    registry = folder.code("repaired")
    for records in folder.records().values():
        check_history(records, is_of_this_version=False)
        for count in range(1, len(records) + 1):
            replay(records[:count], registry)


def test_a_history_is_read_and_written_without_loss(folder: Folder) -> None:
    histories, records = folder.histories, folder.records()
    assert {name: history_to_json(records[name]) for name in histories} == histories


def test_there_is_a_history_of_every_run(folder: Folder) -> None:
    seen = [run.events for runs in folder.release.file.runs.values() for run in runs]
    assert sorted(names_of(records) for records in folder.records().values()) == sorted(seen)
