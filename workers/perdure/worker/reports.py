"""Reports of attempts on their way to the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.model import commands as cm


class Reports:
    """Those that came up in one turn of the running loop are handed over together.

    Args:
        submit: takes them.
    """

    __slots__ = ("_reports", "_submit")

    def __init__(self, submit: Callable[[Sequence[cm.AnyCommand]], None]) -> None:
        self._submit = submit
        self._reports: list[cm.AnyCommand] = []

    def __bool__(self) -> bool:
        """Whether one is not handed over yet; from any thread."""
        return bool(self._reports)

    def add(self, report: cm.AnyCommand) -> None:
        """One more; on the loop's thread."""
        if not self._reports:
            asyncio.get_running_loop().call_soon(self.flush)
        self._reports.append(report)

    def flush(self) -> None:
        """Hand over what there is."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._submit(reports)
