"""How fast history is replayed: records decoded, folded, and shown to the code, as on a cache miss.

usage: python -m bench.replay [EVENTS]    prints a line of JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench.workflows import Chain
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import decode_event_record, encode_event_record
from perdure.core.run import fold
from perdure.model.events import EventRecord
from perdure.registry import Registry
from perdure.replay.live import LiveRun
from perdure.testing import Environment


async def history_of(length: int) -> list[EventRecord]:
    """Of a chain of activities."""
    async with Environment(Registry.of_everything_imported()) as env:
        await env.client.start("chain", Chain.process, length)
        await env.settle()
        return await env.client.history("chain")


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    records = asyncio.run(history_of(events // 2))
    encoded = [encode_event_record(record) for record in records]
    total = sum(len(record.events) for record in records)
    definition = Registry.of_everything_imported().workflows["Chain"]
    payloads = JsonPayloads()
    rates: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        decoded = [decode_event_record(record) for record in encoded]
        state = fold(decoded)
        live = LiveRun(
            definition,
            state.workflow_id,
            state.run_id,
            started=state.started,
            started_at=state.started_at,
            payloads=payloads,
        )
        live.replay(decoded)
        rates.append(total / (time.perf_counter() - begun))
        live.evict()
    print(json.dumps({"system": "perdure", "replay_events_per_s": round(sorted(rates)[2]), "events": total}))


if __name__ == "__main__":
    main()
