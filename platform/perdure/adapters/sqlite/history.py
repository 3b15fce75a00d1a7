"""A page of a run's history, from the SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.codec.paging import PAGE_EVENTS, is_of, page_of
from perdure.model.replies import History

if TYPE_CHECKING:
    from sqlite3 import Connection

_PAGE: Final = """SELECT first_event_id, record FROM events WHERE run_id = :run
    AND first_event_id >= coalesce(
        (SELECT max(first_event_id) FROM events WHERE run_id = :run AND first_event_id <= :first), 0)
    ORDER BY first_event_id"""


def history_page(
    connection: Connection, workflow_id: str, run_id: str, from_event_id: int, limit: int = PAGE_EVENTS
) -> History:
    """The page; rows are read one by one, and no further than it goes.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    page = page_of(connection.execute(_PAGE, {"run": run_id, "first": from_event_id}), from_event_id, limit)
    return page if page.records and is_of(page.records[0], workflow_id) else History("", ())
