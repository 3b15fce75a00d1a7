"""Installs the safeguards for workflow code: hooks, guard and watchdog. Every platform uses this
module.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from perdure.replay import eviction, guard
from perdure.replay.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.workflow import Definition


def install(definitions: Iterable[Definition], block_limit_s: float) -> Watchdog | None:
    """Prepare this thread to run workflow code.

    It may be called again, for another engine of the process.

    Args:
        definitions: the workflow types that will run; the functions of their modules are guarded.
        block_limit_s: workflow code that runs longer without yielding is interrupted, seconds; 0:
            never.

    Returns:
        The watchdog of this thread, to be stopped on it; None without a limit.
    """
    eviction.install_hooks()
    guard.install()
    for definition in definitions:
        module = sys.modules.get((definition.cls or definition.run_fn).__module__)
        if module is not None:  # it may have been removed after its types were defined
            guard.watch_module(module)
    return Watchdog(block_limit_s) if block_limit_s else None
