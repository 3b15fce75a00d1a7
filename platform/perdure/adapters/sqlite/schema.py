"""The tables of the SQLite file.

Data that is read by key only is stored in its record; separate columns have the data that is
searched or ordered by, and what the SQL views of workflow types show (`typed.py`). `events` is
clustered by run: run ids that grow with time keep the writes of one batch together.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x50455244
"""'PERD': what `PRAGMA application_id` of our files says."""

FORMAT: Final = 6
"""`PRAGMA user_version`; a file with a greater one was written by a newer perdure."""

_RECORDS: Final = """CREATE TABLE records (position INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
    key BLOB, value BLOB,
        headers BLOB NOT NULL, at INTEGER NOT NULL)"""

_STREAMS: Final = (
    """CREATE TABLE IF NOT EXISTS streams (position INTEGER PRIMARY KEY AUTOINCREMENT,
        workflow_id TEXT NOT NULL, name TEXT NOT NULL, run_id TEXT NOT NULL, activity INTEGER NOT NULL,
        attempt INTEGER NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL, value BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS streams_by_workflow ON streams (workflow_id, name, position)",
    """CREATE UNIQUE INDEX IF NOT EXISTS streams_by_number
        ON streams (run_id, name, activity, attempt, number)""",
)

_CLOSED: Final = (
    """CREATE TABLE closed (type TEXT NOT NULL, status TEXT NOT NULL, closed_at INTEGER NOT NULL,
        run_id TEXT NOT NULL, workflow_id TEXT NOT NULL, is_earlier INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (type, status, closed_at, run_id)) WITHOUT ROWID""",
    # Most workflow ids have one run, which `workflows` finds; an index of all would cost each run
    # more than the table does.
    "CREATE INDEX earlier_runs ON closed (workflow_id) WHERE is_earlier",
)

SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('epoch', 0), ('port', 0), ('latest_at', 0)",
    "CREATE TABLE commands (position INTEGER PRIMARY KEY AUTOINCREMENT, record BLOB NOT NULL)",
    """CREATE TABLE dead_letters (position INTEGER PRIMARY KEY, record BLOB NOT NULL, reason TEXT NOT NULL,
        found_at INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE events (run_id TEXT NOT NULL, first_event_id INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (run_id, first_event_id)) WITHOUT ROWID""",
    """CREATE TABLE workflows (workflow_id TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL,
        status TEXT NOT NULL,
        started_at INTEGER NOT NULL, record BLOB NOT NULL, run_id TEXT NOT NULL, updated_at INTEGER NOT NULL,
        closed_at INTEGER NOT NULL, view BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX workflows_by_start ON workflows (started_at, workflow_id)",
    "CREATE INDEX workflows_by_status ON workflows (status, type, started_at, workflow_id)",
    (
        "CREATE TABLE tasks (run_id TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY "
        "KEY "
        "(run_id, number)) WITHOUT ROWID"
    ),
    """CREATE TABLE timers (fires_at INTEGER NOT NULL, run_id TEXT NOT NULL, kind INTEGER NOT NULL,
        number INTEGER NOT NULL,
        workflow_id TEXT NOT NULL, PRIMARY KEY (fires_at, run_id, kind, number, workflow_id))
            WITHOUT ROWID""",
    """CREATE TABLE replies (position INTEGER PRIMARY KEY AUTOINCREMENT, reply_to TEXT NOT NULL,
        at INTEGER NOT NULL,
        record BLOB NOT NULL)""",
    _RECORDS,
    *_STREAMS,
    *_CLOSED,
)

UPGRADES: Final = {
    1: ("ALTER TABLE dead_letters ADD COLUMN found_at INTEGER NOT NULL DEFAULT 0",),
    2: (_RECORDS,),
    3: (  # filled from the records, see `sqlite.py`
        "ALTER TABLE workflows ADD COLUMN run_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE workflows ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE workflows ADD COLUMN closed_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE workflows ADD COLUMN view BLOB NOT NULL DEFAULT x''",
    ),
    4: _STREAMS,
    5: _CLOSED,  # filled from the histories, see `file.py`
}
"""Statements that upgrade a file to the next format."""
