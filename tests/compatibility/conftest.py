"""Each release's data, and the book of its activities."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compatibility.release import Folder, folders


@pytest.fixture(params=folders(), ids=repr)
def folder(request: pytest.FixtureRequest) -> Folder:
    """The data of a release."""
    found: Folder = request.param
    return found


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What activities write in."""
    book = tmp_path / "book"
    monkeypatch.setenv("COMPATIBILITY_BOOK", str(book))
    return book
