"""Partitions come and go under load: no command is lost, none is applied twice
(docs/internals/kafka.md)."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from confluent_kafka.cimpl import NewPartitions

from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.partition_state import Assignment
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.errors import CommitAborted, InfrastructureError
from perdure.model.commands import SignalWorkflow
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.tally import Tally


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "settings", [{}, {"static": 1}, {"protocol": "consumer"}], ids=["dynamic", "static", "kip-848"]
)
def test_three_engines_joining_and_leaving_under_load_lose_nothing_and_repeat_nothing(
    namespace: Namespace, settings: dict[str, Any]
) -> None:
    everything = set(range(namespace.partitions))
    with namespace.process("a", **settings) as a, namespace.load():
        a.wait_for("gained")
        with namespace.process("b", **settings) as b:
            b.wait_for("gained")
            with namespace.process("c", **settings) as c:
                c.wait_for("gained")
                assert "handled" in b.end()
                with namespace.process("b", **settings) as again:
                    again.wait_for("gained")
                    # its session of 45 s cannot be set here: KIP-848 keeps it at the broker
                    a.signal(signal.SIGTERM if "protocol" in settings else signal.SIGKILL)
                    a.process.wait()
                    wait_until(lambda: again.owned() | c.owned() == everything, 60)
                    namespace.send_numbers(50)
                    namespace.until_applied_so_far()
                    again.end()
                wait_until(lambda: c.owned() == everything, 60)
                namespace.until_applied_so_far()
                with namespace.process("d", **settings) as d:
                    d.wait_for("gained")
                    c.end()
                    wait_until(lambda: d.owned() == everything, 60)
                    namespace.stop_load()
                    namespace.until_applied()
                    d.end()
    namespace.audit().assert_exactly_once()


def test_a_batch_with_commands_of_a_lost_partition_is_aborted_and_its_owner_notified_afterwards(
    namespace: Namespace,
) -> None:
    first = namespace.tally("first")
    first.until(lambda: len(first.owned) == 4)
    namespace.send_numbers(40)
    taken = first.log.take(100, 10.0)
    first._has_open_batch = True
    second = namespace.tally("second")
    for _ in range(300):
        first.log.take(1, 0.01)  # as for steps: callbacks run inside
        second.step(0.01)
        if first.log._ownership.membership.gone:
            break
    assert first.log._ownership.membership.gone
    assert len(first.owned) == 4, "told only between batches"
    with pytest.raises(CommitAborted, match="reassigned to another engine"):
        first.log.commit(first.batch_of(taken))
    first._has_open_batch = False
    first.log.abort()
    while len(first.owned) + len(second.owned) < 4 or not second.owned or namespace.audit().missing:
        first.step(0.01)
        second.step(0.01)
    assert first.owned.isdisjoint(second.owned)
    namespace.audit().assert_exactly_once()


def test_events_of_timers_alone_are_fenced_like_any_others(namespace: Namespace) -> None:
    """A batch that took no command still sends the offsets of the partitions it concerns."""
    tally = namespace.tally()
    tally.until(lambda: len(tally.owned) == 4)
    namespace.send_numbers(20)
    tally.until(lambda: tally.handled == 20)
    stale = tally.log._ownership.membership.metadata
    peer = namespace.tally()
    while not peer.owned or len(tally.owned) != 2:
        tally.step(0.01)
        peer.step(0.01)
    mine = next(f"w-{i}" for i in range(20) if namespace.place_of(f"w-{i}") in tally.owned)
    tally._has_open_batch = True
    # as an engine has it that was asleep during the rebalance
    tally.log._ownership.membership.member.metadata = stale
    batch = tally.batch_of([])
    batch.events = tally.batch_of([SignalWorkflow(mine, name="late")]).events
    with pytest.raises(CommitAborted, match="ILLEGAL_GENERATION"):
        tally.log.commit(batch)


def test_partitions_that_were_added_end_the_engine_with_what_to_do(namespace: Namespace) -> None:
    settings = {"bootstrap.servers": namespace.bootstrap, "topic.metadata.refresh.interval.ms": 500}
    tally = Tally(EngineClients(namespace.name, "one", settings)).open()
    try:
        tally.until(lambda: len(tally.owned) == 4)
        for done in namespace.admin.create_partitions(
            [NewPartitions(f"{namespace.name}.commands", 6)]
        ).values():
            done.result(20)
        with pytest.raises(InfrastructureError, match="must never be added"):
            tally.until(lambda: False)
    finally:
        tally.close()


def test_exception_of_a_rebalance_callback_reaches_the_caller_as_it_is(namespace: Namespace) -> None:
    """C code raised it, and confluent-kafka keeps only the text of such an exception."""

    def fail(_assignments: list[Assignment]) -> None:
        int("no number")

    member = GroupMember(on_assigned=fail)
    consumer = namespace.clients("engine").consumer(print)
    member.subscribe(consumer, [f"{namespace.name}.commands"])

    def join() -> None:
        while not member.partitions.owned:
            consumer.poll(0.1)

    try:
        with pytest.raises(ValueError, match="no number"):
            join()
    finally:
        consumer.close()
