"""A batch as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import astuple

from perdure.adapters.process.external_commands import record_of
from perdure.codec.records import encode_command, encode_headers, encode_reply, encode_state, encode_task
from perdure.model import addresses
from perdure.model.replies import Refused
from perdure.model.states import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from sqlite3 import Connection

    from perdure.engine.ports import Batch, RefusedCommand
    from perdure.model.dead_letters import RecordHeader
    from perdure.model.replies import AnyReply
    from perdure.model.states import WorkflowState

_PUT_EVENT = "INSERT INTO events VALUES (?, ?, ?)"
_PUT_STATE = "INSERT OR REPLACE INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHANGE_STATE = """UPDATE workflows SET record = ?, updated_at = ?, view = ?
    WHERE workflow_id = ? AND started_at = ? AND type = ? AND status = 'running'"""
_PUT_CLOSED = "INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?, ?, 0)"
_PUT_EARLIER = "INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?, ?, 1)"
_END_CLOSED = "DELETE FROM closed WHERE type = ? AND status = ? AND closed_at = ? AND run_id = ?"
_END_EVENTS = "DELETE FROM events WHERE run_id = ?"
_END_STREAMS = "DELETE FROM streams WHERE run_id = ?"
_END_STATE = "DELETE FROM workflows WHERE workflow_id = ?"
_PUT_TASK = "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)"
_END_TASK = "DELETE FROM tasks WHERE run_id = ? AND number = ?"
_PUT_TIMER = "INSERT OR IGNORE INTO timers VALUES (?, ?, ?, ?, ?)"
_END_TIMER = (
    "DELETE FROM timers WHERE fires_at = ? AND run_id = ? AND kind = ? AND number = ? AND workflow_id = ?"
)
_PUT_RECORD = "INSERT INTO records (topic, key, value, headers, at) VALUES (?, ?, ?, ?, ?)"
_PUT_REFUSAL = (
    "INSERT OR REPLACE INTO dead_letters SELECT -position, coalesce(value, x''), ?, ? FROM records WHERE "
    "position = ? AND topic = ?"
)
STREAMS_KEPT_US = 86_400_000_000
"""How long a value of a stream can be read, microseconds."""
REFUSED = "the resulting command was refused"
"""In the dead letter of a record that a trigger has made a command of."""
_BURY = "INSERT OR REPLACE INTO dead_letters SELECT position, record, ?, ? FROM commands WHERE position = ?"
_PUT_COMMAND = "INSERT INTO commands (record) VALUES (?)"
_PUT_VALUE = (
    "INSERT OR IGNORE INTO streams (workflow_id, name, run_id, activity, attempt, number, at, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_DROP_VALUES = """DELETE FROM streams WHERE position IN
    (SELECT position FROM (SELECT position, at FROM streams ORDER BY position LIMIT 10000) WHERE at < ?)"""
"""The number of oldest rows that are deleted at a time."""
_PUT_REPLY = "INSERT INTO replies (reply_to, at, record) VALUES (?, ?, ?)"


def write_batch(
    connection: Connection,
    batch: Batch,
    consumed: int,
    replies: list[tuple[str, AnyReply]],
    replies_stale_before: int,
    letters: Sequence[tuple[int, RefusedCommand]] = (),
) -> None:
    """Write all of a batch; within a transaction.

    Args:
        connection: has begun one.
        batch: what to write.
        consumed: commands of other processes up to this position are done with; 0: none.
        replies: those to other processes.
        replies_stale_before: older ones are deleted, microseconds.
        letters: commands that become dead letters, each with its position; 0: it is of this
            process.
    """
    many = connection.executemany
    if batch.events:
        many(
            _PUT_EVENT, [(record.run_id, record.first_event_id, encoded) for record, encoded in batch.events]
        )
    if batch.states:
        started = {record.run_id for record, _ in batch.events if record.first_event_id == 1}
        _write_states(connection, batch.states.values(), started)
    if batch.closed:
        many(_PUT_CLOSED, [astuple(run) for run in batch.closed])
    if batch.followed:
        many(_PUT_EARLIER, [astuple(run) for run in batch.followed])
    if batch.removed:
        _remove(connection, batch)
    if batch.tasks_ended:
        many(_END_TASK, batch.tasks_ended)
    if batch.tasks:
        many(
            _PUT_TASK, [(run_id, number, encode_task(task)) for (run_id, number), task in batch.tasks.items()]
        )
    if batch.timers_ended:
        many(
            _END_TIMER,
            [(t.fires_at, t.run_id, int(t.kind), t.number, t.workflow_id) for t in batch.timers_ended],
        )
    if batch.timers:
        many(_PUT_TIMER, [(t.fires_at, t.run_id, int(t.kind), t.number, t.workflow_id) for t in batch.timers])
    if batch.records:
        many(
            _PUT_RECORD,
            [
                record_row(each.topic, each.key, each.value, each.headers, batch.at)
                for _, each in batch.records
            ],
        )
    for position, refused in letters:  # before their rows are deleted
        _write_letter(connection, position, refused, batch.at)
    if consumed:
        connection.execute("DELETE FROM commands WHERE position <= ?", (consumed,))
    if batch.commands:
        many(_PUT_COMMAND, [(encode_command(command),) for command in batch.commands])
    if replies:
        many(_PUT_REPLY, [(address, batch.at, encode_reply(reply)) for address, reply in replies])
    if refusals := [row for each in batch.replies if (row := _refusal_row(*each, batch.at)) is not None]:
        many(_PUT_REFUSAL, refusals)
    if batch.streams:
        many(
            _PUT_VALUE,
            [
                (s.workflow_id, s.name, s.run_id, s.activity, s.attempt, s.number, s.at, s.value)
                for s in batch.streams
            ],
        )
    if replies_stale_before:
        connection.execute(_DROP_VALUES, (replies_stale_before - STREAMS_KEPT_US,))
        connection.execute("DELETE FROM replies WHERE at < ?", (replies_stale_before,))
    connection.execute(
        "UPDATE meta SET value = ? WHERE key = 'latest_at' AND value < ?", (batch.at, batch.at)
    )


def _remove(connection: Connection, batch: Batch) -> None:
    """Remove all that is kept of runs. SQLite writes new rows into the pages that this frees."""
    many, runs = connection.executemany, [removed.run for removed in batch.removed]
    run_ids = [(run.run_id,) for run in runs]
    many(_END_EVENTS, run_ids)
    many(_END_STREAMS, run_ids)
    many(_END_CLOSED, [(run.type, run.status, run.closed_at, run.run_id) for run in runs])
    many(_END_STATE, [(workflow_id,) for workflow_id in batch.states_ended])


def insert_record(
    connection: Connection,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[RecordHeader],
    at: int,
) -> int:
    """Write one record of an author's topic; returns its position."""
    return connection.execute(_PUT_RECORD, record_row(topic, key, value, headers, at)).lastrowid or 0


