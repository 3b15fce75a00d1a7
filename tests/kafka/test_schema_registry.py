"""Against Apicurio, which speaks Confluent's API (tests/kafka/schema_registry.py); a registry that
misbehaves is in tests/unit."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from perdure import activity, workflow
from perdure.adapters.kafka.admin.admin import Topics
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.namespace.metadata import ids_of, read_facts
from perdure.adapters.kafka.status import Status
from perdure.cli import main
from perdure.codec.avro import HEADER, STATE
from perdure.codec.frames import FRAMED
from perdure.codec.records import hash_of
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.errors import InfrastructureError
from perdure.registry import Registry
from perdure.schemas import NAMES, current
from tests.kafka.distribution import KafkaUnavailable
from tests.kafka.schema_registry import SchemaRegistry, running_registry

FASTAVRO: Any = fastavro
END: Any = KafkaError._PARTITION_EOF
_numbers = itertools.count(1)


@activity.defn
async def bake(what: str) -> str:
    return f"{what}, baked"


@workflow.defn
class Bakery:
    def __init__(self) -> None:
        self.is_collected = False

    @workflow.run
    async def process(self) -> str:
        baked = await bake("bread")
        await workflow.wait_until(lambda: self.is_collected)
        return baked

    @workflow.signal
    def collected(self) -> None:
        self.is_collected = True

    @workflow.view
    def status(self) -> str:
        return "collected" if self.is_collected else "on the shelf"


SERVED = Registry.of(workflows=[Bakery], activities=[bake])


@pytest.fixture(scope="module")
def registry() -> Iterator[SchemaRegistry]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(running_registry())
        except KafkaUnavailable as reason:
            if os.environ.get("PERDURE_REQUIRE_KAFKA") == "1":
                raise
            pytest.skip(f"no schema registry: {reason}")


def silent(_: str, /, **where: str | int) -> None:
    pass


class Space:
    """A namespace with a registry."""

    def __init__(self, bootstrap: str, registry: SchemaRegistry, state_dir: Path) -> None:
        self.name = f"framed-{next(_numbers)}"
        self.plain = {"bootstrap.servers": bootstrap}
        self.settings = {**self.plain, "schema.registry.url": registry.url}
        self._registry = registry
        self._state_dir = state_dir

    def apply(self) -> dict[str, int]:
        """The ids that are recorded."""
        topics = Topics(self.name, self.settings)
        topics.apply(topics.plan(partitions=1))
        return ids_of(read_facts(self.plain, f"{self.name}.meta"))

    def platform(self, settings: dict[str, str]) -> KafkaPlatform:
        """An engine and a worker, whose engine begins with an empty store."""
        engine = EngineOptions(f"engine-{next(_numbers)}", self._state_dir / str(next(_numbers)))
        return KafkaPlatform(
            SERVED, Place(self.name, settings), engine=engine, worker=WorkerOptions(), report=silent
        )

    def read(self, part: str) -> list[Any]:
        """Every record of a topic."""
        consumer = Consumer(
            {**self.plain, "group.id": "stranger", "enable.partition.eof": True, "fetch.wait.max.ms": 20}
        )
        try:
            topic = f"{self.name}.{part}"
            partitions = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
            found, ended = list[Any](), 0
            while ended < len(partitions):
                for message in consumer.consume(100, 0.1):
                    error: Any = message.error()
                    assert error is None or error.code() == END, error
                    ended += error is not None
                    found += [message] if error is None else []
            return found
        finally:
            consumer.close()

    def as_a_stranger(self, message: Any) -> Any:
        """As Confluent's AvroDeserializer does it: nothing of ours, neither code nor header."""
        value = message.value()
        assert value[0] == 0, value[:5]
        schema = json.loads(
            self._registry.ask("GET", f"/schemas/ids/{int.from_bytes(value[1:5], 'big')}")["schema"]
        )
        data = io.BytesIO(value[5:])
        record = FASTAVRO.schemaless_reader(data, FASTAVRO.parse_schema(schema), None)
        assert not data.read()
        return record


