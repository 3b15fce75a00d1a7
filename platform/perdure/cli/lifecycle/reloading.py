"""Watches an app's files, tests new code in a separate process, and requests a restart if the code
loads.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from perdure.cli.options.metrics import say
from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TRIAL: Final = "from perdure.cli.import_check import main; main()"
READY_S: Final = 5.0
LOOK_MS: Final = 200
"""Interval at which the watch checks whether to end."""
RESTARTED: Final = "PERDURE_RESTARTED"
"""Set in the environment of a process that was started for new code."""


def kept_or(
    name: str, port: int | None, listen: Callable[[int], socket.socket], *, default: int | None = None
) -> socket.socket:
    """Open a listening socket. If the port was chosen automatically, it is chosen again after a
    reload while it is free, since its address was printed.

    Args:
        name: the name of the server, for the environment variable.
        port: the port that was asked for; None or 0: any.
        listen: opens a socket on a port; 0: any free one.
        default: tried before a free one.

    Raises:
        InfrastructureError: a port that was asked for is taken.
    """
    if port:
        return listen(port)
    variable = f"{RESTARTED}_{name}_PORT"
    kept = os.environ.get(variable, "") if os.environ.get(RESTARTED) else ""
    found: socket.socket | None = None
    for wanted in (int(kept) if kept.isdigit() else None, default):
        if wanted and found is None:
            with suppress(InfrastructureError):
                found = listen(wanted)
    if found is None:
        found = listen(0)
    os.environ[variable] = str(found.getsockname()[1])
    return found


class Reloader:
    """A thread that watches a directory.

    Args:
        target: the app, as on the command line.
        directory: the directory whose Python files are watched.
        stop: called once when new code was tested successfully; `is_wanted` is true from then on.
        files: the files that were loaded.
        since_ns: when loading them began, nanoseconds since 1970: files saved since then are new
            code, too.
    """

    def __init__(
        self, target: str, directory: Path, stop: Callable[[], None], files: Iterable[Path], since_ns: int
    ) -> None:
        self.is_wanted = False
        self._target = target
        self._directory = directory
        self._stop = stop
        self._files = list(files)
        self._since_ns = since_ns
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._thread = WatchedThread(target=self._watch, name="perdure-reload")

    def start(self) -> None:
        """Start watching; returns when every later change is noticed."""
        self._thread.start()
        self._ready.wait(READY_S)

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        try:
            for changed in changes(self._directory, self._closing):
                late = set[str]() if self._ready.is_set() else self._saved_since()
                self._ready.set()
                if changed | late and self._is_good(changed | late):
                    self.is_wanted = True
                    self._stop()
                    return
        except (OSError, RuntimeError) as error:
            say(f"perdure: cannot watch {self._directory}: {error}; restart by hand after a change")
        finally:
            self._ready.set()

    def _saved_since(self) -> set[str]:
        """Files saved between loading and watching."""
        return {
            str(file) for file in self._files if file.exists() and file.stat().st_mtime_ns > self._since_ns
        }

    def _is_good(self, paths: Iterable[str]) -> bool:
        names = ", ".join(sorted({Path(path).name for path in paths}))
        tried = subprocess.run(  # noqa: S603 our own interpreter
            [sys.executable, "-P", "-c", TRIAL, self._target],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if tried.returncode:
            said = tried.stderr.strip().splitlines()
            say(
                f"perdure: {said[-1] if said else 'the app does not load'} (still serving the previous "
                "version)"
            )
            return False
        say(f"perdure: {names} changed, restarting")
        return True


def changes(directory: Path, closing: threading.Event) -> Iterator[set[str]]:
    """Yields sets of changed Python files below a directory, and empty sets in between. The first
    set comes when every later change is noticed.
    """
    from watchfiles import PythonFilter, watch

    for changed in watch(
        directory,
        watch_filter=PythonFilter(),
        stop_event=closing,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {path for _, path in changed}


def start_again() -> NoReturn:
    """Replace this process by one that loads the new code. The process id stays."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[RESTARTED] = "1"
    os.execv(sys.executable, [sys.executable, "-P", "-m", "perdure.cli", *sys.argv[1:]])  # noqa: S606 our own command line
