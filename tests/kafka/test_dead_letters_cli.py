"""`perdure dead-letters` on Kafka: letters as the log and workers write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from msgspec.structs import replace

from perdure.adapters.kafka.namespace.metadata import read_facts
from perdure.cli import main
from perdure.codec.avro import COMMANDS, DEAD_LETTERS, HEADER, TASKS
from perdure.distributed import EngineOptions, KafkaPlatform, Place
from perdure.model.commands import SignalWorkflow
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.tasks import Task
from perdure.registry import Registry
from tests.kafka.namespace import Namespace, wait_until

Perdure = Callable[..., tuple[int, str, str]]
OURS = (RecordHeader(*COMMANDS.header),)
SIGNAL = SignalWorkflow("order-é", name="paid", request_id="r-1")


@pytest.fixture
def letters(namespace: Namespace) -> Namespace:
    namespace.create({f"{namespace.name}.meta": 1}, {"cleanup.policy": "compact"})
    wanted = {f"{namespace.name}.{topic}" for topic in ("meta", "commands", "dead-letters", "tasks.default")}
    wait_until(
        lambda: wanted <= namespace.admin.list_topics(timeout=10).topics.keys()
    )  # brokers learn of new topics a little later
    return namespace


@pytest.fixture
def perdure(letters: Namespace, capsys: pytest.CaptureFixture[str]) -> Perdure:
    """Runs a command; its exit code, what it printed, and what it complained about."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["dead-letters", *arguments, "--kafka", letters.bootstrap, "--namespace", letters.name])
        said = capsys.readouterr()
        code: Any = ended.value.code
        return (
            (code or 0, said.out, said.err)
            if isinstance(code, int | None)
            else (1, said.out, said.err + code)
        )

    return run


def bury(namespace: Namespace, *letters: DeadLetter) -> None:
    for letter in letters:
        namespace.put(DEAD_LETTERS.encode(letter), letter.key, 0, [DEAD_LETTERS.header], "dead-letters")
    namespace.flush()


def letter(
    namespace: Namespace,
    value: bytes | None,
    *,
    topic: str = "commands",
    headers: tuple[RecordHeader, ...] = OURS,
) -> DeadLetter:
    return DeadLetter(
        f"{namespace.name}.{topic}",
        2,
        17,
        1_000,
        "unknown_schema",
        "not known",
        1_000_000,
        b"any",
        value,
        headers,
    )


