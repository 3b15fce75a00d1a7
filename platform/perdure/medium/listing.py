"""One page of the list of workflows, from the indexes of the SQLite file."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection

    from perdure.client.ports import Order


@dataclass(frozen=True, slots=True)
class Listing:
    """What `client.ports.Reader.list` was asked for; `after` is the key (started at, workflow id) of the last one seen."""

    type: str | None
    status: str | None
    started_after: int | None
    started_before: int | None
    order: Order
    limit: int
    after: tuple[int, str] | None

    def records(self, connection: Connection) -> list[bytes]:
        """The encoded states, in order.

        A filter by type or by status reads the head of the index for each (status, type) that it allows, and merges: whatever is
        asked for, no more than `limit` rows of each are touched.
        """
        if self.type is None and self.status is None:
            return [row[2] for row in self._page(connection, None)]
        pages = [self._page(connection, pair) for pair in self._pairs(connection)]
        merged = merge(*pages, key=lambda row: row[:2], reverse=self.order == "newest")
        return [row[2] for row in islice(merged, self.limit)]

    def _pairs(self, connection: Connection) -> list[tuple[str, str]]:
        """(status, type) that there are and that the filter allows; one seek in the index for each."""
        if self.type is not None and self.status is not None:
            return [(self.status, self.type)]
        found: list[tuple[str, str]] = []
        pair: tuple[str, str] | None = ("", "")
        while pair is not None:
            pair = connection.execute(
                "SELECT status, type FROM workflows WHERE (status, type) > (?, ?) ORDER BY status, type LIMIT 1", pair
            ).fetchone()
            if pair is not None and self.status in {None, pair[0]} and self.type in {None, pair[1]}:
                found.append(pair)
        return found

    def _page(self, connection: Connection, pair: tuple[str, str] | None) -> list[tuple[int, str, bytes]]:
        conditions: list[str] = ["1"]
        values: list[str | int] = []
        if pair is not None:
            conditions.append("status = ? AND type = ?")
            values += pair
        if self.started_after is not None:
            conditions.append("started_at >= ?")
            values.append(self.started_after)
        if self.started_before is not None:
            conditions.append("started_at < ?")
            values.append(self.started_before)
        is_newest = self.order == "newest"
        if self.after is not None:
            conditions.append(f"(started_at, workflow_id) {'<' if is_newest else '>'} (?, ?)")
            values += self.after
        direction = "DESC" if is_newest else "ASC"
        rows: list[tuple[int, str, bytes]] = connection.execute(
            f"SELECT started_at, workflow_id, record FROM workflows WHERE {' AND '.join(conditions)} "  # noqa: S608 - no values in it
            f"ORDER BY started_at {direction}, workflow_id {direction} LIMIT ?",
            (*values, self.limit),
        ).fetchall()
        return rows
