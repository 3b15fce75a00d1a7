"""Messages from the engine to its operator."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Protocol


class Report(Protocol):
    """Receives the messages for the operator."""

    def __call__(self, message: str, /, **where: str | int) -> None:
        """One message.

        Args:
            message: what happened, and what to do, for people.
            where: the subject of the message: `workflow_id`, `run_id`, `topic`, `partition`,
                `offset`.
        """


SPARING_S: Final = 1.0


class ThrottledReport:
    """A report for messages that may come in floods, such as dead letters: at most one line a
    second, which says how many messages it stands for.

    Args:
        report: receives the lines.
        now: returns monotonic seconds.
    """

    def __init__(self, report: Report, now: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._now = now
        self._quiet_until = float("-inf")
        self._unsaid = 0

    def __call__(self, message: str, /, **where: str | int) -> None:
        """One message."""
        now = self._now()
        if now < self._quiet_until:
            self._unsaid += 1
            return
        more = (
            f" (and {self._unsaid} more since the last such line; `perdure dead-letters list`)"
            if self._unsaid
            else ""
        )
        self._quiet_until, self._unsaid = now + SPARING_S, 0
        self._report(message + more, **where)


def to_stderr(message: str, /, **where: str | int) -> None:
    """The default report."""
    print(f"perdure: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the default report
