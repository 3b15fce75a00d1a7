"""The synchronous client is the asynchronous one, method by method."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.client import (
    ActivityHandle,
    Client,
    Handle,
    ScheduleHandle,
    SyncActivityHandle,
    SyncClient,
    SyncHandle,
    SyncScheduleHandle,
    SyncUpdateHandle,
    UpdateHandle,
)
from perdure.embedded import Platform
from perdure.errors import UsageError, WorkflowNotFound
from perdure.registry import Registry

PAIRS = [
    (Client, SyncClient),
    (Handle, SyncHandle),
    (UpdateHandle, SyncUpdateHandle),
    (ScheduleHandle, SyncScheduleHandle),
    (ActivityHandle, SyncActivityHandle),
]


def methods_of(kind: type[Any]) -> dict[str, Callable[..., Any]]:
    return {
        name: getattr(kind, name)
        for name in dir(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    }


def translated(annotation: str) -> str:
    """What the synchronous face says instead."""
    for one, other in (
        ("AsyncIterator", "Iterator"),
        ("StreamReader[", "Iterator["),
        ("Handle[", "SyncHandle["),
        ("UpdateSyncHandle[", "SyncUpdateHandle["),
        ("ScheduleHandle", "SyncScheduleHandle"),
        ("ActivityHandle", "SyncActivityHandle"),
        ("Connecting", "SyncClient"),
    ):
        annotation = annotation.replace(one, other)
    return "SyncClient" if annotation == "Client" else annotation


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS)
def test_every_method_has_its_like_with_the_same_signature(
    asynchronous: type[Any], synchronous: type[Any]
) -> None:
    wanted, found = methods_of(asynchronous), methods_of(synchronous)
    assert set(found) == set(wanted)
    for name, method in wanted.items():
        one, other = inspect.signature(method), inspect.signature(found[name])
        assert list(other.parameters.values()) == list(one.parameters.values()), name
        assert other.return_annotation == translated(one.return_annotation), name
        assert inspect.getdoc(found[name]) == f"See `{asynchronous.__name__}.{name}`."
        assert not inspect.iscoroutinefunction(found[name])


@workflow.defn
class Counter:
    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def main(self, until: int) -> int:
        await workflow.wait_until(lambda: self.count >= until)
        return self.count

    @workflow.signal
    def add(self, number: int) -> None:
        self.count += number

    @workflow.query
    def is_above(self, number: int) -> bool:
        return self.count > number

    @workflow.view
    def shown(self) -> int:
        return self.count


def test_the_sync_client_can_do_everything_without_asyncio(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    with Platform(Registry.of([Counter], [], []), url), SyncClient.connect(url) as client:
        counter = client.start("a", Counter.main, 3)
        counter.signal(Counter.add, 1)
        assert counter.query(Counter.is_above, 0)
        assert counter.query_by_name("is_above", [1]) is False
        assert counter.view(Counter.shown) == 1
        counter.signal_by_name("add", [2])
        assert counter.result() == 3
        assert list(counter.watch(Counter.shown)) == [3]
        assert client.get("a", Counter.main).result() == client.get_by_name("a").result() == 3
        assert client.options(delay="1ms").execute("b", Counter.main, 0) == 0
        client.start_by_name("c", "Counter", [1]).cancel("enough")
        client.options(attributes={"table": 7}).start("d", Counter.main, 1).terminate()
        assert client.describe("d").attributes == {"table": 7}
        assert client.state("d").status == "terminated"
        assert len(client.history("d")) == 2
        assert client.decode_view(client.state("a"), int) == 3
        assert [state.workflow_id for state in client.list(type="Counter")] == ["d", "c", "b", "a"]
        with pytest.raises(WorkflowNotFound):
            client.state("nobody")
    client.close()


def test_an_address_that_is_not_understood_is_refused_and_leaves_no_thread() -> None:
    with pytest.raises(UsageError, match="nonsense"):
        SyncClient.connect("nonsense://x")
    assert not [thread.name for thread in threading.enumerate() if thread.name == "perdure-client-loop"]
