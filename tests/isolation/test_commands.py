"""A command of anybody's that cannot be handled, written or answered harms nobody else, and is not
lost: it becomes a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as addressed

from perdure import activity, workflow
from perdure.adapters.sqlite import rows
from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters
from perdure.adapters.sqlite.file import connect
from perdure.adapters.sqlite.hints import Hints
from perdure.codec.records import encode_command, encode_state
from perdure.errors import CommitAborted
from perdure.model import commands as cm
from perdure.model.replies import Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import InFile, InMemory, World

DIGITS = "9" * 5_000
ADDRESSES = [
    "dead-letter:x",
    "dead-letter:",
    "dead-letter:a/b/c",
    "dead-letter:topic/1/" + DIGITS,
    "dead-letter:topic/-1/2",
    "dead-letter:t/1/99999999999999999999",
    "dead-letter:t/²/3",
    "kafka:x",
    "kafka:" + DIGITS + ":me",
    "kafka:-1:me",
    "kafka:²:me",
    "kafka:0:\ud800",
    "udp:" + DIGITS + ":me",
    "udp:0:me",
    "udp:99999:me",
    "udp:1:\ud800",
    "local:nobody",
    "local:",
    "workflow:",
    "workflow:child/run-1/1",
    "workflow:child/run-1/" + DIGITS + "/bystander",
    "workflow:child/run-1/-1/bystander",
    "workflow:child/run-1/1/\ud800",
    "workflow:child/run-1/1/" + "w" * 100_000,
    "nonsense",
    "\0",
    "k" * 100_000,
]


@activity.defn
async def echo(value: Any) -> Any:
    return value


@workflow.defn
class Bystander:
    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_until(lambda: self.total > 2)
        return int(await echo(self.total))

    @workflow.signal
    def add(self, value: int) -> None:
        self.total += value


@workflow.defn
async def waits_for_much() -> str:
    token = workflow.token(int, timeout="1h")
    await asyncio.gather(
        workflow.sleep("1h"), echo(1), echo.options(retry=activity.Retry(give_up_after="1h"))(2), token
    )
    return "never"


REGISTRY = Registry.of([Bystander, waits_for_much], [echo])


class Breaking:
    """Around a log: its commits raise as long as their batch has something of a victim.

    Attributes:
        error: the exception that is raised.
        victims: workflow ids.
        breaks_letters: a dead letter cannot be written either, so often.
        full_disk: commits that hold a dead letter are aborted, so often.
    """

    def __init__(self) -> None:
        self.error: Exception = ValueError("a value that nobody can write")
        self.victims: set[str] = set()
        self.breaks_letters = 0
        self.full_disk = 0
        self._log: Any = None

    def wrap(self, port: Any, name: str) -> Any:
        if name != "log":
            return port
        self._log = port
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Any) -> None:
        if any(record.workflow_id in self.victims for record, _ in batch.events):
            raise self.error
        if batch.letters and self.full_disk:
            self.full_disk -= 1
            raise CommitAborted("the disk is full")
        if batch.letters and self.breaks_letters:
            self.breaks_letters -= 1
            raise self.error
        self._log.commit(batch)


@pytest.fixture
def breaking() -> Breaking:
    return Breaking()


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path, breaking: Breaking) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(REGISTRY, medium=medium, wrap=breaking.wrap)
    world.start_workflow("bystander", "Bystander")
    yield world
    breaking.victims.clear()
    world.signal("bystander", "add", 3)
    assert world.state("bystander").status is Status.COMPLETED, world.reports
    world.crash()
    world.settle()
    assert world.value("bystander") == 3
    world.close()


def outside(world: World, *commands: Any) -> None:
    """As another process writes them."""
    if isinstance(world._medium, InMemory):
        world.medium.append(commands)
    else:
        assert isinstance(world._medium, InFile)
        with closing(connect(world._medium.path, 5.0)) as connection:
            connection.executemany(
                "INSERT INTO commands (record) VALUES (?)", [(encode_command(each),) for each in commands]
            )
    world.settle()


def letters(world: World) -> list[str]:
    """Reason and message of each."""
    if isinstance(world._medium, InMemory):
        return [f"{each.reason}: {each.message}" for each in world.medium.letters]
    assert isinstance(world._medium, InFile)
    with closing(connect(world._medium.path, 5.0)) as connection:
        return [row[0] for row in connection.execute("SELECT reason FROM dead_letters ORDER BY position")]


def commands_left(world: World) -> int:
    if isinstance(world._medium, InMemory):
        return len(world.medium.commands)
    assert isinstance(world._medium, InFile)
    with closing(connect(world._medium.path, 5.0)) as connection:
        return int(connection.execute("SELECT count(*) FROM commands").fetchone()[0])


# ---- addresses


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: ascii(address)[:30])
def test_an_invalid_address_gets_no_answer(world: World, address: str) -> None:
    commands: list[Any] = [
        cm.StartWorkflow("w", type="NoSuchType", request_id="r1", reply_to=address),
        cm.StartWorkflow("ok", type="Bystander", request_id="r2", reply_to=address),
        cm.SignalWorkflow("ok", name="add", input=b"[5]", reply_to=address),
        cm.AwaitWorkflow("ok", request_id="r3", reply_to=address),
        cm.QueryWorkflow("ok", name="nothing", request_id="r4", reply_to=address),
        cm.ReadHistory("ok", request_id="r5", reply_to=address),
    ]
    if address.isprintable() and "\ud800" not in address:
        outside(world, *commands)
    else:
        world.log.submit(commands)
        world.settle()
    assert world.state("ok").status is Status.COMPLETED
    found = letters(world)
    assert len(found) == 1, "a refusal that nobody hears of"
    assert "refused: " in found[0]
    assert "NoSuchType" in found[0]
    assert commands_left(world) == 0
    assert not [report for report in world.reports if "bug" in report]


CHANGES: list[Any] = [
    cm.StartWorkflow("w", type="NoSuchType", request_id="r"),
    cm.SignalWorkflow("bystander", name="no such signal", request_id="r"),
    cm.SignalWorkflow("bystander", name="add", input=b'["text"]', request_id="r"),
    cm.SignalWorkflow("nobody", name="add", request_id="r"),
    cm.CancelWorkflow("nobody", request_id="r"),
    cm.TerminateWorkflow("nobody", request_id="r"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_refused_change_whose_client_has_died_is_a_dead_letter(world: World, change: Any) -> None:
    client = Hints()
    client.close()
    outside(world, addressed(change, reply_to=f"udp:{client.port}:gone"))
    (letter,) = letters(world)
    assert letter.startswith("refused: ")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_refused_change_that_its_client_receives_is_logged_with_client_workflow_and_reason(
    world: World, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = Hints()
    address = f"udp:{client.port}:here"
    if isinstance(world._medium, InMemory):  # no other process sees it
        address = "local:here"
        world.channel.deliveries.subscribe_replies(address, lambda _: None)
    world.log.submit([addressed(change, reply_to=address)])
    world.settle()
    client.close()
    assert letters(world) == []
    (line,) = [each for each in caplog.records if each.name == "perdure.engine"]
    said = line.getMessage()
    for part in (type(change).__name__, change.workflow_id, address, "was refused ("):
        assert part in said
    assert vars(line)["workflow_id"] == change.workflow_id


def test_a_refused_command_of_a_record_that_is_not_there_is_a_dead_letter_by_itself(world: World) -> None:
    outside(
        world,
        cm.SignalWorkflow("nobody", name="add", reply_to="dead-letter:seen/0/77"),
        cm.SignalWorkflow("nobody", name="add", reply_to="dead-letter:seen/0/0"),
    )
    assert len(letters(world)) == 2


def test_a_waiter_that_cannot_be_answered_does_not_keep_a_run_from_closing(world: World) -> None:
    world.start_workflow("w", "Bystander")
    outside(
        world,
        cm.AwaitWorkflow("w", request_id="r" * 1_000_000, reply_to="kafka:" + DIGITS),
        cm.AwaitWorkflow("w", request_id="r" * 1_000_000, reply_to="udp:1:me"),
    )
    world.signal("w", "add", 3)
    assert world.state("w").status is Status.COMPLETED


# ---- what only the engine says


FORGED: list[Any] = [
    cm.ExpireWorkflow("much"),
    cm.BeginWorkflow("much"),
    cm.FireTimer("much", number=1),
    cm.ExpireActivity("much", number=1),
    cm.ExpireActivity("much", number=2),
    cm.RetryActivity("much", number=1),
    cm.ExpireToken("much", number=1),
    cm.ExpireLease("much", number=1, token="guessed"),
    cm.CompleteActivity("much", number=1, token="guessed"),
    cm.ResumeWorkflow("much"),
]


@pytest.mark.parametrize("forged", FORGED, ids=lambda each: type(each).__name__)
def test_a_forged_timer_record_that_is_not_due_is_ignored(world: World, forged: Any) -> None:
    world.held.add("echo")
    world.start_workflow("much", "waits_for_much")
    outside(world, forged)
    assert world.state("much").status is Status.RUNNING
    told = {"WorkflowTimedOut", "TimerFired", "ActivityFailed", "ActivityRetried", "TokenExpired"}
    assert not told & set(world.names("much"))
    world.held.clear()


def test_a_history_is_read_from_any_number(world: World) -> None:
    for number in (2**63, 2**64 - 1, 0, -1, -(2**63)):
        outside(world, cm.ReadHistory("bystander", from_event_id=number))
    assert letters(world) == []


# ---- refusals


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (cm.StartWorkflow("w", type="NoSuchType"), "unknown workflow type"),
        (cm.StartWorkflow("w", type="Bystander", input=b"[1, 2, 3]"), "bad_input"),
        (cm.StartWorkflow("bystander", type="Bystander"), "already_started"),
        (cm.SignalWorkflow("nobody", name="add"), "not_found"),
        (cm.SignalWorkflow("bystander", name="ad"), "unknown_name"),
        (cm.SignalWorkflow("bystander", name="add", input=b'["x"]'), "bad_input"),
        (cm.CancelWorkflow("nobody"), "not_found"),
        (cm.TerminateWorkflow("bystander", "no-such-run"), "closed"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_refused_change_without_a_waiting_client_is_a_dead_letter(
    world: World, command: Any, reason: str
) -> None:
    outside(world, command)
    (found,) = letters(world)
    assert found.startswith("refused: ")
    assert reason in found
    assert world.engine.counts.letters["refused"] == 1
    assert [report for report in world.reports if "dead letter (refused)" in report]


def test_a_refused_read_without_a_waiting_client_is_not_a_dead_letter(world: World) -> None:
    outside(world, cm.QueryWorkflow("nobody", name="x"), cm.AwaitWorkflow("nobody"), cm.ReadHistory("nobody"))
    assert letters(world) == []


def test_many_refusals_are_reported_once_a_second_and_all_stored(world: World) -> None:
    outside(world, *(cm.SignalWorkflow(f"nobody-{number}", name="add") for number in range(200)))
    assert len(letters(world)) == 200
    assert len([report for report in world.reports if "dead letter" in report]) < 10


def test_a_refused_command_can_be_retried(world: World) -> None:
    if not isinstance(world._medium, InFile):
        pytest.skip("memory has no `perdure dead-letters`")
    outside(world, cm.SignalWorkflow("late", name="add", input=b"[5]"))
    world.start_workflow("late", "Bystander")
    (letter,) = (found := SqliteDeadLetters(f"sqlite:///{world._medium.path}")).page().letters
    (letter,) = found.get([letter.id])
    assert letter.letter.reason == "refused"
    assert found.fault_of(letter) == ""
    found.retry([letter])
    world.settle()
    assert world.state("late").status is Status.COMPLETED
    assert letters(world) == []


# ---- what cannot be written


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), OverflowError(), RecursionError(), MemoryError(), AssertionError(), StopIteration()],
)
def test_a_batch_that_cannot_be_written_costs_only_the_command_that_spoils_it(
    world: World, breaking: Breaking, error: Exception
) -> None:
    breaking.victims, breaking.error = {"bad"}, error
    start = cm.StartWorkflow("bad", type="Bystander", request_id="bad", reply_to="me")
    others = [cm.StartWorkflow(f"good-{number}", type="Bystander") for number in range(5)]
    signals = [cm.SignalWorkflow(f"good-{number}", name="add", input=b"[3]") for number in range(5)]
    outside(world, *others, start, *signals)
    for number in range(5):
        assert world.state(f"good-{number}").status is Status.COMPLETED
    (found,) = letters(world)
    assert found.startswith(f"poisoned: {type(error).__name__}")
    assert isinstance(world.replies["bad"], Refused)
    assert world.engine.counts.poisoned == 1
    assert commands_left(world) == 0


def test_a_command_that_spoils_a_batch_is_one_dead_letter_though_its_answer_could_be_another(
    world: World, breaking: Breaking
) -> None:
    breaking.victims = {"bad"}
    outside(
        world,
        cm.StartWorkflow(
            "bad", type="Bystander", request_id="r", reply_to="workflow:novel/run-1/1/bystander"
        ),
    )
    (found,) = letters(world)
    assert found.startswith("poisoned: ")


@pytest.mark.parametrize("fails", [1, 2])
def test_a_dead_letter_that_cannot_be_written_is_written_with_less(
    world: World, breaking: Breaking, fails: int
) -> None:
    breaking.victims, breaking.breaks_letters = {"bad"}, fails
    outside(world, cm.StartWorkflow("bad", type="Bystander"))
    (found,) = letters(world)
    assert found.startswith("poisoned: ValueError: a value that nobody can write")


def test_a_full_disk_while_a_dead_letter_is_written_loses_nothing(world: World, breaking: Breaking) -> None:
    breaking.victims, breaking.full_disk = {"bad"}, 3
    outside(world, cm.StartWorkflow("bad", type="Bystander"), cm.StartWorkflow("good", type="Bystander"))
    assert [each.startswith("poisoned: ") for each in letters(world)] == [True]
    assert world.state("good").status is Status.RUNNING
    assert breaking.full_disk == 0


def test_a_crash_while_the_culprit_is_looked_for_loses_nothing(world: World, breaking: Breaking) -> None:
    breaking.victims = {"bad"}
    for batches in range(8):
        for number in range(4):
            command = cm.StartWorkflow(f"run-{batches}-{number}", type="Bystander")
            if isinstance(world._medium, InMemory):
                world.medium.append([command])
        if isinstance(world._medium, InFile):
            with closing(connect(world._medium.path, 5.0)) as connection:
                connection.executemany(
                    "INSERT INTO commands (record) VALUES (?)",
                    [
                        (encode_command(cm.StartWorkflow(f"run-{batches}-{number}", type="Bystander")),)
                        for number in range(4)
                    ],
                )
        bad = cm.StartWorkflow("bad", type="Bystander", request_id=f"bad-{batches}")
        if isinstance(world._medium, InMemory):
            world.medium.append([bad])
        else:
            assert isinstance(world._medium, InFile)
            with closing(connect(world._medium.path, 5.0)) as connection:
                connection.execute("INSERT INTO commands (record) VALUES (?)", (encode_command(bad),))
        for _ in range(batches):
            world.engine.run_batch(0)
        world.crash()
    world.settle()
    assert len(letters(world)) == 8
    assert all(
        world.state(f"run-{batches}-{number}") is not None for batches in range(8) for number in range(4)
    )


def test_a_timer_that_cannot_be_written_does_not_stop_the_others(world: World, breaking: Breaking) -> None:
    world.start_workflow("bad", "Bystander", delay_us=1_000_000)
    world.start_workflow("good", "Bystander", delay_us=1_000_000)
    breaking.victims = {"bad"}
    world.clock.at += 1_000_000
    world.settle()
    assert world.names("good")[:2] == ["WorkflowStarted", "WorkflowBegun"]
    assert [each for each in letters(world) if each.startswith("poisoned: ")]
    assert any("BeginWorkflow for workflow 'bad'" in report for report in world.reports)
    breaking.victims = set()
    world.crash()
    world.settle()
    assert world.names("bad")[:2] == ["WorkflowStarted", "WorkflowBegun"], "the next engine tries it again"


def test_a_damaged_history_costs_only_its_own_run(world: World) -> None:
    if not isinstance(world._medium, InFile):
        pytest.skip("memory holds no bytes")
    world.start_workflow("damaged", "Bystander")
    with closing(connect(world._medium.path, 5.0)) as connection:
        connection.execute(
            "UPDATE events SET record = x'c1' WHERE run_id = ?", (world.state("damaged").run_id,)
        )
    world.crash()
    reply = world.signal("damaged", "add", 3)
    assert isinstance(reply, Refused)
    assert [each for each in letters(world) if "cannot be read" in each]


def test_a_row_that_sqlite_does_not_take_is_about_its_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(world._medium, InFile):
        pytest.skip("of SQLite")
    encode: Any = encode_state

    def encode_badly(state: Any) -> Any:
        return object() if state.workflow_id == "bad" else encode(state)

    monkeypatch.setattr(rows, "encode_state", encode_badly)
    outside(world, cm.StartWorkflow("bad", type="Bystander"), cm.StartWorkflow("good", type="Bystander"))
    assert [each.startswith("poisoned: ") for each in letters(world)] == [True]
    assert world.state("good").status is Status.RUNNING


def test_settings_are_as_in_production() -> None:
    assert replace(World(REGISTRY).settings).batch_limit > 100, (
        "several commands share a batch in these tests"
    )
