"""Members with a name of their own, and signals without a handler."""

from __future__ import annotations

from typing import assert_type

from perdure import workflow
from perdure.client import Client


@workflow.defn
class Shop:
    @workflow.run
    async def process(self) -> None: ...

    @workflow.signal(name="payment.succeeded")
    async def paid(self, cents: int) -> None: ...

    @workflow.query(name="paid-so-far")
    def so_far(self) -> int:
        return 1

    @workflow.update(name="change")
    async def change(self, to: str) -> bytes:
        return to.encode()

    @workflow.on_signal
    def other(self, name: str, *args: object) -> None:
        self.other("x", 1)

    @workflow.query(named="x")  # BAD
    def odd(self) -> int:
        return 1


async def use(client: Client) -> None:
    shop = await client.start("s-1", Shop.process)
    await shop.signal(Shop.paid, 5)
    await shop.signal(Shop.paid, "5")  # BAD
    assert_type(await shop.query(Shop.so_far), int)
    assert_type(await shop.update(Shop.change, "x"), bytes)
    await shop.update(Shop.change)  # BAD
