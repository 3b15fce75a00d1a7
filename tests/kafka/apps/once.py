"""Activities that may not run twice, and that hold until their worker is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from perdure import activity, workflow
from perdure.errors import NotDone, OutcomeUnknown


def effects(path: Path) -> int:
    """How often something has happened outside."""
    return len(path.read_text()) if path.exists() else 0


async def happen(path: Path) -> None:
    """It happens; the first time without a report."""
    is_first = not effects(path)
    with path.open("a") as file:
        file.write("!")
    if is_first:
        await asyncio.Event().wait()


@activity.defn(at_most_once=True, timeout="10m")
async def blind(folder: str) -> str:
    await happen(Path(folder, "blind"))
    return "blind"


async def look_up(folder: str) -> str:
    if not effects(Path(folder, "seen")):
        raise NotDone
    return "seen was found"


@activity.defn(at_most_once=True, timeout="10m", reconcile=look_up)
async def seen(folder: str) -> str:
    await happen(Path(folder, "seen"))
    return "seen"


@workflow.defn
async def pay(folder: str) -> list[str]:
    async def guarded(call: Any) -> str:
        try:
            return str(await call)
        except OutcomeUnknown:
            return "unknown"

    return list(await asyncio.gather(guarded(blind(folder)), guarded(seen(folder))))
