"""Checks, before an upgrade, that the open runs of a live platform can continue with this code."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from perdure.cli.loading import load_and_register
from perdure.cli.replaying import BLOCK_LIMIT_S, replayed
from perdure.client import Client
from perdure.codec.records import decode_event_record
from perdure.errors import WorkflowNotFound
from perdure.model.events import WorkflowResumed, WorkflowStarted, WorkflowSuspended
from perdure.model.states import Status
from perdure.replay import eviction
from perdure.replay.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState
    from perdure.registry import Registry

OPEN: Final = (Status.RUNNING, Status.SUSPENDED, Status.PAUSED)
PAGE: Final = 500
AT_ONCE: Final = 16
NAMED: Final = ("activity", "answer", "update")
"""Waits whose names are those of code; others name workflow ids."""


Place = tuple[int, str, tuple[tuple[str, str], ...]]
"""Where a run waits: the version of its type, the last event that is not a suspension, what it
waits for."""
SCANNED: Final = 20_000
"""The number of open runs of a type, beyond those replayed, whose waits are looked up."""


@dataclass
class OfType:
    """Result for one workflow type.

    Attributes:
        type: the name of the type.
        open: the number of open runs.
        replayed: the number of runs that were replayed.
        places: at how many different places those wait.
        broken: running runs that the code diverges from, one line each.
        stuck: suspended runs that this code does not fix, one line each.
        unpatched: how many of them take the old branch of a patch, by its id.
    """

    type: str
    open: int
    replayed: int = 0
    places: int = 0
    broken: list[str] = field(default_factory=list[str])
    stuck: list[str] = field(default_factory=list[str])
    unpatched: dict[str, int] = field(default_factory=dict[str, int])


def replay_open_runs(target: str, url: str, limit: int) -> list[OfType]:
    """Replay the histories of open runs, read from the platform, against an app.

    Args:
        target: the app, a file or a module.
        url: the platform's URL.
        limit: the most runs of a type to replay, one half its oldest, the other its newest, and of
            the others one for each place where runs wait; 0: all of them.

    Raises:
        UsageError: the app or the address is invalid.
        InfrastructureError: the platform cannot be reached.
        ClientError: its engines do not answer.
    """
    _, registry = load_and_register(target)
    eviction.install_hooks()
    return asyncio.run(_replayed(registry, url, limit))


async def _replayed(registry: Registry, url: str, limit: int) -> list[OfType]:
    async with Client.connect(url, app=registry.app) as client:
        counts: dict[str, int] = {}
        for (name, _), count in (await client.counts(status=OPEN)).items():
            counts[name] = counts.get(name, 0) + count
        found = [OfType(name, count) for name, count in sorted(counts.items())]
        for each in found:
            await _look(client, registry, each, limit)
        return found


async def _look(client: Client, registry: Registry, found: OfType, limit: int) -> None:
    if found.type not in registry.served:
        found.broken.append(f"{found.type}: {found.open} open, but the app has no workflow of this type")
        return
    look = _Look(client, registry, found)
    chosen = await _chosen(client, found, limit)
    await look.replay(chosen)
    if len(chosen) < found.open:
        await look.replay(await look.elsewhere({state.workflow_id for state in chosen}))
    found.places = len(look.places)


class _Look:
    """Replays runs of one type, and remembers where they wait."""

    def __init__(self, client: Client, registry: Registry, found: OfType) -> None:
        self._client = client
        self._registry = registry
        self._found = found
        self._watchdog = Watchdog(BLOCK_LIMIT_S)
        self.places: set[Place] = set()

    async def replay(self, states: list[WorkflowState]) -> None:
        found = self._found
        for page in _pages(states):
            histories = await asyncio.gather(*(_history(self._client, state) for state in page))
            for state, records in zip(page, histories, strict=True):
                if not records:
                    continue  # it has ended, and its history is gone
                found.replayed += 1
                self.places.add(_place(state, records[0], records[-1]))
                outcome = replayed(self._registry, state.workflow_id, records, self._watchdog)
                for patch in outcome.unpatched:
                    found.unpatched[patch] = found.unpatched.get(patch, 0) + 1
                if outcome.fault:
                    lines = found.broken if state.status is Status.RUNNING else found.stuck
                    lines.append(f"{state.workflow_id}: {outcome.fault}")

    async def elsewhere(self, known: set[str]) -> list[WorkflowState]:
        """One run for each place where none of the replayed ones waits, of those that are not
        known; only the first and the last record of each are read.
        """
        found: list[WorkflowState] = []
        others = [
            state
            for state in await _listed(self._client, self._found.type, "oldest", SCANNED)
            if state.workflow_id not in known
        ]
        for page in _pages(others):
            for state, place in zip(
                page, await asyncio.gather(*(_place_of(self._client, each) for each in page)), strict=True
            ):
                if place is not None and place not in self.places:
                    self.places.add(place)
                    found.append(state)
        return found


async def _place_of(client: Client, state: WorkflowState) -> Place | None:
    """The place where a run waits; None: it has ended, and its history was deleted."""
    first, last = await asyncio.gather(
        _record(client, state, 1), _record(client, state, state.history_length)
    )
    return _place(state, first, last) if first is not None and last is not None else None


async def version_of(client: Client, state: WorkflowState) -> int:
    """The version of its type that a run began with; 0: it has ended, and its history was
    deleted.
    """
    first = await _record(client, state, 1)
    started = first.events[0] if first is not None else None
    return started.version or 1 if isinstance(started, WorkflowStarted) else 0


async def _record(client: Client, state: WorkflowState, event_id: int) -> EventRecord | None:
    """The record of the history that holds an event."""
    page = await client._transport.read(  # noqa: SLF001 - a page is no business of authors
        lambda reader: reader.history(state.workflow_id, state.run_id, event_id, limit=1)
    )
    return decode_event_record(page.records[0]) if page.records else None


def _place(state: WorkflowState, first: EventRecord, last: EventRecord) -> Place:
    started = first.events[0]
    version = started.version or 1 if isinstance(started, WorkflowStarted) else 1
    events = [each for each in last.events if not isinstance(each, WorkflowSuspended | WorkflowResumed)]
    waits = {(each.kind, each.name if each.kind in NAMED else "") for each in state.waits}
    return version, type(events[-1]).__name__ if events else "", tuple(sorted(waits))


async def _history(client: Client, state: WorkflowState) -> list[EventRecord]:
    try:
        return await client.history(state.workflow_id, state.run_id)
    except WorkflowNotFound:
        return []


async def _chosen(client: Client, found: OfType, limit: int) -> list[WorkflowState]:
    if not limit or found.open <= limit:
        return await _listed(client, found.type, "oldest", found.open)
    oldest = await _listed(client, found.type, "oldest", limit - limit // 2)
    newest = await _listed(client, found.type, "newest", limit // 2)
    return list({state.workflow_id: state for state in (*oldest, *newest)}.values())


async def _listed(
    client: Client, type: str, order: Literal["oldest", "newest"], limit: int
) -> list[WorkflowState]:
    listed: list[WorkflowState] = []
    while len(listed) < limit:
        page = await client.list(
            type=type,
            status=OPEN,
            order=order,
            limit=min(PAGE, limit - len(listed)),
            after=listed[-1] if listed else None,
        )
        if not page:
            break
        listed += page
    return listed


def _pages(states: list[WorkflowState]) -> Iterator[list[WorkflowState]]:
    for begin in range(0, len(states), AT_ONCE):
        yield states[begin : begin + AT_ONCE]
