"""Orders that make use of everything: activities, short, long and failing; a step; timers; signals;
a saga that a cancellation undoes.

What is done outside is written down in a ledger, by idempotency key, as a payment service would
keep it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from perdure import activity, workflow

LEDGER = os.environ.get("LEDGER", "ledger")


def write_down(what: str, order_id: str) -> str:
    """Durably, before it answers."""
    key = activity.idempotency_key()
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{what} {order_id} {key}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    return key


@dataclass
class Plan:
    """What an order goes through.

    Attributes:
        confirmations: signals that it waits for.
        pause_ms: of its timer.
        fails: the answer to its first charge is lost.
        is_slow: its delivery takes longer than two seconds: the attempt is leased.
    """

    confirmations: int = 1
    pause_ms: int = 200
    fails: bool = False
    is_slow: bool = False


@activity.step
async def reserve(order_id: str) -> str:
    return f"reserved for {order_id}"


@activity.defn(timeout="20s", retry=activity.Retry(first_interval="200ms", maximum_interval="2s"))
def charge(order_id: str, fails: bool) -> str:
    key = write_down("charge", order_id)
    if fails and activity.info().attempt == 1:
        raise ConnectionError("the answer was lost")
    return key


@activity.defn(timeout="20s", retry=activity.Retry(first_interval="200ms", maximum_interval="2s"))
def refund(order_id: str) -> str:
    return write_down("refund", order_id)


@activity.defn(timeout="20s", retry=activity.Retry(first_interval="200ms", maximum_interval="2s"))
def deliver(order_id: str, is_slow: bool) -> str:
    if is_slow:
        time.sleep(3)
    return write_down("deliver", order_id)


@workflow.defn
class ChaosOrder:
    def __init__(self, plan: Plan) -> None:
        self.confirmations = 0
        self.state = "new"

    @workflow.run
    async def process(self, plan: Plan) -> str:
        order_id = workflow.info().workflow_id
        await reserve(order_id)
        async with workflow.saga() as saga:
            saga.compensate(refund, order_id)
            key = await charge(order_id, plan.fails)
            self.state = "charged"
            await workflow.wait_until(lambda: self.confirmations >= plan.confirmations)
            self.state = "confirmed"
            await workflow.sleep(f"{plan.pause_ms}ms")
            await deliver(order_id, plan.is_slow)
        self.state = "delivered"
        return key

    @workflow.signal
    def confirm(self) -> None:
        self.confirmations += 1

    @workflow.view
    def status(self) -> str:
        return f"{self.state}, {self.confirmations} confirmations"
