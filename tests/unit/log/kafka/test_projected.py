"""What a projector reads: once, from where its tables are, and when its readers may rely on it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, TopicPartition

from perdure.adapters.kafka.projection.source import ProjectionSource
from perdure.codec.avro import EVENTS, STATE
from perdure.errors import InfrastructureError
from perdure.ports.projection import ReadRecords, Unreadable
from tests.contract.samples import record, state
from tests.unit.log.kafka.stand_ins import EOF, Found, schema

EVENTS_0, STATE_0 = TopicPartition("ns.events", 0), TopicPartition("ns.state", 0)


class Clients:
    """Of a namespace `ns`."""

    settings: ClassVar[dict[str, Any]] = {}

    def topic(self, part: str) -> str:
        return f"ns.{part}"


class Reader:
    """A consumer that is given what it finds."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.paused: set[tuple[str, int]] = set()
        self.sought: list[tuple[str, int, int]] = []

    def subscribe(self, *_: Any, **__: Any) -> None: ...

    def memberid(self) -> str:
        return "member"

    def consumer_group_metadata(self) -> str:
        return "metadata"

    def assign(self, _: Any) -> None: ...

    def unassign(self) -> None: ...

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused.update((each.topic, each.partition) for each in places)

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused.difference_update((each.topic, each.partition) for each in places)

    def seek(self, place: TopicPartition) -> None:
        self.sought.append((place.topic, place.partition, place.offset))

    def poll(self, _timeout_s: float) -> Any:
        return self.records.pop(0) if self.records else None

    def consume(self, limit: int, _timeout_s: float) -> list[Any]:
        taken, self.records = self.records[:limit], self.records[limit:]
        return taken

    def close(self) -> None: ...


class Ends:
    """The current end of the states, as a broker would report it."""

    def __init__(self) -> None:
        self.end = 0
        self.is_down = False

    def of(self, partitions: Any) -> dict[int, int]:
        if self.is_down:
            raise InfrastructureError("no answer")
        return dict.fromkeys(partitions, self.end)

    def close(self) -> None: ...


@pytest.fixture
def reader() -> Any:
    return Reader()


@pytest.fixture
def ends() -> Any:
    return Ends()


@pytest.fixture
def source(reader: Any, ends: Any) -> ProjectionSource:
    """Partition 0 of both topics; events continue at 5, states at 3."""
    clients: Any = Clients()
    made = ProjectionSource(clients, lambda _: None)
    made._consumer, made._state_ends = reader, ends
    made._member.subscribe(reader, [])
    made._member._assign(reader, [EVENTS_0, STATE_0])
    made.begin({("events", 0): 5, ("state", 0): 3})
    return made


def never(_header: bytes | None) -> bool:
    """No schema is learned."""
    return False


def event(offset: int, first: int = 1) -> Any:
    each = record("r", first)
    return Found(
        "ns.events", 0, offset, key=b"w/r/1", value=EVENTS.encode(each), headers=schema(EVENTS.header)
    )


def state_of(offset: int, workflow_id: str = "w") -> Any:
    value = STATE.encode(state(workflow_id))
    return Found("ns.state", 0, offset, key=workflow_id.encode(), value=value, headers=schema(STATE.header))


def taken(source: ProjectionSource, reader: Any, *records: Any) -> ReadRecords:
    reader.records = list(records)
    return source.take(100, 0)


def test_a_partition_is_read_from_where_the_tables_are_and_not_before(
    source: ProjectionSource, reader: Any
) -> None:
    assert reader.sought == [("ns.events", 0, 5), ("ns.state", 0, 3)]
    assert (reader.paused, set(source.gained), set(source.owned)) == (
        set(),
        set(),
        {("events", 0), ("state", 0)},
    )
    found = taken(source, reader, event(4), event(5, 3), event(5, 3), state_of(2, "early"), state_of(3))
    assert [each.first_event_id for each in found.events] == [3]
    assert list(found.states) == ["w"]
    assert (found.next_offsets, found.count) == ({("events", 0): 6, ("state", 0): 4}, 2)


def test_what_was_taken_and_not_written_is_read_again(source: ProjectionSource, reader: Any) -> None:
    taken(source, reader, event(5))
    source.begin_again()
    assert reader.paused == {("ns.events", 0), ("ns.state", 0)}
    assert (set(source.gained), set(source.owned)) == ({("events", 0), ("state", 0)}, set())
    assert taken(source, reader, event(6)).events == [], "not before it is said from where"
    source.begin({("events", 0): 5, ("state", 0): 3, ("events", 7): 1})
    assert len(taken(source, reader, event(5)).events) == 1
    assert ("events", 7) not in source.owned


