"""What `client.ports.Reader` promises, on every adapter."""

from __future__ import annotations

import random
import threading
from itertools import product
from typing import TYPE_CHECKING, Literal

import pytest

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


@pytest.fixture
def many(node: Node) -> list[WorkflowState]:
    """Two hundred workflows of three types; starts coincide."""
    chance = random.Random(7)
    found = [
        state(
            f"w-{number:03}",
            f"run-{number}",
            status=chance.choice(list(Status)),
            type=chance.choice(["Order", "Refund", "Überweisung"]),
            started_at=chance.randrange(50),
        )
        for number in range(200)
    ]
    node.write(states(*found))
    return found


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


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_the_list_is_ordered_by_start_then_id(
    reader: Reader, many: list[WorkflowState], order: Literal["newest", "oldest"]
) -> None:
    expected = sorted(many, key=lambda each: (each.started_at, each.workflow_id), reverse=order == "newest")
    assert reader.list(order=order, limit=1_000) == expected


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_filters_and_pages_give_what_a_plain_filter_gives(
    reader: Reader, many: list[WorkflowState], order: Literal["newest", "oldest"]
) -> None:
    ordered = sorted(many, key=lambda each: (each.started_at, each.workflow_id), reverse=order == "newest")
    types = (None, "Order", "Überweisung", "Unheard")
    statuses = (None, "running", "failed", "unheard")
    spans = ((None, None), (10, None), (None, 40), (10, 40))
    for kind, status, (since, until) in product(types, statuses, spans):
        expected = [
            each
            for each in ordered
            if kind in {None, each.type}
            and status in {None, each.status}
            and (since is None or each.started_at >= since)
            and (until is None or each.started_at < until)
        ]
        found: list[WorkflowState] = []
        while page := reader.list(
            type=kind,
            status=status,
            started_after=since,
            started_before=until,
            order=order,
            limit=7,
            after=found[-1] if found else None,
        ):
            assert len(page) <= 7
            found += page
        assert ids(found) == ids(expected), (kind, status, since, until)


def test_a_workflow_is_listed_by_its_last_run_and_status(reader: Reader, node: Node) -> None:
    node.write(states(state("w"), state("v", started_at=5)))
    node.write(states(state("w", status=Status.COMPLETED), at=2))
    assert ids(reader.list(status="completed")) == ["w"]
    assert ids(reader.list(status="running")) == ["v"]
    node.write(states(state("w", "run-2", type="Refund", started_at=9), at=9))
    assert ids(reader.list()) == ["w", "v"]
    assert ids(reader.list(type="Order")) == ["v"]
    assert ids(reader.list(status="completed")) == []
    assert reader.counts() == {("Order", "running"): 1, ("Refund", "running"): 1}


def test_counts_are_by_type_and_status(reader: Reader, many: list[WorkflowState]) -> None:
    expected: dict[tuple[str, str], int] = {}
    for each in many:
        expected[each.type, str(each.status)] = expected.get((each.type, str(each.status)), 0) + 1
    assert reader.counts() == expected


def test_any_thread_may_read_while_the_engine_writes(reader: Reader, node: Node) -> None:
    faults: list[BaseException] = []
    has_ended = threading.Event()

    def read() -> None:
        try:
            while not has_ended.is_set():
                reader.list(limit=5)
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
        node.write(with_record(states(state("w", view=b"%d" % number), at=number), record("run-1", number * 2, at=number)))
    has_ended.set()
    for thread in threads:
        thread.join()
    assert faults == []


def test_one_reads_while_no_engine_runs(media: Media, node: Node) -> None:
    node.write(with_record(states(state("w")), record()))
    node.close()
    reader = media.reader()
    assert reader.state("w") == state("w")
    assert ids(reader.list()) == ["w"]
    assert reader.events("w", "run-1") == [record()]
    reader.close()


def test_a_reader_that_was_closed_twice_is_closed(reader: Reader, node: Node) -> None:
    node.write(with_record(Batch(1), record()))
    reader.close()
    reader.close()
