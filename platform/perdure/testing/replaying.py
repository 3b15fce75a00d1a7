"""Replays recorded histories in a test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.authoring.workflow_type import definition_of_run, why_unknown
from perdure.codec.history import history_from_json
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model.events import WorkflowStarted
from perdure.model.source import calling_module
from perdure.registry import Registry
from perdure.replay import eviction
from perdure.replay.live import LiveRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.model.events import EventRecord


def replay(history: Path | str | Sequence[EventRecord], registry: Registry | None = None) -> None:
    """Replay the history of one run with the code of this process.

        testing.replay(Path("histories/order-1.json"))

    Args:
        history: a file that `perdure workflow history ID -o json` has written, its text, or the
            result of `client.history`.
        registry: the code; by default all that has been imported, where a name with several
            meanings means what the calling module defines or imports.

    Raises:
        errors.ReplayError: the code does not do what the history holds; the message names the
            event.
        UsageError: the code does what a workflow may not; or the history cannot be read, or its
            workflow type is not there.
    """
    registry = registry or Registry.seen_from(calling_module())
    records = _records_of(history)
    started = records[0].events[0] if records and records[0].events else None
    if not isinstance(started, WorkflowStarted):
        raise UsageError("testing.replay: the history does not begin with WorkflowStarted.")
    definition = definition_of_run(registry.served, started)
    if definition is None:
        known = started.type in registry.served
        why = why_unknown(registry.served, started) if known else f"no workflow type {started.type!r}"
        raise UsageError(f"testing.replay: {why}; import the module that defines it.")
    hooks = sys.get_asyncgen_hooks()
    eviction.install_hooks()
    run = LiveRun(
        definition,
        records[0].workflow_id,
        records[0].run_id,
        started=started,
        started_at=records[0].at,
        payloads=JsonPayloads.of(registry.app),
        interceptors=tuple(registry.app.interceptors),
    )
    try:
        run.replay(records)
    finally:
        run.evict()
        sys.set_asyncgen_hooks(*hooks)


def _records_of(history: Path | str | Sequence[EventRecord]) -> Sequence[EventRecord]:
    if isinstance(history, Path):
        try:
            history = history.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"testing.replay: {error}") from None
    if not isinstance(history, str):
        return history
    return history_from_json(history)
