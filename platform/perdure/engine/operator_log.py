"""Messages of the engine to its operator."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Protocol


class Report(Protocol):
    """Takes what an operator should know."""

    def __call__(self, message: str, /, **where: str | int) -> None:
        """One message.

        Args:
            message: what happened, and what to do, for people.
            where: what it is about: `workflow_id`, `run_id`, `topic`, `partition`, `offset`.
        """


SPARING_S: Final = 1.0


class ThrottledReport:
    """A report of what may come in floods, as dead letters do: a line a second at most, which says
    how many it stands for.

    Args:
        report: takes the lines.
        now: seconds, monotonic.
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
