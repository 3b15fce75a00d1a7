"""The contract of `client.ports.Reader`, for every adapter."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from perdure.client.listing import ListQuery
from perdure.codec.records import decode_event_record
from perdure.engine.ports import Batch
from perdure.model.states import Status, WorkflowState
from tests.contract.samples import record, state, states, with_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.client.ports import Reader
    from tests.contract.media import Media, Node


@pytest.fixture
def reader(media: Media, node: Node) -> Iterator[Reader]:
    reader = media.reader()
    yield reader
    reader.close()


def ids(found: list[WorkflowState]) -> list[str]:
    return [each.workflow_id for each in found]


def test_state_and_events_are_those_of_the_store(reader: Reader, node: Node) -> None:
    assert reader.state("w") is None
    assert reader.events("w", "run-1") == []
    node.write(with_record(states(state("w", view=b"1")), record()))
    assert reader.state("w") == state("w", view=b"1")
    assert reader.events("w", "run-1") == [record()]
    assert reader.events("v", "run-1") == []


def test_what_was_committed_is_read_before_it_is_applied(reader: Reader, node: Node) -> None:
    node.log.commit(with_record(states(state("w")), record()))
    assert reader.state("w") == state("w")
    assert reader.events("w", "run-1") == [record()]


def test_a_workflow_is_listed_by_its_last_run_and_status(reader: Reader, node: Node) -> None:
    node.write(states(state("w"), state("v", started_at=5)))
    node.write(states(state("w", status=Status.COMPLETED), at=2))
    assert ids(reader.list(ListQuery(statuses=("completed",)))) == ["w"]
    assert ids(reader.list(ListQuery(statuses=("running",)))) == ["v"]
    node.write(states(state("w", "run-2", type="Refund", started_at=9), at=9))
    assert ids(reader.list(ListQuery())) == ["w", "v"]
    assert ids(reader.list(ListQuery(types=("Order",)))) == ["v"]
    assert ids(reader.list(ListQuery(statuses=("completed",)))) == []
    assert reader.counts() == {("Order", "running"): 1, ("Refund", "running"): 1}


def test_any_thread_may_read_while_the_engine_writes(reader: Reader, node: Node) -> None:
    faults: list[BaseException] = []
    has_ended = threading.Event()

    def read() -> None:
        try:
            while not has_ended.is_set():
                reader.list(ListQuery(limit=5))
                records = reader.events("w", "run-1")
                found = reader.state("w")
                assert found is not None
                assert len(reader.events("w", "run-1")) >= len(records)
        except BaseException as error:
            faults.append(error)

    node.write(states(state("w")))
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 200):
        node.write(
            with_record(
                states(state("w", view=b"%d" % number), at=number), record("run-1", number * 2, at=number)
            )
        )
    has_ended.set()
    for thread in threads:
        thread.join()
    assert faults == []


def test_one_reads_while_no_engine_runs(media: Media, node: Node) -> None:
    node.write(with_record(states(state("w")), record()))
    node.close()
    reader = media.reader()
    assert reader.state("w") == state("w")
    assert ids(reader.list(ListQuery())) == ["w"]
    assert reader.events("w", "run-1") == [record()]
    reader.close()


def test_a_reader_that_was_closed_twice_is_closed(reader: Reader, node: Node) -> None:
    node.write(with_record(Batch(1), record()))
    reader.close()
    reader.close()


def test_a_page_of_a_history_begins_with_the_record_that_holds_the_event(reader: Reader, node: Node) -> None:
    history = [record("run-1", 1 + 2 * number, at=number + 1) for number in range(9)]
    for each in history:
        node.write(with_record(Batch(each.at), each))
    for begin in range(1, 20):
        page = reader.history("w", "run-1", begin, 3)
        first = decode_event_record(page.records[0])
        assert first.first_event_id <= min(begin, 18) <= first.last_event_id, (
            "beyond the end it is the last one"
        )
        last = decode_event_record(page.records[-1])
        assert page.next_event_id == (last.last_event_id + 1 if last.last_event_id < 18 else 0)
        assert last.last_event_id >= min(begin + 2, 18)
        assert len(page.records) <= 3
    assert reader.history("w", "run-2", 1, 3).records == ()
    assert reader.history("v", "run-1", 1, 3).records == (), "of another workflow"
    whole = reader.history("w", "run-1")
    assert [decode_event_record(each) for each in whole.records] == history
    assert whole.next_event_id == 0
