"""`tests/contract/test_log.py` on a real broker, as far as it applies.

It does not where tasks are delivered within the process (they are records here, with a life of
their own), where one owner has the whole log (here a second engine gets a part), and where a commit
of nothing must be durable (here its offsets are owed).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from perdure.adapters.kafka.engine.log import KafkaLog
from perdure.adapters.process.channel import Channel
from perdure.codec.avro import EVENTS
from perdure.engine.ports import Batch
from tests.contract import test_log as contract
from tests.contract.media import Media, Node
from tests.contract.samples import commands, names, record
from tests.kafka.tally import TallyStore

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.engine.ports import Owner, Store
    from perdure.model.commands import AnyCommand
    from perdure.model.replies import AnyReply
    from tests.kafka.namespace import Namespace

APPLY = (
    contract.test_a_command_is_handed_out_once,
    contract.test_a_command_written_while_no_engine_runs_is_handed_out_to_the_next_owner,
    contract.test_a_reply_without_a_subscriber_is_dropped,
    contract.test_a_subscriber_that_raises_does_not_hurt_the_commit,
    contract.test_a_take_that_waits_returns_early,
    contract.test_abort_hands_out_again_in_order_and_before_what_is_newer,
    contract.test_abort_hands_out_nothing_that_was_committed,
    contract.test_abort_twice_hands_out_once,
    contract.test_at_most_limit_commands_are_taken_and_the_rest_later,
    contract.test_commands_of_a_batch_are_taken_after_it_once_and_in_their_order,
    contract.test_commands_of_a_batch_end_the_wait_of_the_next_take,
    contract.test_commands_of_a_batch_that_is_not_committed_are_not_sent,
    contract.test_commands_that_were_sent_are_handed_out_again_after_an_abort_and_after_a_crash,
    contract.test_commands_that_were_sent_and_a_commit_covers_are_done_with_after_a_crash,
    contract.test_commands_for_many_workflows_keep_the_order_of_each,
    contract.test_a_thousand_commands_of_one_batch_arrive,
    contract.test_the_same_command_twice_in_a_batch_is_two,
    contract.test_any_workflow_id_may_be_sent_to,
    contract.test_commands_are_taken_in_the_order_they_were_submitted,
    contract.test_commands_of_other_processes_are_taken_in_their_order,
    contract.test_replies_reach_their_subscriber_in_one_call_a_commit,
    contract.test_take_without_commands_waits_and_loses_nothing,
    contract.test_take_returns_immediately_with_waiting_commands,
    contract.test_take_returns_with_nothing_when_the_time_has_passed,
    contract.test_what_other_processes_wrote_and_no_commit_covers_is_handed_out_after_a_crash,
)
globals().update({each.__name__: each for each in APPLY})

PARTITIONS = frozenset(range(4))


class Served(KafkaLog):
    """Open once the partitions are its own; what was appended is in memory before `append` returns,
    as it is with a file."""

    def __init__(self, namespace: Namespace) -> None:
        self.channel = Channel()
        self._taking = threading.Lock()
        self._namespace = namespace
        super().__init__(namespace.clients(), self.channel, TallyStore())

    def open(self, owner: Owner | None = None) -> None:
        super().open(owner)
        while self.status.owned != PARTITIONS:
            super().take(0, 0.02)

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        with self._taking:
            return super().take(limit, timeout_s)

    def fetch(self, end: int) -> None:
        """Bring in what is there, unless another thread waits for it."""
        partition = self._namespace.place_of("w")
        if self._ownership.is_joined and self._taking.acquire(blocking=False):
            try:
                while self._pending._expected.get(partition, end) < end:
                    self._source.look(self._ownership.consumer.consume(100, 0.02))
            finally:
                self._taking.release()


class KafkaMedia(Media):
    def __init__(self, namespace: Namespace) -> None:
        super().__init__()
        self._namespace = namespace
        self._appended = 0

    def _new_node(self) -> Node:
        log = Served(self._namespace)
        return Node(log, cast("Store", NoStore()), log.channel)

    def _kill(self, node: Node) -> None:
        """As near as one comes within a process: `test_takeover.py` kills real ones."""
        node.close()

    def append(self, commands: Sequence[AnyCommand]) -> None:
        self._namespace.send(commands)
        self._appended += len(commands)
        for node in self._nodes:
            cast("Served", node.log).fetch(self._appended)

    def replies_to(self, address: str) -> list[AnyReply]:
        raise NotImplementedError

    def _new_reader(self) -> Reader:
        raise NotImplementedError


class NoStore:
    """These tests write nothing that a store would hold."""

    def open(self) -> None:
        pass

    def apply(self, batch: Batch) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def media(namespace: Namespace) -> Iterator[Media]:
    media = KafkaMedia(namespace)
    yield media
    media.close()


@pytest.fixture
def node(media: Media) -> Node:
    return media.node().open()


def recorded(at: int) -> Batch:
    """A batch that leaves something."""
    batch = Batch(at)
    batch.events.append((made := record(f"run-{at}"), EVENTS.encode(made)))
    return batch


def test_what_other_processes_wrote_and_a_commit_covers_is_done_with(media: Media, node: Node) -> None:
    media.append(commands("a", "b", "c"))
    assert names(node.log.take(2, 1.0)) == ["a", "b"]
    node.log.commit(recorded(1))
    media.crash(node)
    assert names(media.node().open().log.take(10, 5.0)) == ["c"]


def test_a_commit_after_an_abort_covers_only_what_was_handed_out_again(media: Media, node: Node) -> None:
    media.append(commands("a", "b", "c"))
    node.log.take(10, 1.0)
    node.log.abort()
    assert names(node.log.take(1, 0.0)) == ["a"]
    node.log.commit(recorded(1))
    media.crash(node)
    again = media.node().open().log
    assert names(again.take(10, 5.0)) + names(again.take(10, 0.2)) == ["b", "c"]


def test_many_commands_of_other_processes_all_arrive_in_order(media: Media, node: Node) -> None:
    sent = [f"{number:03}" for number in range(250)]
    media.append(commands(*sent))
    found: list[str] = []
    for at in range(1, 100):
        found += names(node.log.take(7, 0.0))
        if at % 3 == 0:
            node.log.commit(recorded(at))
        if len(found) == len(sent):
            break
    assert found == sent


def test_an_owner_that_closed_may_open_again_and_finds_once_what_it_had_taken(
    media: Media, node: Node
) -> None:
    node.log.submit(commands("a"))
    media.append(commands("x", "y"))
    node.log.take(2, 1.0)
    node.close()
    node.open()
    found: list[str] = []
    while len(found) < 3:
        found += names(node.log.take(10, 10.0))
    assert sorted(found) == ["a", "x", "y"]
    assert node.log.take(10, 0.1) == []


def test_a_command_names_its_partition_and_offset_and_an_abort_takes_them_back(
    media: Media, node: Node, namespace: Namespace
) -> None:
    place = namespace.place_of("w")
    assert node.log.input_of("w") == (place, -1)
    media.append(commands("a", "b", "c"))
    node.log.take(2, 1.0)
    assert node.log.input_of("w") == (place, 1)
    node.log.abort()
    assert node.log.input_of("w") == (place, -1), (
        "a timer's events of now must not say that the commands are done with"
    )
    node.log.take(2, 1.0)
    node.log.commit(recorded(1))
    assert node.log.input_of("w") == (place, 1)


def test_a_step_reports_into_an_open_batch_and_ends_the_wait(node: Node) -> None:
    node.log.submit(commands("begins"))
    assert node.log.take(10, 1.0)
    for _ in range(50):
        is_waiting = threading.Event()

        def report(go: threading.Event = is_waiting) -> None:
            go.wait()
            node.log.submit(commands("report"))

        thread = threading.Thread(target=report)
        thread.start()
        is_waiting.set()
        assert len(node.log.take(10, 60.0)) == 1, "one take, which the report ended"
        thread.join()
