"""How far a worker's offsets may be committed."""

from __future__ import annotations

from perdure.adapters.kafka.clients.partition_state import Place
from perdure.adapters.kafka.worker.held_tasks import HeldTasks

HERE: Place = ("t", 0)
THERE: Place = ("t", 1)


def held(*places: Place) -> HeldTasks:
    tasks = HeldTasks()
    tasks.gain(places or (HERE,))
    return tasks


def test_only_the_contiguous_prefix_is_due() -> None:
    tasks = held()
    for offset in (5, 6, 7):
        assert tasks.take(HERE, offset, f"token-{offset}")
    tasks.end(["token-6"])
    assert tasks.due("t") == []
    tasks.end(["token-5"])
    assert tasks.due("t") == [(HERE, 7)]
    assert tasks.due("t") == [], "once"
    tasks.end(["token-7"])
    assert tasks.due("t") == [(HERE, 8)]


def test_a_commit_that_failed_is_due_again() -> None:
    tasks = held()
    tasks.take(HERE, 0, "a")
    tasks.end(["a"])
    assert tasks.due("t") == [(HERE, 1)]
    tasks.not_committed([HERE])
    assert tasks.due("t") == [(HERE, 1)]


def test_a_leased_attempt_is_out_and_holds_no_offset() -> None:
    tasks = held()
    tasks.take(HERE, 0, "a")
    tasks.release(["a"])
    assert (tasks.due("t"), len(tasks)) == ([(HERE, 1)], 1)
    assert not tasks.take(HERE, 1, "a"), "it runs already"
    assert tasks.due("t") == [], "and is waited for"
    tasks.end(["a"])
    assert (tasks.due("t"), len(tasks)) == ([(HERE, 2)], 0)


def test_what_has_ended_is_not_run_again_but_what_was_declined_is() -> None:
    tasks = held()
    tasks.take(HERE, 0, "done")
    tasks.take(HERE, 1, "declined")
    tasks.end(["done"])
    tasks.end(["declined"], is_settled=False)
    assert not tasks.take(HERE, 2, "done")
    assert tasks.take(HERE, 3, "declined")


def test_what_was_cancelled_before_it_came_is_not_run() -> None:
    tasks = held()
    tasks.end(["unwanted"])
    assert not tasks.take(HERE, 0, "unwanted")
    assert tasks.due("t") == [(HERE, 1)]


def test_tasks_of_a_partition_that_is_not_ours_are_left_to_its_owner() -> None:
    tasks = held()
    assert not tasks.take(THERE, 0, "theirs")
    assert (tasks.due("t"), len(tasks)) == ([], 0)


def test_a_lost_partition_is_not_committed_and_what_runs_is_still_out() -> None:
    tasks = held(HERE, THERE)
    tasks.take(HERE, 0, "a")
    tasks.take(THERE, 0, "b")
    tasks.lose([HERE])
    tasks.end(["a", "b"])
    assert tasks.due("t") == [(THERE, 1)]
    assert len(tasks) == 0


def test_what_was_dropped_stays_held_for_the_next_owner() -> None:
    tasks = held()
    tasks.take(HERE, 0, "a")
    tasks.drop(["a"])
    assert (tasks.due("t"), len(tasks), tasks.held([HERE])) == ([], 0, ["a"])
    tasks.lose([HERE])
    tasks.gain([HERE])
    assert tasks.take(HERE, 0, "a"), "it came back"


def test_a_task_that_came_on_two_partitions_is_done_with_on_the_one_that_is_left() -> None:
    tasks = held(HERE, THERE)
    tasks.take(HERE, 0, "a")
    assert not tasks.take(THERE, 5, "a"), "it runs already"
    tasks.lose([HERE])
    assert tasks.due("t") == []
    tasks.end(["a"])
    assert tasks.due("t") == [(THERE, 6)]
