"""Activities that run in child processes, for `test_activity_processes`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure import activity, workflow
from perdure.activity import Retry
from perdure.errors import ActivityTimedOut, Failure

ONCE = Retry(maximum_attempts=1)


@dataclass
class Task:
    number: int


@dataclass
class Sum:
    total: int
    process: int


@dataclass(eq=False)
class TooLarge(Failure):
    number: int


@activity.defn(executor="process", retry=ONCE)
def add(tasks: list[Task], *, start: int = 0) -> Sum:
    return Sum(sum((task.number for task in tasks), start), os.getpid())


@activity.defn(executor="process", retry=ONCE)
def refuse(number: int) -> None:
    raise TooLarge(number)


@activity.defn(executor="process", retry=Retry(first_interval="10ms", maximum_attempts=3))
def die_once(directory: str, how: str) -> int:
    if activity.info().attempt == 1:
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGKILL)
    return activity.info().attempt


@activity.defn(executor="process", timeout="60s", retry=ONCE)
def spin(directory: str, name: str) -> None:
    Path(directory, name).write_text(str(os.getpid()))
    while True:
        time.sleep(0)  # computes


@activity.defn(executor="process", retry=Retry(first_interval="10ms", maximum_attempts=2))
def beat(count: int) -> tuple[Any, ...]:
    if activity.info().attempt == 2:
        return activity.last_heartbeat()
    for number in range(count):
        activity.heartbeat(number, "rows")
    raise ConnectionError("the line is down")


@activity.defn(executor="process", heartbeat_timeout="300ms", retry=ONCE)
def silent(directory: str) -> None:
    activity.heartbeat(1)
    spin.fn(directory, "silent")


@activity.defn(executor="process", timeout="60s", retry=ONCE)
def later(directory: str) -> str:
    answer = activity.complete_later()
    Path(directory, "token").write_text(answer.text)
    return answer.result


@activity.defn(executor="process", retry=ONCE)
def asks_for(what: str) -> None:
    if what == "client":
        activity.client()
    else:
        activity.stream("words")


@workflow.defn
async def adds(count: int) -> list[Sum]:
    calls = (add([Task(number), Task(1)], start=10) for number in range(count))
    return list(await asyncio.gather(*calls))


@workflow.defn
async def dies(directory: str, how: str) -> int:
    return await die_once(directory, how)


@workflow.defn
async def fails() -> int:
    try:
        await refuse(5)
    except TooLarge as error:
        return error.number
    return 0


@workflow.defn
async def beats() -> list[Any]:
    return list(await beat(3))


@workflow.defn
async def times_out(directory: str) -> str:
    try:
        await spin.options(timeout="1s")(directory, "spins")
    except ActivityTimedOut:
        return "timed out"
    return ""


@workflow.defn
async def is_silent(directory: str) -> str:
    try:
        await silent(directory)
    except ActivityTimedOut as error:
        return str(error.cause)
    return ""


@workflow.defn
async def stops(directory: str) -> str:
    try:
        await spin.options(on_cancel="wait")(directory, "spins")
    except asyncio.CancelledError:
        return "stopped"
    return ""


@workflow.defn
async def waits(directory: str) -> str:
    return await later(directory)


@workflow.defn
async def asks(what: str) -> None:
    await asks_for(what)
