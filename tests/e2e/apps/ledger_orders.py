"""Orders whose charges are written down outside, by idempotency key; served by `perdure dev` and
killed at random."""

from __future__ import annotations

import os
from dataclasses import dataclass

from perdure import activity, workflow

LEDGER = os.environ.get("LEDGER", "ledger")


def write_down(line: str) -> None:
    """As a payment service would keep it: durably, before it answers."""
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


@dataclass
class Receipt:
    key: str
    cents: int


@activity.step
async def reserve(order_id: str) -> str:
    return f"reserved for {order_id}"


@activity.defn(timeout="10s", retry=activity.Retry(first_interval="100ms"))
def charge(order_id: str, cents: int) -> Receipt:
    key = activity.idempotency_key()
    write_down(f"charge {order_id} {key} {cents}")
    if activity.info().attempt % 3 == 1 and cents % 5 == 0:
        raise ConnectionError("the answer was lost")
    return Receipt(key, cents)


@activity.defn(timeout="10s")
async def send(order_id: str) -> str:
    write_down(f"send {order_id} {activity.idempotency_key()} 0")
    return "sent"


@workflow.defn
class LedgerOrder:
    def __init__(self, cents: int) -> None:
        self.is_confirmed = False
        self.receipt: Receipt | None = None

    @workflow.run
    async def process(self, cents: int) -> str:
        order_id = workflow.info().workflow_id
        await reserve(order_id)
        self.receipt = await charge(order_id, cents)
        await workflow.wait_until(lambda: self.is_confirmed)
        await workflow.sleep("200ms")
        await send(order_id)
        return self.receipt.key

    @workflow.signal
    def confirm(self) -> None:
        self.is_confirmed = True

    @workflow.view
    def status(self) -> str:
        return "charged" if self.receipt else "new"
