"""New code is tried before the old is dropped, and no save is missed."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from perdure.api.listening import listening
from perdure.cli.lifecycle.reloading import RESTARTED, Reloader, kept_or
from perdure.errors import InfrastructureError

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


def test_without_a_save_there_is_no_restart(tmp_path: Path) -> None:
    file, stopped = tmp_path / "app.py", threading.Event()
    file.write_text(GOOD)
    reloader = reloader_of(file, stopped, file.stat().st_mtime_ns)
    reloader.start()
    reloader.close()
    assert not reloader.is_wanted
    assert not stopped.is_set()


def test_a_missing_directory_is_reported_and_serving_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = threading.Event()
    reloader = reloader_of(tmp_path / "gone" / "app.py", stopped, 0)
    reloader.start()
    reloader.close()
    assert not reloader.is_wanted
    assert "cannot watch" in capsys.readouterr().err


def bound(port: int | None) -> int:
    with kept_or("TEST", port, lambda wanted: listening("127.0.0.1", wanted)) as found:
        return int(found.getsockname()[1])


@pytest.mark.parametrize("asked", [None, 0])
def test_a_port_that_was_chosen_freely_stays_over_reloads(
    monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    monkeypatch.delenv(RESTARTED, raising=False)
    monkeypatch.setenv(f"{RESTARTED}_TEST_PORT", "")
    first = bound(asked)
    monkeypatch.setenv(RESTARTED, "1")
    assert [bound(asked) for _ in range(3)] == [first] * 3
    with socket.create_server(("127.0.0.1", first)):
        other = bound(asked)
    assert other != first, "somebody has taken it"
    assert bound(asked) == other


def test_a_taken_default_gives_way_once_and_a_port_that_was_asked_for_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(RESTARTED, raising=False)
    monkeypatch.setenv(f"{RESTARTED}_TEST_PORT", "")

    def listen(port: int) -> socket.socket:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise InfrastructureError("taken") from error

    with socket.create_server(("127.0.0.1", 0)) as taken:
        default = taken.getsockname()[1]
        with kept_or("TEST", None, listen, default=default) as found:
            first = found.getsockname()[1]
        assert first != default
        monkeypatch.setenv(RESTARTED, "1")
        with pytest.raises(InfrastructureError):
            kept_or("TEST", default, listen)
    with kept_or("TEST", None, listen, default=default) as found:
        assert found.getsockname()[1] == first, "what was printed, though the default is free now"
