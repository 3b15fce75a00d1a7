"""A client process of the chaos run: starts orders, confirms them, cancels some, waits for the end
of each; never gives up.

A request that nobody answers is sent again under the same request id. What was acknowledged is
written to the journal, a JSON object a line, when the answer has come, and what became of each
order.

    python -m tests.chaos.load URL JOURNAL SEED SECONDS RATE
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perdure.client.address import transport_of
from perdure.client.ports import Transport
from perdure.errors import EngineUnavailable, InfrastructureError
from perdure.model import commands as cm
from perdure.model.replies import Accepted, AnyReply, AskAgain, Closed, Refused
from tests.chaos.apps.chaos_orders import Plan

ANSWER_S = 5.0
TYPE = "ChaosOrder"


class Journal:
    """The observations of this client."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)

    def write(self, **line: Any) -> None:
        self._file.write(json.dumps({"at": round(time.time(), 3), **line}) + "\n")


class Shop:
    """One client with many orders.

    Args:
        transport: carries requests.
        journal: takes what was answered.
    """

    def __init__(self, transport: Transport, journal: Journal) -> None:
        self._transport = transport
        self._journal = journal

    async def ask(self, command: cm.Request, timeout_s: float = ANSWER_S) -> AnyReply:
        """The answer, however often it has to be asked."""
        asked = 0
        while True:
            asked += 1
            begun = time.monotonic()
            try:
                reply = await self._transport.request(command, timeout_s)
            except (EngineUnavailable, InfrastructureError) as error:
                self._journal.write(again=command.request_id, asked=asked, why=str(error)[:200])
                await asyncio.sleep(max(0.0, 0.5 - (time.monotonic() - begun)))
                continue
            if isinstance(reply, AskAgain):
                continue
            self._note(command, reply)
            return reply

    async def order(self, number: int, plan: Plan, dice: random.Random, *, is_cancelled: bool) -> None:
        """One order, to its end."""
        workflow_id = f"order-{number}"
        start = cm.StartWorkflow(
            workflow_id,
            request_id=f"{workflow_id}/start",
            type=TYPE,
            input=json.dumps([asdict(plan)]).encode(),
            if_closed="refuse",
        )
        reply = await self.ask(start)
        if not isinstance(reply, Accepted):
            return
        for each in range(plan.confirmations):
            await asyncio.sleep(dice.uniform(0, 1.5))
            if is_cancelled and each == 0:
                await self.ask(
                    cm.CancelWorkflow(
                        workflow_id, request_id=f"{workflow_id}/cancel", reason="changed my mind"
                    )
                )
                continue
            await self.ask(
                cm.SignalWorkflow(workflow_id, request_id=f"{workflow_id}/confirm-{each}", name="confirm")
            )
        closed = await self.ask(cm.AwaitWorkflow(workflow_id, reply.run_id, f"{workflow_id}/await"), 15.0)
        assert isinstance(closed, Closed), closed
        key = json.loads(closed.result) if closed.result else ""
        self._journal.write(closed=workflow_id, run_id=closed.run_id, status=closed.status, key=key)

    def _note(self, command: cm.Request, reply: AnyReply) -> None:
        if isinstance(reply, Accepted):
            acknowledged = {
                "request_id": command.request_id,
                "workflow_id": command.workflow_id,
                "run_id": reply.run_id,
            }
            self._journal.write(acknowledged=acknowledged, is_new=reply.is_new)
        elif isinstance(reply, Refused):
            self._journal.write(refused=command.request_id, code=reply.code, message=reply.message)


def plan_of(dice: random.Random) -> Plan:
    return Plan(
        confirmations=dice.choice((1, 1, 1, 3)),
        pause_ms=dice.choice((50, 300, 1_000, 4_000)),
        fails=dice.random() < 0.2,
        is_slow=dice.random() < 0.1,
    )


async def run(url: str, journal: Journal, seed: int, seconds: float, rate: float) -> None:
    dice = random.Random(seed)
    transport = transport_of(url)
    shop = Shop(transport, journal)
    until, number = time.monotonic() + seconds, 0
    orders: set[asyncio.Task[None]] = set()
    all_orders: list[asyncio.Task[None]] = []
    while time.monotonic() < until:
        number += 1
        its_dice = random.Random(dice.randrange(1 << 60))
        order = asyncio.create_task(
            shop.order(number, plan_of(its_dice), its_dice, is_cancelled=its_dice.random() < 0.15)
        )
        orders.add(order)
        all_orders.append(order)
        order.add_done_callback(orders.discard)
        await asyncio.sleep(dice.expovariate(rate))
    journal.write(started=number, still_open=len(orders))
    await asyncio.gather(*all_orders)
    journal.write(ended=number)
    await transport.close()


def main() -> None:
    url, journal, seed, seconds, rate = sys.argv[1:]
    asyncio.run(run(url, Journal(Path(journal)), int(seed), float(seconds), float(rate)))


if __name__ == "__main__":
    main()
