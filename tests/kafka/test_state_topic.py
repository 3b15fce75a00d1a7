"""`<namespace>.state` as another program reads it: a plain consumer, the published Avro schema, and
nothing of perdure."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro as _fastavro

from perdure import activity, workflow
from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.registry import Registry
from tests.kafka.namespace import ROOT, Namespace

fastavro: Any = _fastavro
SCHEMA = fastavro.parse_schema(json.loads((ROOT / "schemas/perdure/schemas/v1/state.avsc").read_text()))


@dataclass
class Look:
    water: str
    is_on: bool = False


@activity.defn
async def boil(litres: float) -> str:
    if litres > 2:
        raise activity.RetryAfter("1 hour", "it does not fit")
    return "hot"


@workflow.defn
class Kettle:
    def __init__(self, litres: float) -> None:
        self.look = Look("cold")
        self.touched = 0

    @workflow.run
    async def run(self, litres: float) -> str:
        await workflow.wait_until(lambda: self.look.is_on, timeout="1 day")
        self.look.water = await boil(litres)
        return self.look.water

    @workflow.signal
    def switch_on(self) -> None:
        self.look.is_on = True

    @workflow.signal
    def touch(self) -> None:
        self.touched += 1

    @workflow.view
    def show(self) -> Look:
        return self.look


def records(namespace: Namespace) -> list[tuple[str, dict[str, Any] | None]]:
    """Every record so far: its key, and its value as the schema says."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    for record in namespace.read("state"):
        value = record.value()
        decoded = fastavro.schemaless_reader(io.BytesIO(value), SCHEMA, None) if value is not None else None
        found.append((record.key().decode(), decoded))
    return found


def test_a_plain_consumer_sees_each_change_of_what_is_public_and_nothing_else(
    namespace: Namespace, tmp_path: Path
) -> None:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    registry = Registry.of([Kettle], [boil])

    async def day() -> tuple[str, str]:
        async with (
            asyncio.timeout(90),
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
        ):
            small = await client.start("kettle/small", Kettle.run, 1.0)
            for _ in range(5):
                await small.signal(Kettle.touch)
            await small.signal(Kettle.switch_on)
            assert await small.result() == "hot"
            large = await client.start("kettle-large", Kettle.run, 3.0)
            await large.signal(Kettle.switch_on)
            while not [
                wait for wait in (await client.state("kettle-large")).waits if wait.name and wait.due_at
            ]:
                await asyncio.sleep(0.05)
            return small.run_id, large.run_id

    with KafkaPlatform(registry, place, engine=EngineOptions(state_dir=tmp_path), worker=WorkerOptions()):
        small_id, large_id = asyncio.run(day())

    told = records(namespace)
    table = dict(told)
    assert {key: state["run_id"] for key, state in table.items() if state} == {
        "kettle/small": small_id,
        "kettle-large": large_id,
    }
    small = [state for key, state in told if key == "kettle/small" and state]
    assert [(state["status"], json.loads(state["view"])) for state in small] == [
        ("running", {"water": "cold", "is_on": False}),
        ("running", {"water": "cold", "is_on": True}),
        ("completed", {"water": "hot", "is_on": True}),
    ], "five signals that change nothing public are five events, and no record here"
    assert [[(wait["kind"], wait["name"]) for wait in state["waits"]] for state in small] == [
        [("timer", "")],
        [("activity", "boil")],
        [],
    ]
    first, last = small[0], small[-1]
    assert first["type"] == "Kettle"
    assert first["started_at"] == last["started_at"] <= last["updated_at"] == last["closed_at"]
    assert json.loads(last["result"]) == "hot"
    assert last["history_length"] == sum(
        len(record.events) for _, record in namespace.events() if record.run_id == small_id
    )
    assert last["input_partition"] == namespace.place_of("kettle/small")
    assert last["input_offset"] > first["input_offset"] >= 0

    large = table["kettle-large"]
    assert large is not None
    (wait,) = large["waits"]
    assert (large["status"], wait["name"], wait["attempt"]) == ("running", "boil", 1)
    assert 3500 < (wait["due_at"] - large["updated_at"]).total_seconds() <= 3600, (
        "when the next attempt is made"
    )
