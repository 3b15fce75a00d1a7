"""Keeps an activity from lowering Python's recursion limit for everything else.

The limit is that of the process: the engine and other attempts would fail where they need a deeper
stack, and commands of other runs become dead letters.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

_LIMIT: Final = sys.getrecursionlimit()

_logger: Final = logging.getLogger("perdure.worker")


def restore_limit(name: str) -> None:
    """Raise the limit to what it was at first, if it is lower.

    Args:
        name: of the activity or step that has just ended, for the log.
    """
    if (found := sys.getrecursionlimit()) < _LIMIT:
        sys.setrecursionlimit(_LIMIT)
        _logger.warning(
            "the recursion limit of the process was lowered to %d, probably by activity %s; it is %d again: "
            "run deep recursions in a thread or process of their own",
            found,
            name,
            _LIMIT,
        )
