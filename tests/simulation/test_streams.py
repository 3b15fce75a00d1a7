"""Streams through crashes: each value once, in order, also over a suspension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from perdure.adapters.memory.reader import MemoryReader
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.client.streams import Numbers
from tests.simulation.test_crash_points import run, sample, without_crash
from tests.simulation.world import InFile, World

WORDS = ["begun", "told", "call 0", "call 1", "call 2", "over"]


def read(world: World, reader: Any, name: str) -> list[Any]:
    """The values, as a client gives them out."""
    numbers = Numbers()
    page = reader.stream("t", name, 0, 1_000)
    return [json.decode(each.value) for _, each in page.values if numbers.is_new(each)]


def test_without_a_crash_each_value_is_there_once() -> None:
    story, _ = run("streams")
    reader = MemoryReader(story.world.medium)
    assert read(story.world, reader, "words") == WORDS
    assert read(story.world, reader, "numbers") == [0, 1]


@pytest.mark.parametrize("loses_store", [False, True])
def test_whatever_the_point_of_a_crash_each_value_of_the_code_is_there_once(loses_store: bool) -> None:
    count = without_crash("streams")[1]
    for point in sample(count, 60):
        story, _ = run("streams", [point], loses_store=loses_store)
        reader = MemoryReader(story.world.medium)
        assert read(story.world, reader, "words") == WORDS, point
        numbers = read(story.world, reader, "numbers")
        assert numbers[-2:] == [0, 1], point  # of an attempt: at least once


def test_in_a_file_too(tmp_path: Path) -> None:
    count = without_crash("streams")[1]
    for point in sample(count, 5):
        file = tmp_path / f"{point}.db"
        story, _ = run("streams", [point], InFile(file))
        reader = SqliteReader(file)
        assert read(story.world, reader, "words") == WORDS, point
        reader.close()


def test_two_crashes_lose_and_repeat_nothing() -> None:
    count = without_crash("streams")[1]
    for point in sample(count, 30):
        story, _ = run("streams", [point, point + 2, point + 7])
        assert read(story.world, MemoryReader(story.world.medium), "words") == WORDS, point
