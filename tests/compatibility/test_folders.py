"""The data of every release is whole, stays as it was written, and is small."""

from __future__ import annotations

import re

from perdure.version import __version__
from tests.compatibility.release import DATA, FILES, Folder, folders

LIMIT_BYTES = 500 * 1024


def test_there_is_a_release() -> None:
    assert folders()


def test_this_version_has_left_its_data() -> None:
    """A release adds its own: `python -m tests.compatibility.make DATE`, before its version is
    given to others."""
    assert __version__ in {folder.release.version for folder in folders()}


def test_the_data_folder_holds_only_releases() -> None:
    """Tests go through all folders, so that a release that adds one is tested by that alone."""
    assert [path.name for path in DATA.iterdir() if not re.fullmatch(r"\d{4}-\d\d-\d\d", path.name)] == []


def test_a_folder_has_every_medium(folder: Folder) -> None:
    assert {path.name for path in folder.path.iterdir() if path.name != "__pycache__"} == FILES


def test_the_code_of_recorded_runs_is_as_it_was(folder: Folder) -> None:
    assert folder.digest == folder.release.code


def test_every_scenario_was_recorded_on_both_media(folder: Folder) -> None:
    release = folder.release
    ids = {scenario.id for scenario in release.scenarios}
    assert set(release.file.runs) == set(release.topics.runs) == ids


def test_the_data_is_small() -> None:
    files = [path for folder in folders() for path in folder.path.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT_BYTES, "a folder has 100 KB: drop the oldest"
