"""The table of states that a client keeps of the topic."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perdure.adapters.kafka.client.state_feed import StateFeed
from perdure.adapters.kafka.client.state_table import StateTable
from perdure.client.listing import ListQuery
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState
from tests.contract.samples import state
from tests.unit.log.kafka.stand_ins import EOF, Found, schema


class Clients:
    """Of a namespace `ns`; nothing is opened."""

    def topic(self, part: str) -> str:
        return f"ns.{part}"


@pytest.fixture
def table() -> StateTable:
    clients: Any = Clients()
    made = StateTable(clients)
    made._positions = {0: 0, 1: 0}
    return made


def put(each: WorkflowState, offset: int = 0, partition: int = 0) -> Any:
    key = each.workflow_id.encode()
    return Found(
        "ns.state", partition, offset, key=key, value=STATE.encode(each), headers=schema(STATE.header)
    )


def gone(workflow_id: str, offset: int = 0) -> Any:
    return Found("ns.state", 0, offset, key=workflow_id.encode())


def ended(partition: int, offset: int) -> Any:
    return Found("ns.state", partition, offset, error=EOF)


def ids(found: list[WorkflowState]) -> list[str]:
    return sorted(each.workflow_id for each in found)


def test_the_last_state_of_a_workflow_counts_and_a_tombstone_removes_it_from_every_list(
    table: StateTable,
) -> None:
    done = state("a", status=Status.COMPLETED)
    table._take([put(state("a")), put(state("b"), 1), put(done, 2)])
    assert table.get("a") == done
    assert table.counts(ListQuery()) == {("Order", "completed"): 1, ("Order", "running"): 1}
    assert ids(table.select(ListQuery(statuses=("running",)))) == ["b"]
    table._take([gone("a", 3), gone("never there", 4)])
    assert table.get("a") is None
    assert table.counts(ListQuery()) == {("Order", "running"): 1}
    assert ids(table.select(ListQuery())) == ["b"]


def test_lists_and_counts_are_by_type_and_status(table: StateTable) -> None:
    table._take([put(state("a")), put(state("b", type="Refund")), put(state("c", status=Status.FAILED))])
    assert ids(table.select(ListQuery(types=("Refund",)))) == ["b"]
    assert ids(table.select(ListQuery(types=("Order",), statuses=("running",)))) == ["a"]
    assert table.counts(ListQuery(statuses=("running",))) == {
        ("Order", "running"): 1,
        ("Refund", "running"): 1,
    }


def test_an_unreadable_state_keeps_the_last_known_one_with_the_reason(
    table: StateTable,
) -> None:
    bad = Found("ns.state", 0, 1, key=b"a", value=b"?", headers=[("perdure-schema", b"state/9/ab")])
    table._take([put(state("a")), bad, Found("ns.state", 0, 2, value=b"no key"), put(state("b"), 3)])
    shown = table.get("a")
    assert shown is not None
    assert replace(shown, reason="") == state("a")
    assert "is unknown" in shown.reason
    assert table.get("b") == state("b")
    assert "'a' cannot be read" in table._trouble
    assert table._positions[0] == 4


def test_a_read_waits_for_what_is_before_the_end_of_its_partition_and_for_no_other(
    table: StateTable,
) -> None:
    assert table._behind({0: 0, 1: 0}) == []
    assert table._behind({0: 2, 1: 1}) == [0, 1]
    table._take([put(state("a"), 0)])
    assert table._behind({0: 2}) == [0], "a marker, or a record, is still to come"
    table._take([ended(0, 2)])
    assert (table._behind({0: 2}), table._behind({0: 3}), table._loaded) == ([], [0], {0})


def test_a_table_that_grows_beyond_its_size_says_what_to_do_and_keeps_nothing() -> None:
    clients: Any = Clients()
    table = StateTable(clients, most_bytes=2_500)
    table._positions = {0: 0}
    table._take([put(replace(state("a"), view=b"1" * 500)), put(state("b"), 1)])
    table._take([put(replace(state("a"), view=b""), 2), put(state("c"), 3)])  # smaller: counted as it is
    with pytest.raises(InfrastructureError, match=r"more workflows than fit .* PostgreSQL .* https://host"):
        table._take([put(replace(state("d"), view=b"1" * 2_000), 4)])
    assert table.select(ListQuery()) == []


def test_a_late_end_offset_does_not_move_a_position_back(table: StateTable) -> None:
    table._take([put(state("a"), 7), ended(0, 5)])
    assert table._positions[0] == 8


def test_a_partition_that_an_open_transaction_holds_is_waited_for_again_once_it_has_moved(
    table: StateTable,
) -> None:
    table._stuck[0] = 0
    assert table._behind({0: 5, 1: 5}) == [1]
    table._take([put(state("a"), 0)])
    assert table._behind({0: 5}) == [0]


def test_the_feed_publishes_states_and_deletions_and_skips_the_rest() -> None:
    clients: Any = Clients()
    feed = StateFeed(clients)
    assert feed._change(put(state("a"))) == ("a", state("a"))
    assert feed._change(gone("a")) == ("a", None)
    assert feed._change(ended(0, 5)) is None
    assert feed.trouble == ""
    assert feed._change(Found("ns.state", 0, 0, value=b"no key")) is None
    assert feed._change(Found("ns.state", 0, 0, key=b"b", value=b"?")) is None
    assert "'b' cannot be read" in feed.trouble
