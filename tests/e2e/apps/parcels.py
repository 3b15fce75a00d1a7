"""Parcels that are carried from place to place until a recipient signs."""

from __future__ import annotations

from perdure import workflow


@workflow.defn
class Parcel:
    def __init__(self) -> None:
        self.place = "shop"
        self.is_signed = False

    @workflow.run
    async def carry(self) -> str:
        await workflow.wait_until(lambda: self.is_signed)
        return self.place

    @workflow.signal
    def move(self, place: str) -> None:
        self.place = place

    @workflow.signal
    def sign(self) -> None:
        self.is_signed = True

    @workflow.view
    def where(self) -> str:
        return self.place
