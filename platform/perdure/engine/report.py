"""What an engine tells its operator, in words."""

from __future__ import annotations

import sys
from typing import Protocol


class Report(Protocol):
    """Takes what an operator should know."""

    def __call__(self, message: str, /, **where: str | int) -> None:
        """One message.

        Args:
            message: what happened, and what to do, for people.
            where: what it is about: `workflow_id`, `run_id`, `topic`, `partition`, `offset`.
        """


def to_stderr(message: str, /, **where: str | int) -> None:
    """The default report."""
    print(f"perdure: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the default report
