"""Activities that write down when they begin and end, and a workflow that uses them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from perdure import activity, workflow


def note(what: str, name: str) -> None:
    with Path(os.environ["LABOUR"]).open("a") as book:
        book.write(f"{what} {name}\n")


@activity.defn(timeout="1m")
async def work(name: str, seconds: float) -> str:
    note("begin", name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled", name)
        raise
    note("end", name)
    return name


@workflow.defn
class Day:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_over = False

    @workflow.run
    async def live(self, name: str) -> str:
        done = await work(name, 0.01)
        await workflow.wait_until(lambda: self.is_over)
        return f"{done} is done"

    @workflow.signal
    def end(self) -> None:
        self.is_over = True

    @workflow.query
    def asked(self) -> bool:
        return self.is_over

    @workflow.view
    def status(self) -> str:
        return "over" if self.is_over else "going on"
