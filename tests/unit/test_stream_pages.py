"""A page of a stream is bounded by its bytes, and no value is lost between two pages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.adapters.kafka.client import stream_reader as kafka
from perdure.adapters.kafka.client.stream_reader import KafkaStreams
from perdure.client.streams import page_of
from perdure.codec.avro import STREAMS
from perdure.embedded import Platform
from perdure.model.streams import PAGE_BYTES, StreamRecord
from perdure.registry import Registry
from tests.unit.log.kafka.stand_ins import Found, schema

SIZE = PAGE_BYTES // 2 - 2  # with the quotes of JSON, two values are not larger than a page


@workflow.defn
async def speaks(count: int) -> None:
    stream = workflow.stream("said", str)
    for number in range(count):
        stream.write(f"{number}" * SIZE)


@pytest.mark.parametrize("medium", ["memory", "file"])
def test_a_page_ends_with_the_value_that_makes_it_too_large(medium: str, tmp_path: Path) -> None:
    async def main() -> None:
        url = "memory://" if medium == "memory" else f"sqlite:///{tmp_path}/app.db"
        with Platform(Registry.of([speaks]), url) as platform:
            client = platform.client()
            handle = await client.start("w", speaks, 8)
            await handle.result()
            sizes: list[int] = []
            after = 0
            while (page := await page_of(client._transport, "w", "said", after, 1_000)).values:
                sizes.append(len(page.values))
                after = page.next
            assert sizes == [3, 3, 2]
            assert [int(each[0]) async for each in handle.stream("said", str)] == list(range(8))
            few = await page_of(client._transport, "w", "said", 0, 2)
            assert len(few.values) == 2
            await client.close()

    asyncio.run(main())


class Script:
    """A consumer that has these records."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def poll(self, timeout_s: float) -> Any:
        return self.records.pop(0) if self.records else None

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        found, self.records = self.records[:count], self.records[count:]
        return found


def said(number: int, size: int, workflow_id: str = "w") -> Any:
    value = StreamRecord(workflow_id, "run", "said", number, b"1" * size, 5)
    key = workflow_id.encode()
    return Found(
        "ns.streams", 0, number, key=key, value=STREAMS.encode(value), headers=schema(STREAMS.header)
    )


class Clients:
    def topic(self, part: str) -> str:
        return f"ns.{part}"


def pages(consumer: Any, limit: int) -> list[list[int]]:
    """The numbers of the values, page by page."""
    clients: Any = Clients()
    streams = KafkaStreams(clients, lambda _: 0)
    found: list[list[int]] = []
    after = 0
    while (page := streams._page(consumer, "w", "said", after, limit)).values:
        found.append([record.number for _, record in page.values])
        assert page.next == page.values[-1][0]
        after = page.next
    return found


def test_kafka_hands_out_large_values_in_small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "LOT", 1)
    consumer = Script([said(number, PAGE_BYTES // 2) for number in range(7)])
    assert pages(consumer, 1_000) == [[0, 1, 2], [3, 4, 5], [6]]


def test_kafka_hands_out_no_more_values_than_were_asked_for() -> None:
    assert pages(Script([said(number, 1) for number in range(100)]), 70) == [
        [*range(70)],
        [*range(70, 100)],
    ]


def test_values_of_others_and_of_other_systems_are_passed() -> None:
    foreign = Found("ns.streams", 0, 1, key=b"w", value=b"?", headers=[])
    assert pages(Script([said(0, 1, "other"), foreign, said(2, 1)]), 10) == [[2]]
