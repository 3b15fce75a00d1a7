"""A workflow that tells others, by records in its own transactions."""

from __future__ import annotations

from perdure import activity, workflow


@activity.step
async def pack(parcel: str) -> str:
    return f"{parcel} in a box"


@workflow.defn
async def send(parcel: str, topic: str, times: int) -> str:
    for number in range(times):
        await pack(parcel)
        await workflow.produce(
            topic, {"parcel": parcel, "number": number}, key=parcel, cloudevent="parcel.packed"
        )
    return parcel
