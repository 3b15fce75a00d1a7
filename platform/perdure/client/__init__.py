"""The client: start runs, signal, query, cancel, read their state.

    async with Client.connect("sqlite:///app.db") as client:
        order = await client.start("order-1", Order.process, "burrata")
        await order.signal(Order.picked_up)
        print(await order.view(Order.status), await order.result())

May import `codec`, `core` and the packages below them; adapters are found by the scheme of the
address (`address.py`). Start reading at `client.py`; `sync.py` is the same without asyncio.
"""

from perdure.client.activity_handle import ActivityHandle
from perdure.client.client import Client, Connecting
from perdure.client.description import (
    Description,
    PendingActivity,
    PendingOther,
    PendingRun,
    PendingTimer,
    PendingUpdate,
)
from perdure.client.handle import Handle
from perdure.client.schedules import ScheduleDescription, ScheduleHandle
from perdure.client.sync import (
    SyncActivityHandle,
    SyncClient,
    SyncHandle,
    SyncScheduleHandle,
    SyncUpdateHandle,
)
from perdure.client.updates import UpdateHandle

__all__ = [
    "ActivityHandle",
    "Client",
    "Connecting",
    "Description",
    "Handle",
    "PendingActivity",
    "PendingOther",
    "PendingRun",
    "PendingTimer",
    "PendingUpdate",
    "ScheduleDescription",
    "ScheduleHandle",
    "SyncActivityHandle",
    "SyncClient",
    "SyncHandle",
    "SyncScheduleHandle",
    "SyncUpdateHandle",
    "UpdateHandle",
]
