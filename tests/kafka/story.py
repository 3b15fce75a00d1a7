"""A history of many workflows in the topics of a namespace, as an engine writes it, and what tables
must be after it."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

from confluent_kafka import Producer

from perdure.adapters.postgres.database import Database
from perdure.codec.avro import EVENTS, HEADER, STATE
from perdure.codec.records import encode_event_record
from tests.contract.chronicle import Chronicle, random_moves
from tests.kafka.namespace import Namespace

_UNIQUE = itertools.count(1)


class Story:
    """Each batch is a transaction over events and states; some are aborted."""

    def __init__(self, namespace: Namespace, seed: int = 7) -> None:
        self._namespace = namespace
        self._chance = Random(seed)
        self._chronicle = Chronicle(namespace.partitions)
        self._producer = Producer(
            {
                "bootstrap.servers": namespace.bootstrap,
                "transactional.id": f"{namespace.name}.story{next(_UNIQUE)}",
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 5,
            }
        )
        self._producer.init_transactions(30)

    def go_on(self, batches: int) -> None:
        """So many more."""
        events, states = f"{self._namespace.name}.events", f"{self._namespace.name}.state"
        for _ in range(batches):
            if self._chance.random() < 0.1:
                self._producer.begin_transaction()
                self._producer.produce(events, b"never happened", b"w-0/x/none/1", 0, headers=[EVENTS.header])
                self._producer.abort_transaction(30)
            batch = self._chronicle.batch(random_moves(self._chance))
            self._producer.begin_transaction()
            for record, _ in batch.events:
                key = f"{record.workflow_id}/{record.run_id}/{record.first_event_id}"
                self._producer.produce(
                    events,
                    EVENTS.encode(record),
                    key,
                    self._chronicle.partition_of(record.workflow_id),
                    headers=[EVENTS.header],
                )
            for workflow_id, state in batch.states.items():
                self._producer.produce(
                    states,
                    STATE.encode(state),
                    workflow_id,
                    self._chronicle.partition_of(workflow_id),
                    headers=[STATE.header],
                )
            self._producer.commit_transaction(30)


def differences(namespace: Namespace, database: Database) -> list[str]:
    """Where the tables are not what a fold of the topics is; empty: they are."""
    found: list[str] = []
    events = [EVENTS.decode(each.value(), dict(each.headers())[HEADER]) for each in namespace.read("events")]
    wanted_events = {
        (record.workflow_id, record.run_id, event_id): (record.first_event_id, type(event).__name__)
        for record in events
        for event_id, event in enumerate(record.events, record.first_event_id)
    }
    wanted_records = {(r.workflow_id, r.run_id, r.first_event_id): encode_event_record(r) for r in events}
    wanted_states: dict[str, Any] = {}
    for each in namespace.read("state"):
        wanted_states[each.key().decode()] = STATE.decode(each.value(), dict(each.headers())[HEADER])
    with database.connect() as connection:
        rows = connection.execute(
            database.sql("SELECT workflow_id, run_id, event_id, first_event_id, type, record FROM {s}.events")
        ).fetchall()
        states = connection.execute(
            database.sql(
                "SELECT workflow_id, run_id, type, status, history_length, record FROM {s}.workflows"
            )
        ).fetchall()
    from perdure.codec.records import encode_state

    if {row[:3]: row[3:5] for row in rows} != wanted_events:
        found.append(f"events: {len(rows)} rows, {len(wanted_events)} in the topic")
    if {row[:3]: row[5] for row in rows if row[5] is not None} != wanted_records:
        found.append("records of events differ")
    shown = {row[0]: row[1:] for row in states}
    folded = {
        w: (s.run_id, s.type, str(s.status), s.history_length, encode_state(s))
        for w, s in wanted_states.items()
    }
    if shown != folded:
        found.append(f"states: {len(shown)} rows, {len(folded)} in the topic")
    return found
