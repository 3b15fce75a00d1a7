"""Hostile records on Kafka: each costs its sender a dead letter, and nobody else anything. On a
real broker, with a real engine."""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import cimpl

from perdure import activity, workflow
from perdure.adapters.kafka.engine.batch_writer import BatchWriter
from perdure.client import Client
from perdure.codec.avro import COMMANDS
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.errors import WorkflowFailed
from perdure.model import commands as cm
from perdure.model.dead_letters import DeadLetter
from perdure.registry import Registry
from tests.kafka.namespace import Namespace, wait_until

DIGITS = "9" * 5_000
ADDRESSES = [
    "dead-letter:x",
    "dead-letter:a/b/c",
    f"dead-letter:topic/1/{DIGITS}",
    "kafka:x",
    f"kafka:{DIGITS}:me",
    "kafka:99:me",
    "local:nobody",
    "workflow:child/run-1/1",
    f"workflow:child/run-1/{DIGITS}/other-0",
    "workflow:child/run-1/1/" + "w" * 100_000,
    "\0",
    "k" * 100_000,
]
ENDS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration]


def ending(number: int) -> None:
    raise ENDS[number]


@activity.defn(retry=activity.Retry(maximum_attempts=1))
def in_thread(number: int) -> None:
    ending(number)


@activity.step(retry=activity.Retry(maximum_attempts=1))
async def in_step(number: int) -> None:
    async def behind() -> None:
        ending(number)

    await asyncio.create_task(behind())


@activity.defn
async def echo(value: int) -> int:
    return value


@workflow.defn
class Box:
    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_until(lambda: self.total > 2)
        return await echo(self.total)

    @workflow.signal
    def add(self, value: int) -> None:
        self.total += value


@workflow.defn
async def ends(where: str, number: int) -> None:
    if where == "run":
        ending(number)
    if where == "thread":
        await in_thread(number)
    await in_step(number)


REGISTRY = Registry.of([Box, ends], [in_thread, in_step, echo])


@pytest.fixture
def platform(namespace: Namespace, tmp_path: Path) -> Iterator[KafkaPlatform]:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    with KafkaPlatform(
        REGISTRY, place, engine=EngineOptions(state_dir=tmp_path), worker=WorkerOptions()
    ) as platform:
        yield platform


async def box(client: Client, workflow_id: str) -> None:
    """A whole run of somebody else's."""
    handle = await client.start(workflow_id, Box.run)
    await handle.signal(Box.add, 3)
    assert await asyncio.wait_for(handle.result(), 60) == 3


