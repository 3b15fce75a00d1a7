"""Replays history files, prints what the code had written down by then: `python -m
tests.histories.replay FILE…`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from perdure.codec.history import history_from_json
from perdure.codec.payloads import JsonPayloads
from perdure.model.events import EventRecord, WorkflowStarted
from perdure.replay.live import LiveRun
from tests.histories.programs import REGISTRY


def replayed(records: Sequence[EventRecord]) -> str:
    """What the code of a history knows at its end: its view, its diary, and its next random number.

    Raises:
        ReplayError: the code does not do what is recorded.
    """
    first = records[0]
    started = first.events[0]
    assert isinstance(started, WorkflowStarted)
    definition = REGISTRY.served[started.type]
    live = LiveRun(
        definition,
        first.workflow_id,
        first.run_id,
        started=started,
        started_at=first.at,
        payloads=JsonPayloads(),
    )
    try:
        wanted = live.replay(records)
        story = live.query("story", b"[]") if "story" in definition.queries else b""
        return f"{live.view()!r} {story!r} {wanted} {live.loop.runtime.random().random()}"
    finally:
        live.evict()


def main(paths: Sequence[str]) -> None:
    for path in sorted(paths):
        found = replayed(history_from_json(Path(path).read_text(encoding="utf-8")))
        print(Path(path).name, hashlib.sha256(found.encode()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
