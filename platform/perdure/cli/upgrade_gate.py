"""Checks, before an upgrade, that the open runs of a live platform can continue with this code."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from perdure.cli.loading import load_and_register
from perdure.cli.replaying import BLOCK_LIMIT_S, replayed
from perdure.client import Client
from perdure.errors import WorkflowNotFound
from perdure.model.states import Status
from perdure.replay import eviction
from perdure.replay.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState
    from perdure.registry import Registry

OPEN: Final = (Status.RUNNING, Status.SUSPENDED)
PAGE: Final = 500
AT_ONCE: Final = 16


@dataclass
class OfType:
    """Result for one workflow type.

    Attributes:
        type: its name.
        open: how many runs are open.
        replayed: how many of them were replayed.
        broken: of the running ones: how the code differs, one line each.
        stuck: the same for runs that are suspended already; this code does not fix them.
    """

    type: str
    open: int
    replayed: int = 0
    broken: list[str] = field(default_factory=list[str])
    stuck: list[str] = field(default_factory=list[str])


def replay_open_runs(target: str, url: str, limit: int) -> list[OfType]:
    """Replay the histories of open runs, read from the platform, against an app.

    Args:
        target: the app, a file or a module.
        url: of the platform.
        limit: replay so many runs of a type at most, one half its oldest, the other its newest; 0:
            all of them.

    Raises:
        UsageError: the app is bad, or the address.
        InfrastructureError: the platform cannot be asked.
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
    if found.type not in registry.workflows:
        found.broken.append(f"{found.type}: {found.open} open, but the app has no workflow of this type")
        return
    watchdog = Watchdog(BLOCK_LIMIT_S)
    for page in _pages(await _chosen(client, found, limit)):
        histories = await asyncio.gather(*(_history(client, state) for state in page))
        for state, records in zip(page, histories, strict=True):
            if not records:
                continue  # it has ended, and its history is gone
            found.replayed += 1
            if fault := replayed(registry, state.workflow_id, records, watchdog).fault:
                lines = found.broken if state.status is Status.RUNNING else found.stuck
                lines.append(f"{state.workflow_id}: {fault}")


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
