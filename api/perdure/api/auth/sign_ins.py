"""Counts and logs failed sign-ins: the address they come from, never the credential."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.requests import Request

    from perdure.api.auth.refusals import Unauthenticated
    from perdure.api.measures import Measures

_log: Final = logging.getLogger("perdure.api")
PAUSE_S: Final = 1.0
"""Pause between two log lines, so that guessing attempts cannot fill the log."""


class FailedSignIns:
    """Counts and logs failed sign-ins. Belongs to one asyncio loop.

    Args:
        measures: counts all of them.
        now: a monotonic clock, seconds.
    """

    def __init__(self, measures: Measures, now: Callable[[], float] = time.monotonic) -> None:
        self._measures = measures
        self._now = now
        self._said_at = -PAUSE_S
        self._unsaid = 0

    def add(self, request: Request, refusal: Unauthenticated) -> None:
        """Count a failed sign-in."""
        self._measures.sign_in_failed(is_given=refusal.is_given)
        self._unsaid += 1
        now = self._now()
        if now - self._said_at < PAUSE_S:
            return
        self._said_at = now
        address = request.client.host if request.client is not None else ""
        count, self._unsaid = self._unsaid, 0
        _log.warning(
            "failed sign-in: %s",
            refusal.detail,
            extra={"address": address, "failed_sign_ins_since_last_line": count},
        )
