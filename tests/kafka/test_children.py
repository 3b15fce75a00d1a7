"""Children on a real broker: over partitions and engines, through kills, each once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.adapters.kafka.client.recent_state import recent_state
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.client import Client
from perdure.errors import InfrastructureError
from perdure.model import events as ev
from perdure.model.states import Status
from tests.kafka.apps import family
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.processes import engine

APP: Final = "tests/kafka/apps/family.py"
PARENTS: Final = 6
CHILDREN: Final = 10


def test_parents_and_children_exchange_answers_once_though_engines_are_killed(
    namespace: Namespace, tmp_path: Path
) -> None:
    names, began = [f"p-{number}" for number in range(PARENTS)], time.time()
    assert len({namespace.place_of(f"{names[0]}/leaf/{number}") for number in range(CHILDREN)}) > 2

    def events(kind: type[Any]) -> list[tuple[str, Any]]:
        return [
            (record.workflow_id, event)
            for _, record in namespace.events()
            for event in record.events
            if isinstance(event, kind)
        ]

    async def start() -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            for name in names:
                await client.options(memo={"of": name}).start(name, family.parent, name, CHILDREN)

    async def end() -> tuple[list[Any], dict[str, str], str]:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(120),
        ):
            told = [await client.get(name, family.parent).result() for name in names]
            for name in names:
                found = await client.describe(name)
                assert (found.memo, found.details) == ({"of": name}, f"done for {name}")
                assert (await client.describe(f"{name}/abandoned")).memo == {"of": name}
            abandoned = client.get(f"{names[0]}/abandoned", family.Sleeper.run)
            await abandoned.signal(family.Sleeper.wake)
            last = str(await abandoned.result())

            async def status(workflow_id: str) -> Status:
                return (await client.describe(workflow_id)).status

            while [await status(f"{name}/stopped") for name in names] != [Status.CANCELLED] * PARENTS:
                await asyncio.sleep(0.1)
            return told, {each: await status(f"{each}/abandoned") for each in names[1:]}, last

    with engine(APP, namespace, tmp_path / "one"), engine(APP, namespace, tmp_path / "two") as second:
        asyncio.run(start())
        wait_until(lambda: len(events(ev.ChildStarted)) >= CHILDREN, 60)
        second.kill()
        wait_until(lambda: len(events(ev.ChildCompleted)) >= 2 * CHILDREN, 60)
    with engine(APP, namespace, tmp_path / "three"):  # without the state of the others
        told, abandoned, last = asyncio.run(end())
    clients = PlainClients(namespace.name, "test", {"bootstrap.servers": namespace.bootstrap})
    recent = recent_state(clients, f"{names[0]}/leaf/1", began, 30)
    assert (recent.status, recent.parent) == (Status.COMPLETED, names[0])
    with pytest.raises(InfrastructureError, match="has no closed state of nobody"):
        recent_state(clients, "nobody", began, 0.5)
    assert told == [[str(sum(range(CHILDREN))), name, "less than nothing"] for name in names]
    assert set(abandoned.values()) == {Status.RUNNING}
    assert last == names[0]
    each_once = Counter((name, event.number) for name, event in events(ev.ChildStarted))
    assert set(each_once.values()) == {1}
    assert len(each_once) == PARENTS * (CHILDREN + 4)
    ran = Counter(workflow_id for workflow_id, _ in events(ev.WorkflowStarted))
    assert set(ran.values()) == {1}
    assert len(events(ev.ChildCompleted)) == PARENTS * (CHILDREN + 1)
    assert len(events(ev.ChildFailed)) == PARENTS