def record_row(
    topic: str, key: bytes | None, value: bytes | None, headers: Sequence[RecordHeader], at: int
) -> tuple[str, bytes | None, bytes | None, bytes, int]:
    """A record of an author's topic, as the table `records` keeps it; `at` is in microseconds."""
    return topic, key, value, encode_headers(tuple(headers)), at


def _write_letter(connection: Connection, position: int, refused: RefusedCommand, at: int) -> None:
    reason = f"{refused.reason}: {refused.message}".encode("utf-8", "replace").decode()
    if position and connection.execute(_BURY, (reason, at, position)).rowcount:
        return
    record = b"" if refused.is_bare else record_of(refused.command)
    fresh = connection.execute("INSERT INTO commands (record) VALUES (?)", (record,)).lastrowid
    connection.execute(_BURY, (reason, at, fresh))
    connection.execute("DELETE FROM commands WHERE position = ?", (fresh,))


def _refusal_row(address: str, reply: AnyReply, at: int) -> tuple[str, int, int, str] | None:
    """That a trigger's command was refused; None for any other reply.

    That the workflow is there already is no fault: a record that comes twice leads to it.
    """
    if type(reply) is not Refused or reply.code == "already_started":
        return None
    if not isinstance(place := addresses.parse(address), addresses.DeadLetter):
        return None
    message = f"refused: {place.topic}, record {place.offset}: {REFUSED}: {reply.message}"
    return message.encode("utf-8", "replace").decode(), at, place.offset, place.topic


def _write_states(connection: Connection, states: Iterable[WorkflowState], started: set[str]) -> None:
    """Write the states. The indexes are left alone where only the record changes, as it nearly
    always does while a run is open.
    """
    whole: list[WorkflowState] = []
    same: list[WorkflowState] = []
    for state in states:
        is_same = state.status is Status.RUNNING and state.run_id not in started
        (same if is_same else whole).append(state)
    if same:
        changed = connection.executemany(
            _CHANGE_STATE,
            [(encode_state(s), s.updated_at, s.view, s.workflow_id, s.started_at, s.type) for s in same],
        ).rowcount
        if changed != len(same):
            whole += same
    if whole:
        connection.executemany(
            _PUT_STATE,
            [
                (
                    s.workflow_id,
                    s.type,
                    str(s.status),
                    s.started_at,
                    encode_state(s),
                    s.run_id,
                    s.updated_at,
                    s.closed_at,
                    s.view,
                )
                for s in whole
            ],
        )
