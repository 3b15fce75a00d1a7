"""Clients and the projector reading records of topics, without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError

from perdure.adapters.kafka.client.state_table import StateTable
from perdure.adapters.kafka.projection.source import ProjectionSource
from perdure.client.listing import ListQuery
from perdure.codec.avro import STATE
from perdure.model.states import Status, WorkflowState
from perdure.ports.projection import ReadRecords


class Record:
    """A message of the Kafka client."""

    def __init__(
        self, topic: str, offset: int, key: str, value: bytes | None = None, header: Any = None
    ) -> None:
        self._topic, self._offset, self._key, self._value, self._header = topic, offset, key, value, header

    def error(self) -> KafkaError | None:
        return None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key.encode()

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return [self._header] if self._header is not None else None


def running(workflow_id: str) -> WorkflowState:
    return WorkflowState(workflow_id, "r", "Order", Status.RUNNING, 1, 1, 0, 1)


class Clients:
    """Makes one consumer, of records that a test puts there."""

    namespace = "shop"

    def __init__(self) -> None:
        self.settings: dict[str, object] = {}
        self.records: list[Record] = []

    def topic(self, part: str) -> str:
        return f"shop.{part}"

    def projection(self, _on_trouble: Any, *, is_member: bool) -> Any:
        return self

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions={0: None})})

    def assign(self, _: Any) -> None: ...

    pause = resume = seek = assign

    def memberid(self) -> str:
        return ""

    def consumer_group_metadata(self) -> None: ...

    def poll(self, _: float) -> Record | None:
        return self.records.pop(0) if self.records else None

    def consume(self, _count: int, _timeout_s: float) -> list[Record]:
        return []


class StateEnds:
    """The current end of the states."""

    def __init__(self, end: int) -> None:
        self.end = end

    def of(self, partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, self.end)


def test_a_position_counts_as_reflected_once_the_states_were_read_to_where_they_ended_then() -> None:
    clients: Any = Clients()
    source = ProjectionSource(clients, lambda _: None, is_member=False)
    ends: Any = StateEnds(2)
    source._state_ends = ends
    source.take(0, 0)
    source.begin({("events", 0): 0, ("state", 0): 0})

    def taken(topic: str, offset: int, key: str) -> ReadRecords:
        clients.records.append(Record(f"shop.{topic}", offset, key))
        return source.take(1, 0)

    assert taken("events", 0, "w/r/1").reflected == {}, "two states are still to be read"
    ends.end = 9
    assert taken("state", 0, "w").reflected == {}, "one is"
    assert taken("state", 1, "v").reflected == {0: 1}, "where they ended when the event was read, not now"
    assert taken("events", 1, "w/r/2").reflected == {}
    for offset in range(2, 8):
        assert taken("state", offset, "w").reflected == {}
    assert taken("state", 8, "w").reflected == {0: 2}


def test_a_tombstone_removes_a_workflow_from_the_clients_table() -> None:
    clients: Any = Clients()
    table = StateTable(clients)

    def put(*records: Record) -> None:
        messages: Any = records
        table._positions.setdefault(0, 0)
        table._take(messages)

    put(
        *(
            Record("shop.state", n, each, STATE.encode(running(each)), STATE.header)
            for n, each in enumerate("abc")
        )
    )
    assert table.counts(ListQuery()) == {("Order", "running"): 3}
    put(Record("shop.state", 3, "b"), Record("shop.state", 4, "never-seen"))
    assert table.get("b") is None
    assert sorted(each.workflow_id for each in table.select(ListQuery())) == ["a", "c"]
    assert sorted(each.workflow_id for each in table.select(ListQuery(statuses=("running",)))) == ["a", "c"]
    assert table.counts(ListQuery()) == {("Order", "running"): 2}
    put(Record("shop.state", 5, "b", STATE.encode(running("b")), STATE.header))
    assert table.get("b") == running("b"), "it may return"


def test_an_unreadable_state_is_shown_as_such_beside_the_others() -> None:
    clients: Any = Clients()
    table = StateTable(clients)
    table._positions[0] = 0
    records: Any = [
        Record("shop.state", 0, "a", STATE.encode(running("a")), STATE.header),
        Record("shop.state", 1, "a", b"\xff", STATE.header),
        Record("shop.state", 2, "b", b"\xff", STATE.header),
        Record("shop.state", 3, "c", STATE.encode(running("c")), STATE.header),
    ]
    table._take(records)
    found = {each.workflow_id: each for each in table.select(ListQuery())}
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"].type == "Order", "what was known before"
    assert found["a"].reason
    assert found["b"].reason
    assert found["c"] == running("c")
