"""Finds and deletes the workflows that `perdure workflow delete` names."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer
from msgspec.structs import replace

from perdure.client.listing import PAGE_LIMIT, ListQuery
from perdure.errors import RequestRefused, WorkflowNotFound

if TYPE_CHECKING:
    from perdure.client import Client

AT_A_TIME: Final = 50
"""Requests under way."""


@dataclass(frozen=True)
class Deletion:
    """The workflows to delete.

    Attributes:
        closed: ids of workflows whose last run has closed.
        open: ids of those that are left alone.
        by_kind: how many are closed, by type and status.
        run_id: only this run of the one workflow; empty: all runs.
    """

    closed: tuple[str, ...]
    open: tuple[str, ...]
    by_kind: tuple[tuple[str, int], ...]
    run_id: str = ""

    def document(self) -> dict[str, Any]:
        """The counts, for programs."""
        return {"closed": len(self.closed), "open": len(self.open), "by_kind": dict(self.by_kind)}

    def in_words(self) -> str:
        """The counts, for people."""
        kinds = "".join(f"\n  {number} {kind}" for kind, number in self.by_kind)
        left = f"\n{len(self.open)} open: they are left alone; cancel or terminate them first"
        return f"{len(self.closed)} closed{kinds}{left if self.open else ''}"

    async def run(self, client: Client, reason: str) -> int:
        """Delete; returns how many. One that is gone, or was started again meanwhile, is left out.

        Args:
            client: connected.
            reason: for the audit log.
        """
        turns = asyncio.Semaphore(AT_A_TIME)

        async def delete(workflow_id: str) -> bool:
            async with turns:
                try:
                    handle = client.get_by_name(workflow_id)
                    handle.run_id = self.run_id
                    await handle.delete(reason)
                except (RequestRefused, WorkflowNotFound) as error:
                    typer.echo(f"{workflow_id}: {error}", err=True)
                    return False
                return True

        return sum(await asyncio.gather(*map(delete, self.closed)))


@dataclass(frozen=True)
class Selection:
    """The workflows that an operator names: by id, or by what they are.

    Attributes:
        ids: workflow ids.
        run: only this run of the one id.
        types: workflow types; empty: all.
        statuses: the same.
        where: a condition on attributes.
    """

    ids: tuple[str, ...] = ()
    run: str = ""
    types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    where: str = ""

    def check(self) -> None:
        """Refuse what names all workflows, or ids and filters together."""
        has_filter = bool(self.types or self.statuses or self.where)
        if bool(self.ids) == has_filter:
            raise typer.BadParameter("name workflow ids, or give --type, --status or --where")
        if self.run and len(self.ids) != 1:
            raise typer.BadParameter("a run belongs to one workflow id", param_hint="--run")

    async def found(self, client: Client) -> Deletion:
        """Look for the workflows."""
        kinds: Counter[str] = Counter()
        closed: list[str] = []
        open_: list[str] = []
        if self.run:
            return Deletion(self.ids, (), (("run", 1),), self.run)
        for workflow_id in self.ids:
            about = await client.describe(workflow_id)
            (closed if about.status.is_closed else open_).append(workflow_id)
            kinds[f"{about.type} {about.status}"] += about.status.is_closed
        query = ListQuery.of(type=list(self.types), status=list(self.statuses), where=self.where)
        query = replace(query, limit=PAGE_LIMIT, sort="workflow_id")
        while not self.ids:
            page = await client.list(query)
            for state in page:
                (closed if state.status.is_closed else open_).append(state.workflow_id)
                kinds[f"{state.type} {state.status}"] += state.status.is_closed
            if len(page) < PAGE_LIMIT:
                break
            query = replace(query, after=query.key_of(page[-1]))
        return Deletion(tuple(closed), tuple(open_), tuple(sorted((+kinds).items())))
