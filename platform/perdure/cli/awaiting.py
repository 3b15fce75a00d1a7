"""`perdure workflow result`: wait for the end of a run, reporting what it waits for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import typer

from perdure.cli.printable import printable
from perdure.errors import EngineUnavailable, NotClosed

if TYPE_CHECKING:
    from perdure.client import Handle

SOON_S: Final = 0.5
"""The wait before reporting; an existing result arrives sooner, seconds."""
POLL_INTERVAL_S: Final = 5.0
"""Seconds between two checks of the run's waits."""
_library: Final = logging.getLogger("perdure.client")


async def awaited(handle: Handle[Any, Any], limit_s: float | None) -> Any:
    """Wait for the result of a run, and report its waits.

    Args:
        handle: the run.
        limit_s: how long to wait, seconds; None: for ever.

    Raises:
        NotClosed: the run has not ended in time; the message says what it waits for.
        WorkflowFailed: the run ended without a result.
        WorkflowNotFound: no run has this id.
    """
    loop = asyncio.get_running_loop()
    until = None if limit_s is None else loop.time() + max(limit_s, SOON_S)
    said = ""
    _library.addFilter(_nothing)  # the same is printed here
    waiting = asyncio.create_task(handle.result())
    try:
        while True:
            look_s = POLL_INTERVAL_S if said else SOON_S
            left_s = look_s if until is None else min(look_s, until - loop.time())
            await asyncio.wait((waiting,), timeout=max(0.0, left_s))
            if waiting.done():
                if not isinstance(waiting.exception(), EngineUnavailable):
                    return waiting.result()
                await asyncio.sleep(SOON_S)
                waiting = asyncio.create_task(handle.result())  # an engine may be started
            why = await handle.waits_for()
            if until is not None and loop.time() >= until and not waiting.done():
                raise NotClosed(f"workflow {handle.id!r} is still open: {why or 'it is about to end'}")
            if why and _gist(why) != _gist(said):
                said = why
                typer.echo(printable(f"perdure: waiting for workflow {handle.id!r}: {why}"), err=True)
    finally:
        waiting.cancel()
        _library.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _gist(why: str) -> str:
    """The text without its times, to compare two reports."""
    return why.partition("; no worker has taken it for")[0]