def listed(perdure: Perdure) -> list[dict[str, Any]]:
    code, out, _ = perdure("list", "-o", "json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_letters_are_listed_with_coordinates_reason_key_and_age(letters: Namespace, perdure: Perdure) -> None:
    bury(letters, letter(letters, b"\xff"))
    (found,) = listed(perdure)
    assert found["id"] == "0/0"
    assert (found["topic"], found["partition"], found["offset"]) == (f"{letters.name}.commands", 2, 17)
    assert (found["reason"], found["message"], found["key"]) == ("unknown_schema", "not known", "YW55")
    assert found["found_at"] == "1970-01-01T00:00:01.000000Z"
    code, out, _ = perdure("list")
    assert code == 0
    assert all(part in out for part in ("0/0", "2/17", "unknown_schema", "any", "d  "))
    code, out, _ = perdure("show", "0/0")
    assert code == 0
    assert COMMANDS.header[1].decode() in out


def test_a_retried_command_has_its_workflow_id_as_key_and_is_not_listed_any_more(
    letters: Namespace, perdure: Perdure
) -> None:
    bury(letters, letter(letters, COMMANDS.encode(SIGNAL)), letter(letters, b"\xff"))
    assert perdure("retry", "0/0") == (0, f"0/0: back in {letters.name}.commands, not taken yet\n", "")
    (record,) = letters.read("commands")
    assert record.key() == SIGNAL.workflow_id.encode()
    assert record.partition() == letters.place_of(SIGNAL.workflow_id)
    assert dict(record.headers()) == dict([COMMANDS.header])
    assert COMMANDS.decode(record.value(), COMMANDS.header[1]) == SIGNAL
    assert [each["id"] for each in listed(perdure)] == ["0/1"]
    code, _, error = perdure("retry", "0/0")
    assert code == 1
    assert "no open dead letter 0/0" in error


def test_what_is_of_no_use_stays_and_says_why(letters: Namespace, perdure: Perdure) -> None:
    bury(
        letters,
        letter(letters, b"\xff"),
        letter(letters, COMMANDS.encode(SIGNAL), headers=()),
        letter(letters, None),
        letter(letters, b"x", topic="tasks.nowhere"),
        letter(letters, b"x", topic="events"),
        letter(letters, COMMANDS.encode(SIGNAL)),
    )
    letters.put(b"garbage", b"k", 0, topic="dead-letters")
    letters.flush()
    code, out, error = perdure("retry", "--all")
    assert code == 1
    assert out == f"0/5: back in {letters.name}.commands, not taken yet\n"
    *lines, summary = error.splitlines()
    assert summary == "1 retried, 6 failed"
    said = dict(line.split(": ", 1) for line in lines)
    assert list(said) == ["0/0", "0/1", "0/2", "0/3", "0/4", "0/6"]
    assert "still cannot be read" in said["0/0"]
    assert HEADER in said["0/1"]
    assert "not kept" in said["0/2"]
    assert "does not exist" in said["0/3"]
    assert "a topic that perdure does not write to" in said["0/4"]
    assert len(listed(perdure)) == 6
    assert len(letters.read("commands")) == 1


def test_a_task_goes_back_to_its_queue(letters: Namespace, perdure: Perdure) -> None:
    task = Task("w", "r", 1, 1, "token", "charge", "default", b"[]", 1, "r/1", 1)
    header = RecordHeader(*TASKS.header)
    bury(letters, letter(letters, TASKS.encode(task), topic="tasks.default", headers=(header,)))
    assert perdure("retry", "--all")[0] == 0
    (record,) = letters.read("tasks.default")
    assert TASKS.decode(record.value(), dict(record.headers())[HEADER]) == task
    assert listed(perdure) == []


def test_a_drop_needs_a_yes_and_writes_nothing_but_that(letters: Namespace, perdure: Perdure) -> None:
    bury(letters, letter(letters, COMMANDS.encode(SIGNAL)))
    code, _, error = perdure("drop", "--all")
    assert code == 2
    assert "--yes" in error
    assert len(listed(perdure)) == 1
    assert perdure("drop", "--all", "--yes") == (0, "0/0: dropped\n", "")
    assert listed(perdure) == []
    assert letters.read("commands") == []


def test_what_is_remembered_of_letters_that_are_gone_is_forgotten(
    letters: Namespace, perdure: Perdure
) -> None:
    def remembered() -> set[str]:
        return set(read_facts({"bootstrap.servers": letters.bootstrap}, f"{letters.name}.meta"))

    bury(letters, letter(letters, b"\xff"))
    assert perdure("drop", "--all", "--yes")[0] == 0
    assert remembered() == {"dead-letter/0/0"}
    admin: Any = letters.admin
    for deleted in admin.delete_records([TopicPartition(f"{letters.name}.dead-letters", 0, 1)]).values():
        deleted.result(30)
    bury(letters, letter(letters, b"\xfe"))
    assert [each["id"] for each in listed(perdure)] == ["0/1"]
    assert perdure("drop", "--all", "--yes")[0] == 0
    assert remembered() == {"dead-letter/0/1"}


def test_without_the_topics_it_says_how_to_make_them(
    namespace: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dead-letters", "list", "--kafka", namespace.bootstrap, "--namespace", "nobody"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "topic nobody.dead-letters does not exist; create it with `perdure topics apply`" in said


def test_a_namespace_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dead-letters", "list", "--kafka", "127.0.0.1:1"])
    assert ended.value.code == 2
    assert "--namespace" in capsys.readouterr().err


def test_a_retried_command_that_is_refused_again_is_reported_as_a_dead_letter(
    letters: Namespace, perdure: Perdure, tmp_path: Path
) -> None:
    bury(letters, letter(letters, COMMANDS.encode(replace(SIGNAL, reply_to="kafka:0:client"))))
    place = Place(letters.name, {"bootstrap.servers": letters.bootstrap})
    with KafkaPlatform(Registry(), place, engine=EngineOptions(state_dir=tmp_path)) as platform:
        wait_until(lambda: platform.engine is not None and len(platform.engine._owned) == 4)
        code, out, error = perdure("retry", "--all")
    assert (code, out) == (1, "")
    lines = [line for line in error.splitlines() if not line.startswith("perdure: ")]
    assert lines[0].startswith("0/0: a dead letter again: workflow 'order-é' is not running")
    assert lines[1] == "0 retried, 1 failed"
    (again,) = listed(perdure)
    assert again["reason"] == "refused", "its client does not count as one that hears it"
