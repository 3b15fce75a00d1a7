"""Records that workflow code produces are in their topic exactly once, whatever is killed; one that
cannot be there stops nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place
from perdure.registry import Registry
from tests.kafka.apps import parcels
from tests.kafka.labour import until
from tests.kafka.namespace import Namespace
from tests.kafka.processes import perdure

ROOT = Path(__file__).parents[2]


@pytest.fixture
def topic(namespace: Namespace) -> str:
    """Of the author's, with three partitions."""
    name = f"{namespace.name}.parcels"
    namespace.create({name: 3})
    return name


def engine_process(namespace: Namespace, folder: Path) -> subprocess.Popen[bytes]:
    command = perdure(
        namespace, "engine", "tests/kafka/apps/parcels.py", "--state-dir", str(folder), "--instance", "mortal"
    )
    return subprocess.Popen(command, cwd=ROOT)


@contextmanager
def engine(namespace: Namespace, folder: Path) -> Generator[None]:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    with KafkaPlatform(
        Registry.of([parcels.send], [parcels.pack]), place, engine=EngineOptions(state_dir=folder)
    ):
        yield


def send(namespace: Namespace, names: list[str], topic: str, times: int) -> None:
    """Each once, six at a time."""

    async def main() -> None:
        async with Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client:
            todo = iter(names)

            async def one() -> None:
                for name in todo:
                    assert await client.execute(name, parcels.send, name, topic, times) == name

            await asyncio.wait_for(asyncio.gather(*[one() for _ in range(6)]), 100)

    asyncio.run(main())


def test_every_record_is_there_once_though_engines_are_killed(
    namespace: Namespace, topic: str, tmp_path: Path
) -> None:
    names, times = [f"parcel-{number}" for number in range(60)], 5
    client = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.kafka.test_produce",
            namespace.bootstrap,
            namespace.name,
            topic,
            str(times),
            *names,
        ],
        cwd=ROOT,
    )
    mortal = engine_process(namespace, tmp_path)
    try:
        for enough in (40, 120, 200):
            until(lambda: len(namespace.read("parcels")) >= enough, f"{enough} are there")  # noqa: B023
            mortal.send_signal(signal.SIGKILL)
            mortal.wait()
            mortal = engine_process(namespace, tmp_path)
        assert client.wait(100) == 0
    finally:
        for each in (mortal, client):
            each.kill()
            each.wait()
    found = namespace.read("parcels")
    told = [json.loads(each.value()) for each in found]
    assert Counter((each["parcel"], each["number"]) for each in told) == Counter(
        (name, n) for name in names for n in range(times)
    )
    assert all(each.partition() == partition_of(each.key(), 3) for each in found), (
        "where Java's clients would put them"
    )
    for name in names:
        assert [each["number"] for each in told if each["parcel"] == name] == list(range(times)), (
            "in their order"
        )
    assert len({dict(each.headers())["ce_id"] for each in found}) == len(found), (
        "each event has an id of its own"
    )


@pytest.mark.parametrize(("part", "reason"), [("nowhere", "no_topic"), ("state", "forbidden")])
def test_a_topic_that_is_missing_or_ours_makes_dead_letters_and_stops_nothing(
    namespace: Namespace, tmp_path: Path, part: str, reason: str
) -> None:
    with engine(namespace, tmp_path):
        send(namespace, ["p-1"], f"{namespace.name}.{part}", 2)
    letters = namespace.dead_letters()
    assert [(each.topic, each.reason, each.key) for each in letters] == [
        (f"{namespace.name}.{part}", reason, b"p-1")
    ] * 2
    assert [json.loads(each.value or b"")["number"] for each in letters] == [0, 1], "nothing is lost"
    assert "workflow 'p-1' produced it" in letters[0].message


def test_a_topic_that_refuses_a_record_makes_a_dead_letter_and_stops_nothing(
    namespace: Namespace, topic: str, tmp_path: Path
) -> None:
    namespace.configure("parcels", **{"max.message.bytes": "200"})
    with engine(namespace, tmp_path):
        send(namespace, ["p-1"], topic, 1)
    (letter,) = namespace.dead_letters()
    assert (letter.reason, letter.key) == ("refused", b"p-1")
    assert namespace.read("parcels") == []


def test_a_letter_that_is_retried_reaches_its_topic_under_its_key(
    namespace: Namespace, tmp_path: Path
) -> None:
    with engine(namespace, tmp_path):
        send(namespace, ["p-1"], f"{namespace.name}.late", 1)
    namespace.create({f"{namespace.name}.late": 2, f"{namespace.name}.meta": 1})
    done = subprocess.run(
        perdure(namespace, "dead-letters", "retry", "--all"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = namespace.read("late")
    assert (record.key(), json.loads(record.value())) == (b"p-1", {"parcel": "p-1", "number": 0})


if __name__ == "__main__":
    place: Any = type("Place", (), {"bootstrap": sys.argv[1], "name": sys.argv[2]})
    send(place, sys.argv[5:], sys.argv[3], int(sys.argv[4]))
