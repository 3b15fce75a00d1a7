"""Waiting for what other threads of the process submit: it ends in time, and misses nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from perdure.adapters.process.channel import Channel
from perdure.model.commands import CancelWorkflow

if TYPE_CHECKING:
    from perdure.model.commands import AnyCommand

MANY = 20_000


def commands(count: int) -> list[AnyCommand]:
    return [CancelWorkflow(f"order-{number}") for number in range(count)]


def test_what_was_taken_already_does_not_end_a_wait() -> None:
    channel = Channel()
    channel.submit(commands(1))
    assert channel.wait(0)
    assert len(channel.take(10)) == 1
    assert not channel.wait(0.05)


def test_a_wake_ends_a_wait_and_brings_nothing() -> None:
    channel = Channel()
    threading.Timer(0.05, channel.wake).start()
    assert channel.wait(20)
    assert channel.take(10) == []


def test_what_is_ready_does_not_count_as_more() -> None:
    channel = Channel()
    channel.submit(commands(1))
    assert channel.wait(0)
    assert not channel.wait_for_more(0.01)
    channel.submit(commands(1))
    assert channel.wait_for_more(0)
    assert len(channel.take(10)) == 2


def test_waits_of_any_length_end_while_others_submit() -> None:
    """Two threads submit as fast as they can; the waits are as short as the engine's, and shorter
    than a turn of the processor."""
    channel, sent = Channel(), commands(MANY)

    def submit(mine: list[AnyCommand]) -> None:
        for each in mine:
            channel.submit([each])

    threads = [threading.Thread(target=submit, args=(sent[part::2],)) for part in range(2)]
    for thread in threads:
        thread.start()
    found: list[AnyCommand] = []
    deadline = time.monotonic() + 30
    while len(found) < MANY:
        assert time.monotonic() < deadline, len(found)
        channel.wait(len(found) % 7 * 1e-7)
        found += channel.take(100)
        channel.settle()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == MANY
    first = set(sent[::2])
    assert [each for each in found if each in first] == sent[::2], "each thread's own order is kept"
