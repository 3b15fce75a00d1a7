"""A workflow of three steps at the same time, each of which takes effect and then never ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import workflow
from perdure.errors import NotDone, OutcomeUnknown


def effects(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


async def take_effect(file: Path, stays: bool) -> str:
    with file.open("a") as lines:
        lines.write(f"{file.name}\n")
    if stays and effects(file) == 1:
        await asyncio.Event().wait()
    return file.name


@workflow.defn
async def pay(folder: str) -> list[str]:
    at = Path(folder)

    def look_up(name: str) -> str:
        if not effects(at / name):
            raise NotDone
        return f"{name} was found"

    async def blind() -> str:
        try:
            return await workflow.step(
                "blind", take_effect, at / "blind", True, timeout="1h", at_most_once=True
            )
        except OutcomeUnknown:
            return "unknown"

    found = await asyncio.gather(
        workflow.step("plain", take_effect, at / "plain", True, timeout="1h"),
        blind(),
        workflow.step(
            "seen",
            take_effect,
            at / "seen",
            True,
            timeout="1h",
            at_most_once=True,
            reconcile=lambda: look_up("seen"),
        ),
    )
    return list(found)
