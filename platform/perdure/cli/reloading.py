"""Watch an app's files, try the new code in a process of its own, and ask for a restart if it is good."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TRIAL = "from perdure.cli.trial import main; main()"
READY_S = 5.0


class Reloader:
    """A thread that watches a directory.

    Args:
        target: the app, as on the command line.
        directory: whose Python files are watched.
        stop: called once when the new code is good; `is_wanted` is true from then on.
    """

    def __init__(self, target: str, directory: Path, stop: Callable[[], None]) -> None:
        self.is_wanted = False
        self._target = target
        self._directory = directory
        self._stop = stop
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="perdure-reload", daemon=True)

    def start(self) -> None:
        """Watch; returns when no change is missed any more."""
        self._thread.start()
        self._ready.wait(READY_S)

    def close(self) -> None:
        """Watch no longer."""
        self._closing.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        from watchfiles import PythonFilter, watch

        try:
            for changes in watch(
                self._directory,
                watch_filter=PythonFilter(),
                stop_event=self._closing,
                rust_timeout=200,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                self._ready.set()
                if changes and self._is_good(path for _, path in changes):
                    self.is_wanted = True
                    self._stop()
                    return
        except (OSError, RuntimeError) as error:
            typer.echo(f"perdure: cannot watch {self._directory}: {error}; start it again by hand after a change", err=True)
        finally:
            self._ready.set()

    def _is_good(self, paths: Iterable[str]) -> bool:
        changed = ", ".join(sorted({Path(path).name for path in paths}))
        tried = subprocess.run(  # noqa: S603 our own interpreter
            [sys.executable, "-P", "-c", TRIAL, self._target],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if tried.returncode:
            said = tried.stderr.strip().splitlines()
            typer.echo(
                f"perdure: {said[-1] if said else 'the app does not load'} (still serving what was there before)", err=True
            )
            return False
        typer.echo(f"perdure: {changed} changed, starting again", err=True)
        return True
