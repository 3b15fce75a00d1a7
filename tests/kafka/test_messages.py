"""Commands that workflows send each other, and answers that outlive a batch, on a real broker: over
partitions, engines, kills."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from perdure.client import Client
from perdure.engine.ports import Batch
from perdure.model.commands import FireTimer, SignalWorkflow
from perdure.model.events import AnswerPromised, SignalReceived
from tests.kafka.namespace import Namespace, signals, wait_until
from tests.kafka.processes import engine
from tests.simulation.relay import Relay

ALL: Final = {0, 1, 2, 3}
APP: Final = "tests/kafka/apps/relay.py"


def relayed(namespace: Namespace, begin: int, end: int) -> None:
    """Signals that lead to another signal each, mostly for a workflow of another partition."""
    namespace.sent += [f"{number}!" for number in range(begin, end)]
    namespace.send(signals([f"{number}>w-{number * 7 % 20}" for number in range(begin, end)]))


def assert_in_order(namespace: Namespace) -> None:
    """What one workflow has sent to another is there in the order in which it was sent."""
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for _, record in namespace.events():
        for event in record.events:
            if isinstance(event, SignalReceived) and event.name.endswith("!"):
                number = int(event.name[:-1])
                found[number % 20, record.workflow_id].append(number)
    assert found
    assert all(numbers == sorted(numbers) for numbers in found.values())


def test_commands_between_partitions_of_two_engines_arrive_once_when_one_is_killed_as_it_sends(
    namespace: Namespace,
) -> None:
    with namespace.process("dying", in_transaction="KILL@4") as dying, namespace.process("peer") as peer:
        wait_until(lambda: len(dying.owned()) == len(peer.owned()) == 2)
        numbers = iter(range(0, 20_000, 20))
        while dying.process.poll() is None:
            begin = next(numbers)
            relayed(namespace, begin, begin + 20)
            wait_until(lambda: dying.process.poll() is not None or not namespace.audit().missing, 60)
        relayed(namespace, 20_000, 20_100)
        wait_until(lambda: peer.owned() == ALL)
        namespace.until_applied()
        peer.end()
    namespace.audit().assert_exactly_once()
    assert_in_order(namespace)


def test_commands_of_transactions_that_were_aborted_are_never_taken(namespace: Namespace) -> None:
    tally = namespace.tally()
    tally.until(lambda: tally.owned == ALL)
    relayed(namespace, 0, 20)
    write: Any = tally.log._writer.write
    failing = iter([True, True, True])

    def fail(producer: Any, batch: Batch) -> None:
        write(producer, batch)
        if next(failing, False):
            producer.flush(30)
            raise OverflowError("a value that nobody can write")

    tally.log._writer.write = fail  # type: ignore[method-assign]
    while namespace.audit().missing:
        try:
            tally.step(0.05)
        except OverflowError:
            tally._has_open_batch = False
            tally.log.abort()
    namespace.audit().assert_exactly_once()
    committed = len(namespace.read("commands"))
    assert len(namespace.read("commands", isolation="read_uncommitted")) > committed == 40


def test_a_command_that_cannot_be_written_keeps_all_of_its_batch_back(namespace: Namespace) -> None:
    tally = namespace.tally()
    tally.until(lambda: tally.owned == ALL)
    for damaged in (FireTimer("w", number=1 << 70), SignalWorkflow("\ud800", name="a")):
        with pytest.raises((OverflowError, UnicodeEncodeError)):
            tally.log.commit(Batch(1, commands=[SignalWorkflow("w", name="0"), damaged]))
        tally.log.abort()
    assert namespace.read("commands") == []


def test_a_workflow_gets_the_end_of_others_once_though_engines_are_killed_and_stores_lost(
    namespace: Namespace, tmp_path: Path
) -> None:
    others = [f"r-{number}" for number in range(8)]
    assert len({namespace.place_of(each) for each in [*others, "asker"]}) > 2

    def events() -> list[Any]:
        return [event for _, record in namespace.events() for event in record.events]

    def heard() -> Counter[Any]:
        records = [record for _, record in namespace.events() if record.workflow_id == "asker"]
        found = [event for record in records for event in record.events if isinstance(event, SignalReceived)]
        return Counter(msgspec.json.decode(event.input)[0] for event in found if event.name == "put")

    async def ask() -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            asker = await client.start("asker", Relay.run)
            for each in others:
                await client.start(each, Relay.run)
            await asker.signal_by_name(
                "send", [[*(["await", each] for each in others), *(["put", each, each] for each in others)]]
            )

    async def close(*workflow_ids: str) -> Any:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            for each in workflow_ids:
                await client.get(each, Relay.run).signal(Relay.close)
            return await client.get(workflow_ids[-1], Relay.run).result()

    with engine(APP, namespace, tmp_path / "one"), engine(APP, namespace, tmp_path / "two") as second:
        asyncio.run(ask())
        wait_until(lambda: sum(isinstance(event, AnswerPromised) for event in events()) == len(others), 60)
        second.kill()
    with engine(APP, namespace, tmp_path / "three"):
        asyncio.run(close(*others))
    with engine(APP, namespace, tmp_path / "four"):
        wait_until(lambda: heard().total() >= len(others), 60)
        assert asyncio.run(close("asker")) == ["completed"] * len(others)
    assert heard() == {"completed": len(others)}
    assert sum(isinstance(event, AnswerPromised) for event in events()) == len(others)
    got = Counter(e.name for e in events() if isinstance(e, SignalReceived))
    assert got == {"put": 2 * len(others), "send": 1, "close": len(others) + 1}
    assert namespace.dead_letters() == []