@pytest.fixture
def space(kafka: str, registry: SchemaRegistry, tmp_path: Path) -> Space:
    return Space(kafka, registry, tmp_path)


def is_framed(message: Any) -> bool:
    says_so: bool = dict(message.headers())[HEADER].endswith(FRAMED)
    assert says_so == (
        message.value()[0] == 0 and len(message.value()) > 5 and message.value()[1:3] == b"\0\0"
    )
    return says_so


def served(platform: KafkaPlatform, workflow_id: str, *, is_new: bool) -> str:
    """A workflow is begun, or brought to its end."""
    return asyncio.run(_served(platform, workflow_id, is_new=is_new))


async def _served(platform: KafkaPlatform, workflow_id: str, *, is_new: bool) -> str:
    async with platform.client() as client:
        if is_new:
            handle = await client.start(workflow_id, Bakery.process)
            assert await handle.view(Bakery.status) == "on the shelf"
            return ""
        handle = client.get(workflow_id, Bakery.process)
        await handle.signal(Bakery.collected)
        return str(await handle.result())


def test_apply_registers_every_schema_and_records_its_id(space: Space, registry: SchemaRegistry) -> None:
    ids = space.apply()
    assert set(ids) == {current(name).header.decode() for name in NAMES}
    subjects = registry.ask("GET", "/subjects")
    for part, name in {**{name: name for name in NAMES if name != "tasks"}, "tasks.default": "tasks"}.items():
        assert f"{space.name}.{part}-value" in subjects
        found = json.loads(
            registry.ask("GET", f"/schemas/ids/{ids[current(name).header.decode()]}")["schema"]
        )
        assert found == current(name).parsed()
    assert space.apply() == ids
    assert Topics(space.name, space.settings).check() == []


def test_a_schema_that_is_not_compatible_is_refused_with_the_difference_and_nothing_is_made(
    space: Space, registry: SchemaRegistry
) -> None:
    theirs = current("state").parsed()
    theirs["fields"][0] = {"name": "workflow_id", "type": "long"}
    subject = f"/{space.name}.state-value"
    registry.ask("POST", f"/subjects{subject}/versions", {"schema": json.dumps(theirs)})
    registry.ask("PUT", f"/config{subject}", {"compatibility": "BACKWARD"})
    with pytest.raises(InfrastructureError, match="the registry would reject schemas") as caught:
        space.apply()
    assert f"{space.name}.state-value: the registry at {registry.url} has version 1" in str(caught.value)
    assert 'WorkflowState.workflow_id was "long" and is "string"' in str(caught.value)
    assert len(Topics(space.name, space.plain).plan().missing) > 5


def test_another_program_reads_states_and_events_by_the_registry_alone(space: Space) -> None:
    space.apply()
    with space.platform(space.settings) as platform:
        served(platform, "bread-1", is_new=True)
        assert served(platform, "bread-1", is_new=False) == "bread, baked"
    for part in ("commands", "events", "state", "replies", "tasks.default"):
        assert {is_framed(message) for message in space.read(part)} == {True}, part
    states = [space.as_a_stranger(message) for message in space.read("state")]
    assert [state["workflow_id"] for state in states] == ["bread-1"] * len(states)
    assert (states[0]["type"], states[-1]["status"], states[-1]["view"]) == (
        "Bakery",
        "completed",
        b'"collected"',
    )
    records = [space.as_a_stranger(message) for message in space.read("events")]
    ids = [record["first_event_id"] for record in records]
    assert ids[0] == 1
    assert ids == sorted(set(ids))


