"""Lines about failures: what they say, and how many there are."""

from __future__ import annotations

from perdure.engine.failure_log import MESSAGE, Sparse, in_words
from perdure.model.failure import FailureInfo

TRACEBACK = """  File "app.py", line 7, in charge
    pay()
  File "bank.py", line 31, in pay
    raise KeyError("missing")
"""


def test_a_failure_is_told_with_the_line_that_raised_it_and_what_it_was_raised_from() -> None:
    cause = FailureInfo("shop.bank:Away", "the bank\nis away")
    failure = FailureInfo("builtins:KeyError", "'missing'", traceback=TRACEBACK, cause=cause)
    assert in_words(failure) == "KeyError: 'missing' (bank.py:31), caused by Away: the bank is away"


def test_a_failure_without_a_message_is_told_by_its_class_and_a_long_one_in_part() -> None:
    assert in_words(FailureInfo("builtins:TimeoutError")) == "TimeoutError"
    assert in_words(FailureInfo("builtins:OSError", "x" * MESSAGE)) == f"OSError: {'x' * MESSAGE}"
    assert in_words(FailureInfo("builtins:OSError", "x" * (MESSAGE + 1))) == f"OSError: {'x' * MESSAGE}…"


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
