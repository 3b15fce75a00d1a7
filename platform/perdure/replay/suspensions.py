"""The exceptions that suspend a run: its code cannot be trusted, and a change of the code cures it.
None of them fails the run.
"""

from __future__ import annotations

from typing import Final

from perdure import errors
from perdure.replay.blame import NonDeterministic
from perdure.replay.spinning import Spinning
from perdure.replay.watchdog import Blocked


class Escaped(Exception):
    """Something that the code did raised where the code cannot catch it and where it is not the
    run's result.
    """


SUSPENDING: Final = (NonDeterministic, Spinning, Blocked, Escaped)
"""The code cannot be trusted: its run is suspended, never recorded as failed."""

CURABLE: Final = (*SUSPENDING, errors.UsageError)
"""A change of the code cures these, when they leave the code: the run is suspended, too."""

SUSPENDING_ERRORS: Final = (errors.ReplayError, LookupError, *CURABLE)
"""The code of a run is not where its history is."""