def test_a_refused_change_is_a_dead_letter_when_its_client_no_longer_waits_and_else_logged(
    namespace: Namespace, platform: KafkaPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    old = int(time.time() * 1_000) - 60_000
    for number, at_ms in enumerate((old, 0)):
        signal = cm.SignalWorkflow("nobody", name=f"add-{number}", reply_to="kafka:0:client", request_id="r")
        namespace._producer.produce(
            f"{namespace.name}.commands",
            COMMANDS.encode(signal),
            "nobody",
            namespace.place_of("nobody"),
            headers=[COMMANDS.header],
            timestamp=at_ms,
        )
    namespace.flush()
    (letter,) = letters(namespace, 1)
    assert letter.reason == "refused"
    assert COMMANDS.decode(letter.value or b"", COMMANDS.header[1]).name == "add-0"  # type: ignore[union-attr]
    wait_until(lambda: "SignalWorkflow 'add-1' of kafka:0:client for workflow nobody" in caplog.text)


def others_go_on(namespace: Namespace) -> None:
    async def main() -> None:
        async with Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client:
            await asyncio.gather(*(box(client, f"other-{number}") for number in range(8)))

    asyncio.run(main())


def letters(namespace: Namespace, count: int) -> list[DeadLetter]:
    wait_until(lambda: len(namespace.dead_letters()) >= count, 60, lambda: str(namespace.dead_letters()))
    found = namespace.dead_letters()
    assert len(found) == count, found
    return found


def test_invalid_addresses_get_no_answer_and_refusals_without_a_reader_are_dead_letters(
    namespace: Namespace, platform: KafkaPlatform
) -> None:
    namespace.send(
        [cm.StartWorkflow(f"w-{n}", type="NoSuchType", reply_to=each) for n, each in enumerate(ADDRESSES)]
    )
    namespace.send(
        [
            cm.StartWorkflow("nobody", type="NoSuchType"),
            cm.SignalWorkflow("nobody", name="add"),
            cm.CancelWorkflow("nobody"),
        ]
    )
    namespace.send(
        [cm.AwaitWorkflow("other-0", request_id="r" * 500_000, reply_to=each) for each in ADDRESSES]
    )
    others_go_on(namespace)
    found = letters(namespace, len(ADDRESSES) + 3)
    assert {each.reason for each in found} == {"refused"}
    assert all(each.offset >= 0 and each.value for each in found), "as they were found: they can be retried"


def test_a_value_that_cannot_be_written_costs_its_command_only(
    namespace: Namespace, platform: KafkaPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Any = BatchWriter.write

    def writing(self: BatchWriter, producer: Any, batch: Any) -> None:
        if any(record.workflow_id.startswith("bad") for record, _ in batch.events):
            raise ValueError("a value that nobody can write")
        write(self, producer, batch)

    monkeypatch.setattr(BatchWriter, "write", writing)
    namespace.send(
        [cm.StartWorkflow(f"{kind}-{n}", type="Box") for n in range(5) for kind in ("bad", "good")]
    )
    others_go_on(namespace)
    found = letters(namespace, 5)
    assert {each.key for each in found} == {f"bad-{n}".encode() for n in range(5)}
    assert {(each.reason, each.message) for each in found} == {
        ("poisoned", "ValueError: a value that nobody can write")
    }


def test_headers_that_no_client_can_read_are_undecodable(
    namespace: Namespace, platform: KafkaPlatform
) -> None:
    put_with_header_of_bytes(namespace, COMMANDS.encode(cm.StartWorkflow("w", type="Box")))
    others_go_on(namespace)
    (letter,) = letters(namespace, 1)
    assert letter.reason == "undecodable"


@pytest.mark.parametrize("where", ["run", "thread", "step"])
def test_what_would_end_a_program_ends_a_run_or_an_attempt(
    namespace: Namespace, platform: KafkaPlatform, where: str
) -> None:
    async def main() -> None:
        async with Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client:
            for number in range(len(ENDS)):
                handle = await client.start(f"{where}-{number}", ends, where, number)
                with pytest.raises(WorkflowFailed):
                    await asyncio.wait_for(handle.result(), 60)

    asyncio.run(main())
    others_go_on(namespace)


def put_with_header_of_bytes(namespace: Namespace, value: bytes) -> None:
    """A record with a header's name that is no UTF-8: Python's client writes none, so librdkafka is
    asked without it."""
    kafka = ctypes.CDLL(_librdkafka())
    kafka.rd_kafka_conf_new.restype = ctypes.c_void_p
    kafka.rd_kafka_new.restype = ctypes.c_void_p
    kafka.rd_kafka_topic_new.restype = ctypes.c_void_p
    kafka.rd_kafka_headers_new.restype = ctypes.c_void_p
    conf = ctypes.c_void_p(kafka.rd_kafka_conf_new())
    error = ctypes.create_string_buffer(512)
    kafka.rd_kafka_conf_set(
        conf, b"bootstrap.servers", namespace.bootstrap.encode(), error, ctypes.c_size_t(512)
    )
    producer = ctypes.c_void_p(kafka.rd_kafka_new(0, conf, error, ctypes.c_size_t(512)))
    assert producer.value, error.value
    V = kafka.rd_kafka_producev  # noqa: N806
    headers = ctypes.c_void_p(kafka.rd_kafka_headers_new(ctypes.c_size_t(1)))
    kafka.rd_kafka_header_add(headers, b"\xff\xfe", ctypes.c_ssize_t(2), b"x", ctypes.c_ssize_t(1))
    end, topic, partition, payload, message_headers = 0, 1, 3, 4, 10
    failed = V(
        producer,
        topic, ctypes.c_char_p(f"{namespace.name}.commands".encode()),
        partition, ctypes.c_int32(0),
        payload, ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        message_headers, headers,
        end,
    )  # fmt: skip
    assert failed == 0
    assert kafka.rd_kafka_flush(producer, 30_000) == 0
    kafka.rd_kafka_destroy(producer)


def _librdkafka() -> str:
    """The shared library that the client of this process has loaded."""
    assert cimpl is not None
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "librdkafka" in line:
            return line.split(maxsplit=5)[-1]
    pytest.skip("librdkafka is linked into the client")
