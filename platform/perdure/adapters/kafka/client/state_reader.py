"""Public reads of a namespace without PostgreSQL: states from the table, histories from the owning
engines.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Final

from perdure.adapters.kafka.client.one_state import SingleStates
from perdure.adapters.kafka.client.state_table import StateTable
from perdure.adapters.kafka.client.stream_reader import KafkaStreams
from perdure.client.listing import ListQuery
from perdure.client.request_ids import fresh_request_id
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record
from perdure.errors import EngineUnavailable, InfrastructureError
from perdure.model.commands import ReadHistory
from perdure.model.replies import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.client.position import Position
    from perdure.model.commands import Request
    from perdure.model.events import EventRecord
    from perdure.model.replies import AnyReply
    from perdure.model.states import WorkflowState
    from perdure.model.streams import StreamPage

HISTORY_S: Final = 15.0


class StateReader:
    """`client.ports.Reader`. The table is loaded with the first list, which takes about 10 us and
    0.7 KB a workflow; before that, some states are read one by one. Every read waits until it is
    where the topic ended when it was asked, so that it sees all that was answered before.

    Args:
        clients: makes Kafka clients.
        ask: asks the engines; from a thread, seconds.
    """

    def __init__(self, clients: PlainClients, ask: Callable[[Request, float], AnyReply]) -> None:
        self._table = StateTable(clients)
        self._singles = SingleStates(clients)
        self._streams = KafkaStreams(clients, self._began_at)
        self._ask = ask

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        if self._singles.left > 0 and not self._table.is_started:
            return self._singles.read(workflow_id)
        self._table.catch_up(workflow_id)
        return self._table.get(workflow_id)

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run, asked of its owner page by page."""
        records: builtins.list[EventRecord] = []
        next_event_id = 1
        while next_event_id:
            page = self.history(workflow_id, run_id, next_event_id)
            records += map(decode_event_record, page.records)
            next_event_id = page.next_event_id
        return records

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history, as its owner cuts it: by size. `limit` does not matter."""
        command = ReadHistory(workflow_id, run_id, fresh_request_id(), from_event_id=from_event_id)
        try:
            reply = self._ask(command, HISTORY_S)
        except EngineUnavailable as error:
            raise InfrastructureError(f"histories are served by the engines. {error}") from error
        if not isinstance(reply, History):
            raise InfrastructureError(
                f"the engine sent {type(reply).__name__} for a history: does it run an older version?"
            )
        return reply

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        self._table.catch_up()
        return self._table.select(query)

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        self._table.catch_up()
        return self._table.counts(query or ListQuery())

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream."""
        return self._streams.stream(workflow_id, name, after, limit)

    def _began_at(self, workflow_id: str) -> int:
        state = self.state(workflow_id)
        return state.started_at if state is not None else 0

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Nothing to wait for: every read sees all that was answered before it."""
        return True

    def close(self) -> None:
        """Close the table, and the consumers of streams."""
        self._table.close()
        self._singles.close()
        self._streams.close()
