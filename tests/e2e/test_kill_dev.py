"""kill -9 of a real `perdure dev` at random moments: no order is lost, no charge is applied
twice."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.codec.records import encode_event_record, hash_of
from perdure.errors import EngineUnavailable, WorkflowNotFound
from perdure.model import events as ev
from tests.e2e.apps.ledger_orders import LedgerOrder
from tests.e2e.conftest import until

ORDERS = 200
KILLS = 12
APP = Path(__file__).parent / "apps" / "ledger_orders.py"


class Dev:
    """A `perdure dev` that dies and comes back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        perdure = shutil.which("perdure", path=str(Path(sys.executable).parent))
        assert perdure, "perdure is not installed beside this Python"
        command = [perdure, "dev", str(APP), "--db", f"sqlite:///{self.folder}/app.db", "--no-reload"]
        environment = {**os.environ, "LEDGER": str(self.folder / "ledger")}
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(15)


async def patiently(ask: object) -> object:
    """Repeat a request until it is answered."""
    while True:
        try:
            return await ask()  # type: ignore[operator]
        except EngineUnavailable:
            continue


async def confirm(client: Client, workflow_id: str) -> None:
    """Confirm an order that may have been confirmed before: the engine can die after it recorded
    the signal, before it answers.

    An order completes only after it is confirmed, so a completed one needs no other signal.
    """
    try:
        await patiently(lambda: client.get(workflow_id, LedgerOrder.process).signal(LedgerOrder.confirm))
    except WorkflowNotFound:
        assert (await client.describe(workflow_id)).status == "completed"


async def order(client: Client, number: int, pause: float) -> str:
    await asyncio.sleep(pause)
    workflow_id = f"order-{number}"
    attached = client.options(if_running="attach", if_closed="refuse", request_id=f"start-{number}")
    await patiently(lambda: attached.start(workflow_id, LedgerOrder.process, number))
    handle = client.get(workflow_id, LedgerOrder.process)
    await confirm(client, workflow_id)
    result = await patiently(handle.result)
    assert isinstance(result, str)
    return result


async def killer(dev: Dev, dice: random.Random, done: asyncio.Event) -> int:
    kills = 0
    while not done.is_set() and kills < KILLS:
        await asyncio.sleep(dice.uniform(0.3, 1.2))
        dev.kill()
        kills += 1
        dev.start()
    return kills


@pytest.mark.timeout(150)
def test_no_order_is_lost_and_no_charge_applied_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"SEED={seed}")
    dice = random.Random(seed)
    dev = Dev(tmp_path)
    dev.start()
    until((tmp_path / "app.db").exists, "the database is made")

    async def run() -> tuple[list[str], int, dict[int, list[ev.EventRecord]]]:
        async with Client.connect(f"sqlite:///{tmp_path}/app.db") as client:
            done = asyncio.Event()
            killing = asyncio.create_task(killer(dev, dice, done))
            keys = await asyncio.gather(
                *[order(client, number, dice.uniform(0, 9)) for number in range(ORDERS)]
            )
            done.set()
            kills = await killing
            histories = {number: await client.history(f"order-{number}") for number in range(ORDERS)}
            return keys, kills, histories

    try:
        keys, kills, histories = asyncio.run(run())
    finally:
        dev.kill(signal.SIGTERM)
    assert kills >= KILLS - 2, (
        "the orders were done before it was killed often enough: the test proves too little"
    )
    assert len(set(keys)) == ORDERS
    check_ledger(tmp_path / "ledger", dict(enumerate(keys)))
    for records in histories.values():
        check_history(records)


def check_ledger(file: Path, keys: dict[int, str]) -> None:
    """What is applied is counted by idempotency key: one charge and one delivery an order."""
    applied: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in file.read_text().splitlines():
        what, order_id, key, _ = line.split()
        applied[what, order_id].add(key)
    for number, key in keys.items():
        assert applied["charge", f"order-{number}"] == {key}
        assert len(applied["send", f"order-{number}"]) == 1
    assert len(applied) == 2 * ORDERS


def check_history(records: list[ev.EventRecord]) -> None:
    """I1, I2 and I4 of one run."""
    previous, next_id, at = b"", 1, 0
    for record in records:
        assert (record.first_event_id, record.previous_hash) == (next_id, previous)
        assert record.at >= at
        previous, next_id, at = hash_of(encode_event_record(record)), record.last_event_id + 1, record.at
    events = [event for record in records for event in record.events]
    assert [type(event) for event in events if isinstance(event, ev.TERMINAL)] == [ev.WorkflowCompleted]
    assert isinstance(events[-1], ev.WorkflowCompleted)
    completed = [event.number for event in events if isinstance(event, ev.ActivityCompleted)]
    assert sorted(completed) == [1, 2, 3]
    assert sum(isinstance(event, ev.SignalReceived) for event in events) >= 1