def test_other_headers_stay_and_nothing_is_framed_twice(space: Space) -> None:
    space.apply()
    clients = PlainClients(space.name, "c", space.settings)
    clients.framing.load()
    producer = clients.producer(lambda _: None, lambda _error, _message: None)
    trace, theirs = ("traceparent", b"00-1"), ("perdure-schema", b"events/9/feed")
    framed = (HEADER, STATE.schema.header + FRAMED)
    several: list[Any] = [[trace, STATE.header, trace], [framed], [theirs], [trace], None]
    for headers in several:
        producer.produce(f"{space.name}.state", b"\2avro", "w", 0, headers=headers)
    producer.produce(f"{space.name}.state", None, "w", 0, headers=[STATE.header])
    assert producer.flush(20) == 0
    found = [(message.headers(), message.value()) for message in space.read("state")]
    assert found[0][0] == [trace, framed, trace]
    assert (found[0][1][0], found[0][1][5:]) == (0, b"\2avro")
    assert found[1:5] == [
        ([framed], b"\2avro"),
        ([theirs], b"\2avro"),
        ([trace], b"\2avro"),
        (None, b"\2avro"),
    ]
    assert found[5] == ([STATE.header], None)


def test_it_is_switched_on_and_off_while_workflows_run(space: Space) -> None:
    space.apply()
    for index, settings in enumerate((space.plain, space.settings, space.plain, space.settings)):
        with space.platform(settings) as platform:
            served(platform, f"bread-{index}", is_new=True)
            if index:
                assert served(platform, f"bread-{index - 1}", is_new=False) == "bread, baked"
    events = space.read("events")
    assert {is_framed(message) for message in events} == {True, False}
    chained = dict[str, bytes]()
    for message in events:  # the hash is of the Avro, framed or not
        avro = message.value()[5:] if is_framed(message) else message.value()
        record = FASTAVRO.schemaless_reader(
            io.BytesIO(avro), FASTAVRO.parse_schema(current("events").parsed()), None
        )
        assert record["previous_hash"] == chained.get(record["workflow_id"], b"")
        chained[record["workflow_id"]] = hash_of(avro)
    assert len(chained) == 4


def test_what_runs_never_asks_the_registry_and_what_starts_waits_for_it_with_the_reason(
    space: Space, registry: SchemaRegistry
) -> None:
    space.apply()
    with space.platform(space.settings) as platform:
        registry.kill()
        served(platform, "bread-1", is_new=True)
        assert served(platform, "bread-1", is_new=False) == "bread, baked"
    assert {is_framed(message) for message in space.read("state")} == {True}

    with pytest.raises(
        InfrastructureError, match=f"the schema registry at {registry.url} does not respond: Connection"
    ):
        Topics(space.name, space.settings).check()
    clients, status = EngineClients(space.name, "e", space.settings), Status(silent)
    waits = list[str]()

    def registry_comes_back(_: float) -> bool:
        waits.append(status.waiting_for)
        registry.start()
        return len(waits) > 1

    # one that came back empty has other schemas under these ids: that is said, and does not pass by
    # waiting
    with pytest.raises(InfrastructureError, match="has no schema under") as caught:
        clients.framing.open(status, registry_comes_back)
    assert "does not respond: ConnectionRefusedError" in waits[0]
    assert "Apply again to register there" in str(caught.value)
    space.apply()
    clients.framing.open(status, lambda _: True)
    assert status.waiting_for == ""
    assert clients.framing.framed(b"x", STATE.schema.header) is not None


def test_without_ids_in_the_meta_topic_an_engine_waits_and_says_what_to_do(
    space: Space, registry: SchemaRegistry
) -> None:
    plain = Topics(space.name, space.plain)
    plain.apply(plain.plan(partitions=1))
    status = Status(silent)
    with pytest.raises(
        InfrastructureError,
        match=r"stopped while waiting: .*`perdure topics apply --set schema.registry.url=…`",
    ):
        EngineClients(space.name, "e", space.settings).framing.open(status, lambda _: True)
    (fault, *_) = Topics(space.name, space.settings).check()
    assert fault.endswith("is not registered: run `perdure topics apply`")


def test_from_the_command_line(
    space: Space, registry: SchemaRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--kafka", space.plain["bootstrap.servers"], "--namespace", space.name)
    for command in ("apply", "check"):
        with pytest.raises(SystemExit) as ended:
            main(["topics", command, *where, "--set", f"schema.registry.url={registry.url}"])
        assert not ended.value.code, capsys.readouterr()
    assert ids_of(read_facts(space.plain, f"{space.name}.meta"))
