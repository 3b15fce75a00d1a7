"""The contract of `engine.ports.Log`, for every adapter."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from perdure.engine.ports import Batch
from perdure.errors import CommitAborted, InfrastructureError
from perdure.model.commands import FireTimer, SignalWorkflow
from tests.contract.samples import ELSEWHERE, commands, names, record, replies, sent, task, tasks, with_record

if TYPE_CHECKING:
    from perdure.model.commands import AnyCommand
    from perdure.model.replies import AnyReply
    from perdure.model.tasks import Task
    from tests.contract.media import Media, Node


# ---- commands


def test_commands_are_taken_in_the_order_they_were_submitted(node: Node) -> None:
    node.log.submit(commands("a", "b"))
    node.log.submit(commands("c"))
    assert names(node.log.take(10, 0.0)) == ["a", "b", "c"]


def test_commands_of_other_processes_are_taken_in_their_order(media: Media, node: Node) -> None:
    media.append(commands("a", "b"))
    media.append(commands("c"))
    assert names(node.log.take(10, 1.0)) == ["a", "b", "c"]


def test_at_most_limit_commands_are_taken_and_the_rest_later(media: Media, node: Node) -> None:
    media.append(commands("x", "y", "z"))
    node.log.submit(commands("a", "b", "c"))
    taken = [names(node.log.take(2, 0.1)) for _ in range(3)]
    assert [len(each) for each in taken] == [2, 2, 2]
    flat = [name for each in taken for name in each]
    assert [name for name in flat if name in "abc"] == ["a", "b", "c"]
    assert [name for name in flat if name in "xyz"] == ["x", "y", "z"]


def test_a_command_is_handed_out_once(media: Media, node: Node) -> None:
    media.append(commands("x"))
    node.log.submit(commands("a"))
    assert sorted(names(node.log.take(10, 1.0)) + names(node.log.take(10, 0.0))) == ["a", "x"]
    assert node.log.take(10, 0.0) == []
    node.log.commit(Batch(1))
    assert node.log.take(10, 0.0) == []


def test_abort_hands_out_again_in_order_and_before_what_is_newer(media: Media, node: Node) -> None:
    node.log.submit(commands("a", "b"))
    first = names(node.log.take(10, 0.0))
    media.append(commands("x"))
    first += names(node.log.take(10, 1.0))
    node.log.submit(commands("c"))
    node.log.abort()
    assert names(node.log.take(10, 0.0)) == [*first, "c"]


def test_abort_hands_out_nothing_that_was_committed(node: Node) -> None:
    node.log.submit(commands("a", "b"))
    node.log.take(1, 0.0)
    node.log.commit(Batch(1))
    node.log.take(1, 0.0)
    node.log.abort()
    assert names(node.log.take(10, 0.0)) == ["b"]


def test_abort_twice_hands_out_once(node: Node) -> None:
    node.log.submit(commands("a", "b"))
    node.log.take(10, 0.0)
    node.log.abort()
    node.log.abort()
    assert names(node.log.take(10, 0.0)) == ["a", "b"]


def test_what_other_processes_wrote_and_no_commit_covers_is_handed_out_after_a_crash(
    media: Media, node: Node
) -> None:
    media.append(commands("a", "b", "c"))
    assert names(node.log.take(2, 1.0)) == ["a", "b"]
    media.crash(node)
    assert names(media.node().open().log.take(10, 1.0)) == ["a", "b", "c"]


def test_what_other_processes_wrote_and_a_commit_covers_is_done_with(media: Media, node: Node) -> None:
    media.append(commands("a", "b", "c"))
    assert names(node.log.take(2, 1.0)) == ["a", "b"]
    node.log.commit(Batch(1))
    media.crash(node)
    assert names(media.node().open().log.take(10, 1.0)) == ["c"]


def test_a_commit_after_an_abort_covers_only_what_was_handed_out_again(media: Media, node: Node) -> None:
    media.append(commands("a", "b", "c"))
    node.log.take(10, 1.0)
    node.log.abort()
    assert names(node.log.take(1, 0.0)) == ["a"]
    node.log.commit(Batch(1))
    media.crash(node)
    assert names(media.node().open().log.take(10, 1.0)) == ["b", "c"]


def test_many_commands_of_other_processes_all_arrive_in_order(media: Media, node: Node) -> None:
    sent = [f"{number:03}" for number in range(250)]
    media.append(commands(*sent))
    found: list[str] = []
    for at in range(1, 100):
        taken = names(node.log.take(7, 0.0))
        found += taken
        if at % 3 == 0:
            node.log.commit(Batch(at))
        if len(found) == len(sent):
            break
    assert found == sent


def test_a_command_written_while_no_engine_runs_is_handed_out_to_the_next_owner(
    media: Media, node: Node
) -> None:
    media.crash(node)
    media.append(commands("a"))
    assert names(media.node().open().log.take(10, 1.0)) == ["a"]


# ---- commands that a batch sends


def taken(node: Node, count: int) -> list[str]:
    """The names of so many commands, and that there are no more."""
    found: list[str] = []
    until = monotonic() + 30
    while len(found) < count and monotonic() < until:
        found += names(node.log.take(count, 1.0))
    return found + names(node.log.take(10, 0.1))


def test_commands_of_a_batch_are_taken_after_it_once_and_in_their_order(media: Media, node: Node) -> None:
    media.append(commands("x"))
    assert taken(node, 1) == ["x"]
    node.log.commit(sent(*commands("a", "b", "c")))
    media.append(commands("y"))
    assert taken(node, 4) == ["a", "b", "c", "y"]
    node.log.commit(sent(*commands("d")))
    assert taken(node, 1) == ["d"]


def test_commands_of_a_batch_end_the_wait_of_the_next_take(node: Node) -> None:
    node.log.commit(sent(*commands("a")))
    begun = monotonic()
    assert names(node.log.take(10, 30.0)) == ["a"]
    assert monotonic() - begun < 5


def test_commands_of_a_batch_that_is_not_committed_are_not_sent(node: Node) -> None:
    for damaged in (
        FireTimer("w", number=1 << 70),
        SignalWorkflow("\ud800", name="d"),
        SignalWorkflow("w", name="\ud800"),
    ):
        with pytest.raises(Exception, match=r".") as failed:
            node.log.commit(sent(*commands("a"), damaged, *commands("b")))
        assert not isinstance(failed.value, CommitAborted | InfrastructureError), (
            "a command is to blame, not the log"
        )
        node.log.abort()
    assert node.log.take(10, 0.1) == []
    node.log.commit(sent(*commands("c")))
    assert taken(node, 1) == ["c"]


def test_commands_that_were_sent_are_handed_out_again_after_an_abort_and_after_a_crash(
    media: Media, node: Node
) -> None:
    node.log.commit(sent(*commands("a", "b", "c")))
    assert taken(node, 3) == ["a", "b", "c"]
    node.log.abort()
    assert names(node.log.take(2, 1.0)) == ["a", "b"]
    media.crash(node)
    assert taken(media.node().open(), 3) == ["a", "b", "c"]


def test_commands_that_were_sent_and_a_commit_covers_are_done_with_after_a_crash(
    media: Media, node: Node
) -> None:
    node.log.commit(sent(*commands("a", "b")))
    assert taken(node, 2) == ["a", "b"]
    node.log.commit(sent(*commands("c")))
    media.crash(node)
    assert taken(media.node().open(), 1) == ["c"]


def test_commands_for_many_workflows_keep_the_order_of_each(node: Node) -> None:
    everything = [SignalWorkflow(f"w-{number % 7}", name=f"{number}") for number in range(100)]
    node.log.commit(sent(*everything))
    found = [int(name) for name in taken(node, 100)]
    assert sorted(found) == list(range(100))
    for workflow in range(7):
        assert [number for number in found if number % 7 == workflow] == list(range(workflow, 100, 7))


def test_a_thousand_commands_of_one_batch_arrive(node: Node) -> None:
    everything = [f"{number:04}" for number in range(1_000)]
    node.log.commit(sent(*commands(*everything)))
    assert taken(node, 1_000) == everything


def test_the_same_command_twice_in_a_batch_is_two(node: Node) -> None:
    (command,) = commands("a")
    node.log.commit(sent(command, command))
    assert taken(node, 2) == ["a", "a"]
    node.log.commit(sent(*commands("b")))
    assert taken(node, 1) == ["b"]


@pytest.mark.parametrize(
    "workflow_id",
    ["a/b", " ", "é" * 127, "x" * 255, "'; DROP TABLE commands; --", "workflow:child/r/1/w", "\0", ""],
)
def test_any_workflow_id_may_be_sent_to(node: Node, workflow_id: str) -> None:
    node.log.commit(sent(SignalWorkflow(workflow_id, name="a"), SignalWorkflow("w", name="b")))
    found: list[AnyCommand] = []
    while len(found) < 2:
        found += node.log.take(10, 5.0)
    assert {(each.workflow_id, each.name) for each in found if isinstance(each, SignalWorkflow)} == {
        (workflow_id, "a"),
        ("w", "b"),
    }


# ---- waiting


def test_take_returns_immediately_with_waiting_commands(node: Node) -> None:
    node.log.submit(commands("a"))
    begun = monotonic()
    assert node.log.take(10, 30.0)
    assert monotonic() - begun < 5


@pytest.mark.parametrize("by", ["submit", "append", "wake"])
def test_a_take_that_waits_returns_early(media: Media, node: Node, by: str) -> None:
    taken: list[str] | None = None
    begun = monotonic()

    def take() -> None:
        nonlocal taken
        taken = names(node.log.take(10, 30.0))

    thread = threading.Thread(target=take)
    thread.start()
    match by:
        case "submit":
            node.log.submit(commands("a"))
        case "append":
            media.append(commands("a"))
        case _:
            node.log.wake()
    thread.join()
    assert monotonic() - begun < 5
    assert taken == ([] if by == "wake" else ["a"])


def test_take_returns_with_nothing_when_the_time_has_passed(node: Node) -> None:
    begun = monotonic()
    assert node.log.take(10, 0.12) == []
    assert 0.1 < monotonic() - begun < 5


def test_take_without_commands_waits_and_loses_nothing(node: Node) -> None:
    node.log.submit(commands("a"))
    node.log.take(10, 0.0)
    node.log.abort()
    begun = monotonic()
    assert node.log.take(0, 0.05) == []
    assert monotonic() - begun > 0.04
    assert names(node.log.take(10, 0.0)) == ["a"]


# ---- replies


def test_replies_reach_their_subscriber_in_one_call_a_commit(node: Node) -> None:
    mine: list[list[AnyReply]] = []
    others: list[list[AnyReply]] = []
    node.channel.deliveries.subscribe_replies("local:me", mine.append)
    node.channel.deliveries.subscribe_replies("local:you", others.append)
    batch = replies("local:me", "1", "2")
    batch.replies += replies("local:you", "3").replies + replies("local:me", "4").replies
    node.log.commit(batch)
    node.log.commit(replies("local:me", "5"))
    assert [[reply.request_id for reply in each] for each in mine] == [["1", "2", "4"], ["5"]]
    assert [[reply.request_id for reply in each] for each in others] == [["3"]]


def test_a_reply_without_a_subscriber_is_dropped(node: Node) -> None:
    mine: list[list[AnyReply]] = []
    node.channel.deliveries.subscribe_replies("local:me", mine.append)
    node.channel.deliveries.unsubscribe_replies("local:me")
    node.log.commit(replies("local:me", "1"))
    assert mine == []


def test_a_subscriber_that_raises_does_not_hurt_the_commit(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    mine: list[list[AnyReply]] = []

    def broken(_: object) -> None:
        raise RuntimeError("boom")

    node.channel.deliveries.subscribe_replies("local:broken", broken)
    node.channel.deliveries.subscribe_replies("local:me", mine.append)
    batch = replies("local:broken", "1")
    batch.replies += replies("local:me", "2").replies
    node.log.commit(batch)
    assert len(mine) == 1
    assert "boom" in caplog.text


def test_a_reply_to_another_process_is_found_there_also_after_a_crash(media: Media, node: Node) -> None:
    node.log.commit(replies(ELSEWHERE, "1", "2"))
    node.log.commit(replies(ELSEWHERE, "3"))
    media.crash(node)
    assert [reply.request_id for reply in media.replies_to(ELSEWHERE)] == ["1", "2", "3"]


# ---- tasks


def delivered(node: Node) -> list[list[Task]]:
    calls: list[list[Task]] = []
    node.channel.deliveries.subscribe_tasks(calls.append)
    return calls


def test_tasks_are_delivered_after_the_commit_in_one_call_and_steps_are_not(node: Node) -> None:
    calls = delivered(node)
    node.log.commit(tasks(task(1), task(2, queue=""), task(3)))
    assert calls == [[task(1), task(3)]]
    node.log.commit(tasks(task(4, queue="")))
    assert len(calls) == 1


def test_tasks_wait_for_a_subscriber(node: Node) -> None:
    node.log.commit(tasks(task(1), task(2)))
    assert delivered(node) == [[task(1), task(2)]]
    assert delivered(node) == []


def test_a_task_that_waits_and_ends_is_not_delivered_any_more(node: Node) -> None:
    node.log.commit(tasks(task(1), task(2), task(3)))
    second = tasks(task(3, attempt=2), at=2)
    second.tasks_ended = {("run-1", 1)}
    node.log.commit(second)
    assert delivered(node) == [[task(2), task(3, attempt=2)]]


def test_subscribers_take_turns(node: Node) -> None:
    first, second = delivered(node), delivered(node)
    node.log.commit(tasks(task(1)))
    node.log.commit(tasks(task(2), at=2))
    assert (first, second) == ([[task(1)]], [[task(2)]])


def test_tasks_of_a_crashed_owner_that_have_not_ended_are_delivered_again(media: Media, node: Node) -> None:
    delivered(node)
    node.write(tasks(task(1), task(2), task(3, queue="")))
    second = tasks(task(4, at=2), at=2)
    second.tasks_ended = {("run-1", 1)}
    node.log.commit(second)  # and crashes before apply
    media.crash(node)
    calls = delivered(media.node().open())
    assert calls == [[task(2), task(4, at=2)]]


def test_workers_get_the_tokens_of_attempts_to_stop(node: Node) -> None:
    told: list[list[str]] = []
    node.channel.deliveries.subscribe_tasks(lambda _: None, told.append)
    batch = Batch(1)
    batch.cancelled = ["token-1", "token-2"]
    node.log.commit(batch)
    assert told == [["token-1", "token-2"]]


def test_nothing_is_delivered_before_the_commit(node: Node) -> None:
    calls = delivered(node)
    batch = tasks(task(1))
    node.log.take(10, 0.0)
    assert calls == []
    node.log.commit(batch)
    assert calls == [[task(1)]]


# ---- ownership


def test_two_engines_never_both_commit(media: Media, node: Node) -> None:
    other = media.node()
    try:
        other.open()
    except InfrastructureError:
        node.log.commit(with_record(Batch(1), record()))
    else:
        other.log.commit(with_record(Batch(1), record()))
        with pytest.raises(InfrastructureError, match="another engine"):
            node.log.commit(with_record(Batch(2), record("run-2")))
    assert len(media.reader().events("w", "run-1")) == 1
    assert media.reader().events("w", "run-2") == []


def test_close_lets_another_open_and_may_be_repeated(media: Media, node: Node) -> None:
    node.write(with_record(Batch(1), record()))
    node.close()
    node.close()
    assert len(media.node().open().store.events("w", "run-1")) == 1


def test_an_owner_that_closed_may_open_again_and_finds_once_what_it_had_taken(
    media: Media, node: Node
) -> None:
    node.log.submit(commands("a"))
    media.append(commands("x", "y"))
    node.log.take(2, 1.0)
    node.close()
    node.open()
    assert sorted(names(node.log.take(10, 1.0)) + names(node.log.take(10, 0.0))) == ["a", "x", "y"]
