"""New code is tried before the old is let go, and no save is missed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from perdure.cli.reloading import Reloader

GOOD = "from perdure import workflow\n\n\n@workflow.defn\nasync def w() -> None: ...\n"


def reloader_of(file: Path, stopped: threading.Event, since_ns: int) -> Reloader:
    return Reloader(str(file), file.parent, stopped.set, [file], since_ns)


def test_what_was_saved_between_loading_and_watching_is_new_code(tmp_path: Path) -> None:
    file, stopped = tmp_path / "app.py", threading.Event()
    file.write_text(GOOD)
    reloader = reloader_of(file, stopped, file.stat().st_mtime_ns - 1)
    reloader.start()
    assert stopped.wait(20)
    assert reloader.is_wanted
    reloader.close()


def test_nothing_happens_without_a_save(tmp_path: Path) -> None:
    file, stopped = tmp_path / "app.py", threading.Event()
    file.write_text(GOOD)
    reloader = reloader_of(file, stopped, file.stat().st_mtime_ns)
    reloader.start()
    reloader.close()
    assert not reloader.is_wanted
    assert not stopped.is_set()


def test_a_directory_that_is_gone_is_said_and_served_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = threading.Event()
    reloader = reloader_of(tmp_path / "gone" / "app.py", stopped, 0)
    reloader.start()
    reloader.close()
    assert not reloader.is_wanted
    assert "cannot watch" in capsys.readouterr().err
