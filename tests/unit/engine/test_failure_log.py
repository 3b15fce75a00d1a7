"""Lines about failures: what they say, and how many there are."""

from __future__ import annotations

import pytest

from perdure.engine.failure_log import MESSAGE, RUNS_BURST, FailureLog, Sparse, in_words
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.model.failure import FailureInfo
from perdure.model.replies import Refused

TRACEBACK = """  File "app.py", line 7, in charge
    pay()
  File "bank.py", line 31, in pay
    raise KeyError("missing")
"""


def test_a_failure_is_logged_with_the_line_that_raised_it_and_its_cause() -> None:
    cause = FailureInfo("shop.bank:Away", "the bank\nis away")
    failure = FailureInfo("builtins:KeyError", "'missing'", traceback=TRACEBACK, cause=cause)
    assert in_words(failure) == "KeyError: 'missing' (bank.py:31), caused by Away: the bank is away"


def test_a_failure_without_a_message_is_logged_by_its_class_and_a_long_one_is_cut() -> None:
    assert in_words(FailureInfo("builtins:TimeoutError")) == "TimeoutError"
    assert in_words(FailureInfo("builtins:OSError", "x" * MESSAGE)) == f"OSError: {'x' * MESSAGE}"
    assert in_words(FailureInfo("builtins:OSError", "x" * (MESSAGE + 1))) == f"OSError: {'x' * MESSAGE}…"


def test_a_refused_change_is_one_line_and_a_start_of_an_existing_run_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal = SignalWorkflow("order-1", "", "r-1", "udp:9:shop", name="pay")
    start = StartWorkflow("order-1", "", "r-2", "udp:9:shop", type="Order")
    log = FailureLog()
    log.write(
        [],
        [
            (signal, Refused("r-1", "unknown_name", "it has\nno such signal")),
            (start, Refused("r-2", "already_started", "it runs")),
        ],
    )
    assert [each.getMessage() for each in caplog.records] == [
        (
            "SignalWorkflow 'pay' of udp:9:shop for workflow order-1 was refused (unknown_name): "
            "it has no such signal"
        )
    ]


def test_refusals_in_floods_are_lines_in_part(caplog: pytest.LogCaptureFixture) -> None:
    signal = SignalWorkflow("order-1", name="pay", reply_to="udp:9:shop")
    refused = Refused("r-1", "unknown_name", "no")
    FailureLog().write([], [(signal, refused)] * (RUNS_BURST + 50))
    assert RUNS_BURST <= len(caplog.records) < RUNS_BURST + 50


def test_after_a_burst_one_line_in_a_while_says_how_many_were_left_out() -> None:
    now = [100.0]
    lines = Sparse(2, 10.0, lambda: now[0])
    assert [lines.passes("charge") for _ in range(5)] == [0, 0, None, None, None]
    assert lines.passes("refund") == 0, "each name by itself"
    now[0] += 9.0
    assert lines.passes("charge") is None
    now[0] += 1.0
    assert [lines.passes("charge") for _ in range(2)] == [4, None]
    now[0] += 1_000.0
    assert [lines.passes("charge") for _ in range(3)] == [1, 0, None], "a burst again, and no more"
