"""A provider may connect a client to the platform that opens it, also when the file is new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import activity, workflow
from perdure.client import Client, SyncClient
from perdure.embedded import Platform
from perdure.registry import Registry


class Office:
    def __init__(self, client: Client) -> None:
        self.client = client

    @activity.defn(name="Office.count")
    async def count(self) -> int:
        return len(await self.client.list())


@workflow.defn(name="Counts")
async def counts() -> int:
    return await Office.count()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_provider_connects_a_client_to_its_own_platform(is_there: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    if is_there:
        with Platform(Registry.of([counts], []), url):
            pass

    async def office() -> AsyncIterator[Office]:
        async with Client.connect(url) as client:
            yield Office(client)

    with (
        Platform(Registry.of([counts], [Office.count], [activity.Provider(office)]), url),
        SyncClient.connect(url) as client,
    ):
        assert client.execute("counts-1", counts) == 1