def test_events_count_as_reflected_once_the_states_are_read_to_where_they_ended_then(
    source: ProjectionSource, reader: Any, ends: Any
) -> None:
    ends.end = 5
    assert taken(source, reader, event(5)).reflected == {}, "states 3 and 4 are to come"
    ends.end = 9
    assert taken(source, reader, state_of(3)).reflected == {}
    assert taken(source, reader, event(6), state_of(4)).reflected == {0: 6}, (
        "what was known of when the barrier was set, no more"
    )
    assert taken(source, reader, state_of(5)).reflected == {}
    assert taken(source, reader, Found("ns.state", 0, 9, error=EOF)).reflected == {0: 7}


def test_without_an_answer_about_the_states_nothing_counts_as_reflected(
    source: ProjectionSource, reader: Any, ends: Any
) -> None:
    ends.is_down = True
    assert taken(source, reader, event(5)).reflected == {}
    ends.is_down, ends.end = False, 3
    assert taken(source, reader).reflected == {0: 6}


def test_an_end_that_was_reached_moves_the_position_over_the_markers(
    source: ProjectionSource, reader: Any
) -> None:
    found = taken(
        source, reader, event(5), Found("ns.events", 0, 8, error=EOF), Found("ns.state", 0, 2, error=EOF)
    )
    assert found.next_offsets == {("events", 0): 8, ("state", 0): 3}
    assert found.count == 1


def test_tombstones_take_states_and_records_of_events_away(source: ProjectionSource, reader: Any) -> None:
    found = taken(
        source, reader, Found("ns.state", 0, 3, key=b"a/b"), Found("ns.events", 0, 5, key=b"a/b/run-1/12")
    )
    assert found.states == {"a/b": None}
    assert found.ended == [("a/b", "run-1", 12)]


BAD = [
    Found("ns.events", 0, 5, key=b"w/r/1", value=b"?", headers=[("perdure-schema", b"events/9/ab")]),
    Found("ns.events", 0, 5, key=b"w/r/x"),
    Found("ns.events", 0, 5, key=b"w/1"),
    Found("ns.state", 0, 3, key=b"other", value=STATE.encode(state("w")), headers=schema(STATE.header)),
    Found("ns.state", 0, 3, key=b"\xff", value=STATE.encode(state("w")), headers=schema(STATE.header)),
]


@pytest.mark.parametrize("bad", BAD, ids=["unknown_schema", "no number", "no run", "another key", "not text"])
def test_what_cannot_be_read_is_kept_with_its_place_and_stops_nothing(
    source: ProjectionSource, reader: Any, bad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source._decoder, "_has_learned", never)
    found = taken(source, reader, bad, event(6), state_of(4, "v"))
    (kept,) = found.unreadable
    assert (kept.topic, kept.partition, kept.offset) == (bad.topic().removeprefix("ns."), 0, bad.offset())
    assert (kept.key, kept.value) == (bad.key(), bad.value())
    assert kept.reason == ("unknown_schema" if b"events/9" in kept.schema.encode() else "undecodable")
    assert (len(found.events), list(found.states), found.ended) == (1, ["v"], [])
    assert found.next_offsets[kept.topic, 0] == (7 if kept.topic == "events" else 5)


def test_a_record_is_read_again_once_its_schema_is_known(
    source: ProjectionSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source._decoder, "_has_learned", never)
    each, header = record("r"), EVENTS.header[1].decode()
    unknown = Unreadable(
        "events",
        0,
        5,
        reason="unknown_schema",
        message="",
        key=b"w/r/1",
        value=EVENTS.encode(each),
        schema="events/9/ab",
    )
    known = Unreadable(
        "events",
        0,
        5,
        reason="unknown_schema",
        message="",
        key=b"w/r/1",
        value=EVENTS.encode(each),
        schema=header,
    )
    assert source.decode(unknown) is None
    again = source.decode(known)
    assert again is not None
    assert again.events == [each]


def test_a_projector_stops_if_the_topic_does_not_continue_at_its_position(
    source: ProjectionSource, reader: Any
) -> None:
    lost = KafkaError(KafkaError._AUTO_OFFSET_RESET)
    with pytest.raises(InfrastructureError, match="does not continue at offset 5"):
        taken(source, reader, Found("ns.events", 0, 0, error=lost))
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(InfrastructureError, match="denies reading"):
        taken(source, reader, Found("ns.events", 0, 0, error=refused))


def test_partitions_that_are_taken_away_are_read_no_more(source: ProjectionSource, reader: Any) -> None:
    source._member._revoke(reader, [EVENTS_0])
    assert (set(source.owned), set(source.gained)) == (set(), set())
    assert taken(source, reader, event(5), state_of(3)).count == 0
