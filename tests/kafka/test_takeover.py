"""A new owner begins where the one before ended, whatever became of that one
(docs/internals/kafka.md)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition

from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.engine.log import KafkaLog
from perdure.adapters.process.channel import Channel
from perdure.codec.avro import EVENTS, HEADER, TASKS
from perdure.errors import InfrastructureError
from perdure.model.events import EventRecord, SignalReceived
from perdure.model.tasks import Task
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.tally import Tally, TallyStore

ALL = {0, 1, 2, 3}


def served_by(namespace: Namespace, *tallies: Tally) -> None:
    """Until all partitions are owned and everything sent is applied."""
    deadline = time.monotonic() + 40
    while set().union(*(tally.owned for tally in tallies)) != ALL or namespace.audit().missing:
        assert time.monotonic() < deadline, namespace.said
        for tally in tallies:
            tally.step(0.02)


# ---- deaths


def test_an_engine_killed_in_mid_transaction_is_fenced_and_its_partitions_are_served_by_the_peer(
    namespace: Namespace,
) -> None:
    with namespace.process("dying", in_transaction="KILL@30") as dying, namespace.process("peer") as peer:
        wait_until(lambda: len(dying.owned()) == len(peer.owned()) == 2)
        with namespace.load():
            dying.process.wait(60)
            wait_until(lambda: peer.owned() == ALL)
            peer.wait_for(f"engine {namespace.name}.dying has left a transaction open")
        namespace.until_applied()
        assert "owners_fenced=1" in peer.end()
    namespace.audit().assert_exactly_once()


def test_an_engine_that_stops_hands_over_immediately_and_is_not_fenced(namespace: Namespace) -> None:
    with (
        namespace.process("first", session_timeout_ms=90_000) as first,
        namespace.process("peer", session_timeout_ms=90_000) as peer,
    ):
        wait_until(lambda: len(first.owned()) == len(peer.owned()) == 2)
        namespace.send_numbers(100)
        namespace.until_applied()
        threading.Event().wait(1.2)  # a client that has just joined waits a second before it joins again
        first.end()
        wait_until(lambda: peer.owned() == ALL, 45)  # long before a session has passed
        assert "owners_fenced=0" in peer.end()


@pytest.mark.parametrize("left", ["offsets", "events"])
def test_only_the_owner_that_is_stuck_is_fenced_not_those_of_the_other_partitions(
    namespace: Namespace, left: str
) -> None:
    clients = namespace.clients()
    reader = clients.reader(lambda _: None)

    def owner(instance: str, partition: int) -> Producer:
        name = f"{namespace.name}.{instance}"
        producer = Producer({"bootstrap.servers": namespace.bootstrap, "transactional.id": name})
        producer.init_transactions(20)
        claim = TopicPartition(f"{namespace.name}.commands", partition, 0, metadata=name)
        for is_open in (False, True):
            producer.begin_transaction()
            if not is_open or left == "offsets":
                producer.send_offsets_to_transaction([claim], reader.consumer_group_metadata())
            if is_open:
                producer.produce(f"{namespace.name}.events", b"", b"", partition)
                producer.flush()
                break
            producer.commit_transaction()
        return producer

    stuck, alive = owner("stuck", 2), owner("alive", 1)
    alive.abort_transaction()
    tally = namespace.tally()
    tally.until(lambda: tally.owned == ALL)
    assert tally.log.status.counts.owners_fenced == 1
    assert any(
        f"engine {namespace.name}.stuck has left a transaction open" in line for line in namespace.said
    )
    alive.begin_transaction()
    alive.produce(f"{namespace.name}.replies", b"", b"", 0)
    alive.commit_transaction()
    with pytest.raises(KafkaException, match="fenced"):
        stuck.commit_transaction()
    reader.close()


def test_an_engine_restarted_under_its_name_continues_where_it_was(namespace: Namespace) -> None:
    with namespace.process("same", in_transaction="KILL@10") as dying, namespace.load():
        dying.process.wait(60)
        with namespace.process("same") as again:
            again.wait_for("gained")
            namespace.stop_load()
            namespace.until_applied()
            again.end()
    namespace.audit().assert_exactly_once()


# ---- the store is brought to where the events are


def test_a_store_that_has_seen_everything_reads_nothing_and_one_that_has_not_reads_the_rest(
    namespace: Namespace,
) -> None:
    store = TallyStore()
    first = namespace.tally(store=store)
    served_by(namespace, first)
    namespace.send_numbers(100)
    first.until(lambda: first.handled == 100)
    for partition in first.owned:
        store.close(partition)
    first.close()
    second = namespace.tally(store=TallyStore(store.kept))
    served_by(namespace, second)
    assert second.store.restored_records == 0
    namespace.send_numbers(100)
    second.until(lambda: second.handled == 100)
    second.close()
    third = namespace.tally(store=TallyStore(store.kept))
    served_by(namespace, third)
    records = len(namespace.events())
    assert 0 < third.store.restored_records < records
    fourth = TallyStore()
    third.close()
    served_by(namespace, namespace.tally(store=fourth))
    assert fourth.restored_records == records


def test_a_restore_goes_to_the_end_that_an_open_transaction_still_hides(namespace: Namespace) -> None:
    producer = Producer(
        {"bootstrap.servers": namespace.bootstrap, "transactional.id": f"{namespace.name}.nobody"}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    place = namespace.place_of("w")
    record = EventRecord("w", "run", 1, 1, place, -1, b"", [SignalReceived("hidden", b"")])
    producer.produce(
        f"{namespace.name}.events", EVENTS.encode(record), b"w/run/1", place, headers=[EVENTS.header]
    )
    producer.flush()
    tally = namespace.tally()
    tally.until(lambda: tally.owned == ALL - {place})
    for _ in range(20):
        tally.step(0.02)
    assert place not in tally.owned
    assert tally.log.status.restoring == {place: 1}
    producer.commit_transaction()
    tally.until(lambda: tally.owned == ALL)
    assert tally.store.last[place] == {"w": 1}


def test_a_restore_for_a_partition_that_was_taken_away_meanwhile_is_ignored(namespace: Namespace) -> None:
    first = namespace.tally()
    served_by(namespace, first)
    namespace.send_numbers(100)
    first.until(lambda: first.handled == 100)
    first.close()
    slow, let_go = TallyStore(), threading.Event()

    def wait(_: int) -> None:
        assert let_go.wait(30)

    slow.hook = wait
    second = namespace.tally(store=slow)
    second.until(lambda: len([call for call in slow.calls if "open" in call]) == 4)
    third = namespace.tally()
    while not third.owned:
        second.step(0.01)
        third.step(0.01)
    let_go.set()
    served_by(namespace, second, third)
    assert second.owned.isdisjoint(third.owned)
    assert all(f"close {partition}" in slow.calls for partition in third.owned)
    namespace.send_numbers(100)
    served_by(namespace, second, third)
    namespace.audit().assert_exactly_once()


def test_a_store_that_cannot_be_opened_ends_the_engine_with_its_reason(namespace: Namespace) -> None:
    store = TallyStore()

    def refuse(partition: int, end: int) -> int | None:
        raise InfrastructureError("the disk is full: make room")

    store.open = refuse  # type: ignore[method-assign]
    tally = namespace.tally(store=store)
    with pytest.raises(InfrastructureError, match="make room"):
        tally.until(lambda: bool(tally.owned), 20)


# ---- events and offsets disagree


def write_events(namespace: Namespace, workflow_id: str, first: int, count: int, caused_by: int) -> None:
    place = namespace.place_of(workflow_id)
    events: list[Any] = [SignalReceived(namespace.sent[i], b"") for i in range(first - 1, first - 1 + count)]
    record = EventRecord(workflow_id, "run", first, 1, place, caused_by, b"", events)
    namespace.put(EVENTS.encode(record), f"{workflow_id}/run/{first}", place, [EVENTS.header], topic="events")
    namespace.flush()


def test_commands_whose_events_are_there_already_are_skipped_their_tasks_sent_again_and_an_alarm_raised(
    namespace: Namespace,
) -> None:
    """As after an engine and a coordinator died together: the events were committed, the offsets
    were not."""
    namespace.send_numbers(10, workflows=1)
    write_events(namespace, "w-0", 1, 7, caused_by=6)
    store = TallyStore()
    task = Task("w-0", "run", 1, 1, "the same token", "charge", "default", b"[]", 1, "key", 1)
    store.open_tasks = [task, Task("w-0", "run", 2, 1, "a step's", "charge", "", b"[]", 1, "key", 1)]
    tally = namespace.tally(store=store)
    served_by(namespace, tally)
    assert tally.handled == 3
    namespace.audit().assert_exactly_once()
    assert tally.log.status.counts.events_ahead == 1
    assert any("ALARM" in line and "split" in line for line in namespace.said)
    sent = [
        TASKS.decode(each.value(), dict(each.headers())[HEADER]) for each in namespace.read("tasks.default")
    ]
    assert sent == [task]


@pytest.mark.parametrize("ahead", [1, 2])
def test_events_that_are_ahead_of_the_offset_by_a_single_command_are_noticed(
    namespace: Namespace, ahead: int
) -> None:
    """The usual split: one command was handled in the transaction whose offset was lost."""
    namespace.send_numbers(4, workflows=1)
    write_events(namespace, "w-0", 1, ahead, caused_by=ahead - 1)
    tally = namespace.tally()
    served_by(namespace, tally)
    assert tally.handled == 4 - ahead
    assert tally.log.status.counts.events_ahead == 1
    namespace.audit().assert_exactly_once()


def test_commands_of_a_recreated_topic_are_not_skipped(namespace: Namespace) -> None:
    namespace.send_numbers(3, workflows=1)
    place = namespace.place_of("w-0")
    other = EventRecord("w-0", "run", 1, 1, place, 5_000, b"", [SignalReceived("of the old topic", b"")])
    namespace.put(EVENTS.encode(other), "w-0/run/1", place, [EVENTS.header], topic="events")
    namespace.flush()
    tally = namespace.tally()
    served_by(namespace, tally)
    assert tally.handled == 3
    assert any("created again" in line for line in namespace.said)


def test_commands_deleted_before_they_were_taken_are_reported(namespace: Namespace) -> None:
    namespace.send_numbers(10, workflows=1)
    place = namespace.place_of("w-0")
    first = namespace.tally()
    served_by(namespace, first)
    first.close()
    namespace.send_numbers(10, workflows=1)
    deleted = namespace.admin.delete_records([TopicPartition(f"{namespace.name}.commands", place, 15)])
    for done in deleted.values():
        done.result(20)
    second = namespace.tally()
    second.until(lambda: second.handled == 5)
    assert any("from offset 10 to 15 were deleted" in line for line in namespace.said)


def test_a_claim_names_the_owner_before_its_first_commit(namespace: Namespace) -> None:
    tally = namespace.tally("claimer")
    tally.until(lambda: tally.owned == ALL)
    assert namespace.committed() == dict.fromkeys(ALL, 0)
    takeover = tally.log._ownership.takeover
    assert takeover is not None
    places = [(f"{namespace.name}.commands", partition) for partition in (0, 1)]
    assert takeover._fence.owners(places) == {}, "one's own id is nobody to fence"
    object.__setattr__(tally.log._clients, "instance", "another")
    assert takeover._fence.owners(places) == dict.fromkeys(places, f"{namespace.name}.claimer")


# ---- waiting


def test_a_start_waits_for_a_broker_that_is_down_and_reports_why_until_stopped() -> None:
    clients = EngineClients("nowhere", "one", {"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    log = KafkaLog(clients, Channel(), TallyStore())
    ended: list[BaseException] = []

    def run() -> None:
        try:
            log.open()
        except InfrastructureError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: "nowhere.commands" in log.status.waiting_for and "refused" in log.status.waiting_for)
    log.wake()
    thread.join(20)
    assert [str(error) for error in ended] == ["stopped while waiting for the broker"]
    log.close()


def test_topics_that_do_not_exist_are_waited_for_by_name(kafka: str) -> None:
    log = KafkaLog(
        EngineClients("nothing-here", "one", {"bootstrap.servers": kafka}), Channel(), TallyStore()
    )

    def run() -> None:
        with pytest.raises(InfrastructureError):
            log.open()

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(
        lambda: "nothing-here.events" in log.status.waiting_for and "topics apply" in log.status.waiting_for
    )
    log.wake()
    thread.join(20)
    assert not thread.is_alive()
    log.close()
