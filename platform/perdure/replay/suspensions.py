"""The exceptions that suspend a run: its code cannot be trusted until it is changed. None of them
fails the run.
"""

from __future__ import annotations

from typing import Final

from perdure import errors
from perdure.replay.blame import NonDeterministic
from perdure.replay.spinning import Spinning
from perdure.replay.watchdog import Blocked


class Escaped(Exception):
    """The code caused an exception in a place where it cannot catch it, and where it is not the
    run's result.
    """


SUSPENDING: Final = (NonDeterministic, Spinning, Blocked, Escaped)
"""Exceptions of code that cannot be trusted: its run is suspended, never recorded as failed."""

CURABLE: Final = (*SUSPENDING, errors.UsageError)
"""Exceptions that also suspend the run if workflow code lets them escape, since a change of the
code cures them."""

SUSPENDING_ERRORS: Final = (errors.ReplayError, LookupError, *CURABLE)
"""Exceptions that mean that the code has not reached the end of the history."""
