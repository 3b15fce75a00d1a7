"""Workers on Kafka: every task is run, and how seldom twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from perdure.core.machines.activity import STOPPED
from perdure.model.commands import CompleteActivity, FailActivity, StartActivity
from tests.kafka.labour import Labour, until
from tests.kafka.namespace import Namespace


@pytest.fixture
def labour(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Labour:
    monkeypatch.setenv("LABOUR", str(tmp_path / "book"))
    return Labour(namespace, tmp_path / "book")


def test_the_tasks_of_a_worker_that_was_killed_are_run_by_another(labour: Labour) -> None:
    doomed = labour.process()
    try:
        quick = [labour.give(f"quick-{i}") for i in range(20)]
        until(lambda: len(labour.reports(CompleteActivity)) == 20, "the quick ones are done")
        until(lambda: labour.committed() == 20, "and committed")
        slow = [labour.give(f"slow-{i}", 1.0) for i in range(5)]
        until(lambda: len(labour.noted("begin")) == 25, "the slow ones have begun")
    finally:
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
    with labour.worker():
        until(
            lambda: {each.token for each in labour.reports(CompleteActivity)} == {*quick, *slow},
            "all are done",
        )
    begun = labour.noted("begin")
    assert [begun[f"quick-{i}"] for i in range(20)] == [1] * 20, "what was committed is not done again"
    assert [begun[f"slow-{i}"] for i in range(5)] == [2] * 5, "what it had in flight is"


def test_a_worker_that_joins_makes_no_task_run_twice(labour: Labour) -> None:
    names = [f"t-{i}" for i in range(60)]
    with labour.worker():
        for i, name in enumerate(names[:40]):
            labour.give(name, 0.4, i % 3)
        until(lambda: labour.noted("begin").total() >= 10, "it is at work")
        with labour.worker():
            for i, name in enumerate(names[40:]):
                labour.give(name, 0.2, i % 3)
            until(lambda: len(labour.noted("end")) == 60, "all are done")
    assert labour.noted("begin") == dict.fromkeys(names, 1)


def test_an_attempt_too_long_for_a_rebalance_is_leased_before_its_partition_goes(labour: Labour) -> None:
    with labour.worker():
        tokens = {labour.give(f"long-{i}", 6.0, i) for i in range(3)}
        until(lambda: len(labour.noted("begin")) == 3, "they have begun")
        with labour.worker():
            until(lambda: len(labour.noted("end")) == 3, "they have ended")
    assert labour.noted("begin").total() == 3, "nobody else ran them too"
    assert {each.token for each in labour.reports(StartActivity)} == tokens


def test_a_leased_attempt_does_not_delay_offset_commits(labour: Labour) -> None:
    with labour.worker():
        labour.give("long", 20.0)
        labour.give("short")
        until(lambda: labour.committed() == 2, "both are released, the long one runs on")
        assert labour.noted("end") == {"short": 1}
        labour.cancel(labour.tokens["long"])
        until(lambda: labour.noted("cancelled"), "it is cancelled")


def test_a_cancellation_reaches_the_attempt_and_releases_its_task(labour: Labour) -> None:
    with labour.worker():
        token = labour.give("unwanted", 50.0)
        until(lambda: labour.noted("begin"), "it has begun")
        labour.cancel(token)
        until(lambda: labour.noted("cancelled"), "it is cancelled")
        until(lambda: labour.committed() == 1, "its offset is released")
    assert labour.reports(CompleteActivity) == []


def test_an_attempt_whose_end_is_awaited_reports_it_also_if_the_cancellation_was_faster_than_its_task(
    labour: Labour,
) -> None:
    with labour.worker():
        running = labour.give("running", 50.0, reports_stop=True)
        until(lambda: labour.noted("begin"), "it has begun")
        early = "5ec2e7" * 5
        labour.cancel(running)
        labour.cancel(early)
        until(lambda: labour.noted("cancelled"), "it is cancelled")
        until(lambda: labour.committed() == 1, "its offset is released by its report")
        labour.give("late", 50.0, token=early, reports_stop=True)
        until(lambda: len(labour.reports(FailActivity)) == 2, "both are reported")
    assert {each.token: each.failure.type for each in labour.reports(FailActivity)} == dict.fromkeys(
        (running, early), STOPPED
    )
    assert labour.noted("end") == {}


def test_an_invalid_task_becomes_a_dead_letter_and_others_continue(labour: Labour) -> None:
    labour.namespace.put(b"garbage", b"key", 0, [("x", b"y")], "tasks.default")
    labour.namespace.flush()
    with labour.worker():
        labour.give("good")
        until(lambda: labour.noted("end"), "the next one is done")
        until(lambda: labour.committed() == 2, "both are behind us")
    (letter,) = labour.namespace.dead_letters()
    assert (letter.value, letter.key, letter.offset) == (b"garbage", b"key", 0)
    assert letter.topic == f"{labour.namespace.name}.tasks.default"


def test_a_full_worker_leaves_tasks_in_kafka_for_others(labour: Labour) -> None:
    with labour.worker(concurrency=2):
        for i in range(8):
            labour.give(f"t-{i}", 1.5, i % 3)
        until(lambda: labour.noted("begin").total() >= 2, "it is full")
        assert labour.noted("begin").total() - labour.noted("end").total() <= 2
        with labour.worker(concurrency=8):
            until(lambda: labour.noted("end").total() == 8, "the other one helps")
    assert labour.noted("begin").total() == 8


def test_a_partition_that_went_from_a_full_worker_is_read_when_it_comes_back(labour: Labour) -> None:
    """What a client has paused it keeps paused, beyond the partition's going and coming."""
    with labour.worker(concurrency=1):
        labour.give("long", 5.0)
        until(lambda: labour.noted("begin"), "it is full")
        labour.give("wait", 0.0)
        time.sleep(1.5)  # until it tells Kafka to wait
        with labour.worker():
            until(lambda: labour.noted("end")["wait"], "both have ended, the partitions are shared")
            for number in range(3):
                labour.give(f"shared-{number}", partition=number)
            until(lambda: len(labour.noted("end")) == 5, "all are read")
        for number in range(3):
            labour.give(f"back-{number}", partition=number)
        until(lambda: len(labour.noted("end")) == 8, "all are read again")


def test_a_worker_that_stops_ends_what_runs_and_reports_it(labour: Labour) -> None:
    process = labour.process()
    try:
        token = labour.give("last", 1.0)
        until(lambda: labour.noted("begin"), "it has begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert [each.token for each in labour.reports(CompleteActivity)] == [token]
    assert labour.committed() == 1
