"""How a failure is shown to people and programs."""

from __future__ import annotations

import json

import pytest

from perdure.cli.output import Format
from perdure.cli.rendering import print_failure, print_history, print_states
from perdure.codec.failures import failure_of, info_of
from perdure.codec.history import history_from_json, history_to_json
from perdure.model.events import EventRecord, WorkflowFailed
from perdure.model.failure import FailureInfo, described, place_of
from perdure.model.states import Status, WorkflowState


def raised() -> FailureInfo:
    def look_up(secret: str) -> None:
        try:
            dict[int, int]()[1]
        except KeyError as error:
            raise ExceptionGroup("both", [ValueError("one"), OSError(2, "gone", "a.txt")]) from error

    with pytest.raises(ExceptionGroup) as caught:
        look_up("sk-" + "123")
    caught.value.add_note("while it was looked up")
    return info_of(caught.value)


FAILURE = raised()


def test_type_message_and_place_are_in_one_line() -> None:
    place = place_of(FAILURE)
    assert place.startswith("test_failures_shown.py:")
    assert described(FAILURE) == f"ExceptionGroup: both (2 sub-exceptions) ({place})"
    assert described(FailureInfo("app:Order.Odd", "x")) == "Order.Odd: x"
    assert described(FailureInfo("app:Odd")) == "Odd"


def test_the_place_is_where_it_was_raised_and_a_message_is_never_one() -> None:
    traceback = (
        '  File "/a/app.py", line 3, in run\n    await f()\n  File "C:\\b\\deep.py", line 31, in f\n    '
        "raise Odd\n"
    )
    assert place_of(FailureInfo("app:Odd", '  File "x.py", line 9', traceback=traceback)) == "deep.py:31"


def test_a_failed_run_is_explained_with_traceback_notes_members_and_cause(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_failure(failure_of(FAILURE))
    shown = capsys.readouterr().err
    for part in (
        "while it was looked up",
        "in look_up",
        "1. ValueError: one",
        "2. FileNotFoundError: [Errno 2]",
        "caused by KeyError: 1",
    ):
        assert part in shown
    assert "sk-123" not in shown


def test_a_history_shows_the_chain_in_one_line_and_comes_back_from_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [EventRecord("w", "r", 1, 7, 0, 0, b"", [WorkflowFailed(FAILURE)])]
    print_history(records, Format.TABLE)
    shown = capsys.readouterr().out
    assert f"ExceptionGroup: both (2 sub-exceptions) ({place_of(FAILURE)}) [ValueError: one; " in shown
    assert "caused by KeyError: 1" in shown
    assert history_from_json(history_to_json(records)) == records


def test_programs_get_the_failure_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_states([WorkflowState("w", "r", "Order", Status.FAILED, 1, 1, 1, 1, failure=FAILURE)], Format.JSON)
    failure = json.loads(capsys.readouterr().out)[0]["failure"]
    assert (failure["type"], failure["place"]) == ("builtins:ExceptionGroup", place_of(FAILURE))
    assert [each["type"] for each in failure["exceptions"]] == [
        "builtins:ValueError",
        "builtins:FileNotFoundError",
    ]
    assert failure["cause"]["message"] == "1"
