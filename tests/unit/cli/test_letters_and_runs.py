"""Which dead letters and which open runs a command takes, and how it shows them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from perdure.builtin.schedule import SCHEDULE
from perdure.cli import awaiting, replaying
from perdure.cli import upgrade_gate as live
from perdure.cli.app import app
from perdure.cli.commands import dead_letters
from perdure.cli.output import Format, local_time, print_facts, utc_time
from perdure.cli.rendering import print_states
from perdure.cli.upgrade_gate import OfType
from perdure.errors import EngineUnavailable
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.states import Status, WorkflowState
from perdure.ports.dead_letters import OpenLetter, Outcome, RetriedRecord


class Letters:
    """Of a platform in memory."""

    def __init__(self, *ids: str, size: int = 1) -> None:
        self.there = {
            each: OpenLetter(
                each, DeadLetter("ns.commands", 2, 17, -1, "undecodable", "no", 1, b"k", b"v"), size
            )
            for each in ids
        }
        self.retried: list[list[str]] = []
        self.dropped: list[list[str]] = []

    def page(self, limit: int = 100, after: str = "") -> Any:
        ids = [each for each in self.there if not after or each > after]
        return SimpleNamespace(
            letters=[self.there[each] for each in ids[:limit]],
            next=ids[limit - 1] if len(ids) > limit else "",
        )

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        return [self.there[each] for each in ids if each in self.there]

    def fault_of(self, letter: OpenLetter) -> str:
        return "of no use" if letter.id.endswith("x") else ""

    def retry(self, letters: Sequence[OpenLetter]) -> dict[str, RetriedRecord]:
        self.retried.append([each.id for each in letters])
        return {each.id: RetriedRecord(each.letter.topic, 2, 18) for each in letters}

    def failed_again(self, retried: Mapping[str, RetriedRecord], within_s: float) -> Outcome:
        return Outcome({each: "no" for each in retried if each.endswith("!")}, set())

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        self.dropped.append([each.id for each in letters])


def giving(value: Any) -> Callable[..., Any]:
    """A function that gives the same whatever it is asked."""

    def give(*_: Any, **__: Any) -> Any:
        return value

    return give


def invoke(letters: Letters, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(dead_letters, "_dead_letters", giving(letters))
    done = CliRunner().invoke(app, ["dead-letters", *arguments])
    return done.exit_code, done.output


def test_a_dry_run_retries_and_drops_nothing_and_says_what_it_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letters = Letters("a", "bx")

    retry = invoke(letters, monkeypatch, "retry", "--all", "--dry-run", "--json")
    drop = invoke(letters, monkeypatch, "drop", "--all", "--dry-run")

    assert (letters.retried, letters.dropped) == ([], [])
    assert retry[0] == 0
    assert json.loads(retry[1]) == {
        "would": "retry",
        "letters": [{"id": "a", "fault": None}, {"id": "bx", "fault": "of no use"}],
    }
    assert drop == (0, "a: would drop\nbx: would drop\n2 would drop; nothing was done\n")


def test_retried_letters_are_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "echo", giving(None))
    printed: list[Any] = []
    monkeypatch.setattr("perdure.cli.output.print_json", printed.append)

    code, _ = invoke(Letters("a", "bx", "c!"), monkeypatch, "retry", "--all", "--json")

    assert code == 1
    assert printed == [
        {
            "retried": [{"id": "a", "topic": "ns.commands", "is_processed": True}],
            "failed": [
                {"id": "bx", "message": "of no use"},
                {"id": "c!", "message": "a dead letter again: no"},
            ],
        }
    ]


def test_all_that_are_open_are_retried_in_batches_but_those_of_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    letters = Letters("a", "b", "cx", "d", "ex")
    code, said = invoke(letters, monkeypatch, "retry", "--all")
    assert code == 1
    assert letters.retried == [["a", "b"], ["d"]], "a batch of nothing is none"
    assert said.splitlines()[-3:] == ["cx: of no use", "ex: of no use", "3 retried, 2 failed"]
    letters = Letters("a", "b", "c")
    assert invoke(letters, monkeypatch, "retry", "c", "a", "c") == (
        0,
        "c: back in ns.commands\na: back in ns.commands\n",
    )
    assert letters.retried == [["c", "a"]]


def test_a_retried_record_that_is_a_dead_letter_again_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = invoke(Letters("a", "b!"), monkeypatch, "retry", "--all")
    assert code == 1
    assert said.splitlines() == [
        "a: back in ns.commands",
        "b!: a dead letter again: no",
        "1 retried, 1 failed",
    ]


def test_what_went_before_a_retry_that_raised_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE", 1)
    letters = Letters("a", "b")
    retry = letters.retry

    def failing(some: Sequence[OpenLetter]) -> dict[str, RetriedRecord]:
        if some[0].id == "b":
            raise EngineUnavailable("gone")
        return retry(some)

    monkeypatch.setattr(letters, "retry", failing)
    code, said = invoke(letters, monkeypatch, "retry", "--all")
    assert code == 1
    assert said.startswith("a: back in ns.commands\n")


def test_large_letters_are_retried_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "BATCH_BYTES", 100)
    letters = Letters("a", "b", "c", size=50)
    assert invoke(letters, monkeypatch, "retry", "--all")[0] == 0
    assert letters.retried == [["a", "b"], ["c"]]


def test_all_that_are_open_are_dropped_in_batches_and_only_on_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    letters = Letters("a", "b", "c")
    code, said = invoke(letters, monkeypatch, "drop", "--all")
    assert (code, letters.dropped) == (2, [])
    assert "3 would be dropped" in said
    assert invoke(letters, monkeypatch, "drop", "--all", "--yes") == (
        0,
        "a: dropped\nb: dropped\nc: dropped\n",
    )
    assert letters.dropped == [["a", "b"], ["c"]]
    assert invoke(letters, monkeypatch, "drop", "a", "--all", "--yes")[0] == 2


@pytest.mark.parametrize(
    ("ago_s", "age"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (86_399, "23h"), (172_800, "2d")],
)
def test_the_age_of_a_letter_is_in_whole_units(monkeypatch: pytest.MonkeyPatch, ago_s: int, age: str) -> None:
    now_us = 1_800_000_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now_us * 1_000 + 999)
    found = OpenLetter(
        "1", DeadLetter("t", 0, 0, -1, "undecodable", "m", now_us - ago_s * 1_000_000, None, None), 0
    )
    assert dead_letters._age(found) == age


def test_bytes_are_shown_as_text_only_where_they_are_some() -> None:
    assert [dead_letters._text(each) for each in (None, b"abc", b"\xff", b"", b"a\nb")] == [
        "",
        "abc",
        "b'\\xff'",
        "b''",
        "b'a\\nb'",
    ]
    long = b"x" * (dead_letters.SHOWN_BYTES + 3)
    assert dead_letters._text(long) == "x" * dead_letters.SHOWN_BYTES + " … 3 bytes more"


def test_all_of_a_letter_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = Letters("1/2")
    letter = DeadLetter(
        "ns.commands", 2, 17, 1_000, "undecodable", "no", 1, b"key", b"value", (RecordHeader("h", b"x"),)
    )
    letters.there["1/2"] = OpenLetter("1/2", letter, 5)
    code, said = invoke(letters, monkeypatch, "show", "1/2")
    assert code == 0
    shown = dict(line.rsplit("  ", 1) for line in said.splitlines())
    found = {name.strip(): value for name, value in shown.items()}
    assert (found["partition"], found["offset"], found["bytes"], found["header h"]) == ("2", "17", "5", "x")
    assert (found["key"], found["value"], found["retry"]) == ("key", "value", "may succeed")
    assert found["written"] == local_time(1_000_000)


def open_run(number: int, kind: str = "Order") -> WorkflowState:
    return WorkflowState(f"w-{number}", "r", kind, Status.RUNNING, number, number, 0, 1)


class Platform:
    """A client of a platform with open runs, the oldest first."""

    def __init__(self, count: int) -> None:
        self.runs = [open_run(number) for number in range(count)]
        self.asked: list[dict[str, Any]] = []

    async def list(self, **options: Any) -> list[WorkflowState]:
        self.asked.append(options)
        if options.get("type") == (SCHEDULE.name,):
            return []  # it has none
        runs = self.runs if options.get("order", "newest") == "oldest" else self.runs[::-1]
        after = options.get("after")
        return runs[runs.index(after) + 1 if after is not None else 0 :][: options["limit"]]

    async def history(self, workflow_id: str, run_id: str) -> Sequence[Any]:
        return [workflow_id]


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        (0, [0, 1, 2, 3, 4, 5, 6]),
        (7, [0, 1, 2, 3, 4, 5, 6]),
        (5, [0, 1, 2, 6, 5]),
        (4, [0, 1, 6, 5]),
        (1, [0]),
    ],
)
def test_of_many_open_runs_the_oldest_and_the_newest_are_replayed(
    monkeypatch: pytest.MonkeyPatch, limit: int, numbers: list[int]
) -> None:
    monkeypatch.setattr(live, "PAGE", 2)
    platform: Any = Platform(7)
    found = asyncio.run(live._chosen(platform, OfType("Order", 7), limit))
    assert [each.workflow_id for each in found] == [f"w-{number}" for number in numbers]
    assert {(each["type"], *each["status"]) for each in platform.asked} == {
        ("Order", "running", "suspended", "paused")
    }


def test_every_history_of_a_database_is_replayed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "PAGE", 3)
    platform = Platform(7)

    class Connected:
        async def __aenter__(self) -> Platform:
            return platform

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr("perdure.cli.replaying.Client.connect", giving(Connected()))
    found = asyncio.run(replaying._in_database("sqlite:///a.db"))
    assert [name for name, _ in found] == [f"w-{number}" for number in reversed(range(7))]


def test_a_list_shows_when_a_run_started_and_when_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    ended = WorkflowState("w", "r", "Order", Status.FAILED, 1_000_000, 9_000_000, 5_000_000, 1, reason="why")
    print_states([ended], Format.TABLE)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.index(local_time(1_000_000)) < row.index(local_time(5_000_000)) < row.index("why")
    assert local_time(9_000_000) not in row


def test_moments_are_shown_exactly_and_nothing_is_shown_for_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert utc_time(1_801_396_800_000_042) == "2027-01-31T12:00:00.000042Z"
    assert (utc_time(0), local_time(0)) == (None, "")
    assert utc_time(-1) == "1969-12-31T23:59:59.999999Z"
    print_facts([("a", "1"), ("empty", ""), ("long name", "2\n\n\x1b[2J3")])
    assert capsys.readouterr().out == "a          1\nlong name  2\n\n           \\x1b[2J3\n"


class Awaited:
    """A handle whose result comes in the end, in spite of what happens before."""

    id = "o-1"

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    async def result(self) -> Any:
        found = self.outcomes.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def waits_for(self) -> str:
        return "an engine"


def test_a_result_is_waited_for_while_no_engine_answers_and_a_failure_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awaiting, "SOON_S", 0.001)
    away = EngineUnavailable("nobody answers")

    async def awaited(*outcomes: Any) -> Any:
        async with asyncio.timeout(20):
            return await awaiting.awaited(Awaited(*outcomes), None)  # type: ignore[arg-type]

    assert asyncio.run(awaited(away, away, "done")) == "done"
    with pytest.raises(ValueError, match="no such thing"):
        asyncio.run(awaited(away, ValueError("no such thing")))
