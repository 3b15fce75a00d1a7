"""Reads that the API serves without asking the engine."""

from __future__ import annotations

import builtins
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec.structs import replace

from perdure.adapters.http.answers import fault_of
from perdure.adapters.http.contract import BASE, EVENTS_LIMIT, RESULT_S, decode_page, decode_records
from perdure.adapters.http.routes import counts_of, get, history, page_of, path_of, stream_of
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record, decode_reply, decode_state
from perdure.errors import InfrastructureError
from perdure.model.replies import History

if TYPE_CHECKING:
    from perdure.adapters.http.answers import Answer
    from perdure.adapters.http.connection import Connection
    from perdure.client.listing import ListQuery
    from perdure.client.position import Position
    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState
    from perdure.model.streams import StreamPage

_T = TypeVar("_T")

_NOT_FOUND: Final = "workflow-not-found"


class HttpReader:
    """`client.ports.Reader` through the API.

    Args:
        connection: the transport's; closed with it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        answer = self._connection.ask(get(path_of(workflow_id)))
        if answer.status == HTTPStatus.NOT_FOUND and answer.slug == _NOT_FOUND:
            return None
        return decode_state(self._record(answer))

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run, a page after the other."""
        found: builtins.list[EventRecord] = []
        next_event_id = 1
        while next_event_id:
            page = self.history(workflow_id, run_id, next_event_id)
            found += map(decode_event_record, page.records)
            next_event_id = page.next_event_id
        return found

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history."""
        answer = self._connection.ask(history(workflow_id, run_id, from_event_id, min(limit, EVENTS_LIMIT)))
        if answer.status == HTTPStatus.NOT_FOUND and (answer.is_record or answer.slug == _NOT_FOUND):
            return History("", ())
        page = decode_reply(self._record(answer))
        if not isinstance(page, History):
            raise InfrastructureError(
                f"{self._connection.url} answered with {type(page).__name__} for a history"
            )
        return page

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows; the API may give it in parts."""
        found: builtins.list[WorkflowState] = []
        wanted = query
        while True:
            answer = self._connection.ask(page_of(query))
            part = [decode_state(each) for each in decode_records(self._record(answer))]
            found += part
            if not answer.next or not part or wanted.is_cut(found):
                return wanted.within(found)
            query = replace(query, limit=query.limit - len(part), after=query.key_of(part[-1]))

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        answer = self._connection.ask(counts_of(query))
        return {(each.type, each.status): each.count for each in self._json(answer, _Counts).counts}

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream."""
        return decode_page(self._record(self._connection.ask(stream_of(workflow_id, name, after, limit))))

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Wait until what the API reads reflects a position; whether it does."""
        left_s = timeout_s
        while True:
            step_s = min(left_s, RESULT_S)
            answer = self._connection.ask(
                get(f"{BASE}/positions/{position}", timeout=f"{int(step_s * 1e6)}us")
            )
            left_s -= step_s
            is_reached = self._json(answer, _Reached).is_reached
            if is_reached or left_s <= 0:
                return is_reached

    def close(self) -> None:
        """Nothing to close: the transport does it."""

    def _record(self, answer: Answer) -> bytes:
        if answer.is_ok and answer.is_record:
            return answer.body
        raise fault_of(answer, self._connection.url)

    def _json(self, answer: Answer, kind: builtins.type[_T]) -> _T:
        if not answer.is_ok:
            raise fault_of(answer, self._connection.url)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.MsgspecError as error:
            raise InfrastructureError(f"{self._connection.url} sent an invalid response: {error}") from None


class _Count(msgspec.Struct):
    type: str
    status: str
    count: int


class _Counts(msgspec.Struct):
    counts: builtins.list[_Count]


class _Reached(msgspec.Struct):
    is_reached: bool
