"""Remembers which rows of the machines' tables tests have taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.core.machines import activity, child, lifecycle, timer, token, update

HERE: Final = Path(__file__).parent
LAST: Final = HERE / "test_tables.py"
MACHINES: Final[dict[str, Any]] = {
    "activity": activity,
    "child": child,
    "lifecycle": lifecycle,
    "timer": timer,
    "update": update,
    "token": token,
}


class Recorded(dict[Any, Any]):
    """A table that remembers which of its rows were looked up."""

    def __init__(self, rows: dict[Any, Any]) -> None:
        super().__init__(rows)
        self.taken: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        row = super().__getitem__(key)
        self.taken.add(key)
        return row


@pytest.fixture(scope="session")
def tables() -> Iterator[dict[str, Recorded]]:
    """The tables of all machines, by name."""
    originals = {name: module.TRANSITIONS for name, module in MACHINES.items()}
    recorded = {name: Recorded(table) for name, table in originals.items()}
    for name, module in MACHINES.items():
        module.TRANSITIONS = recorded[name]
    yield recorded
    for name, module in MACHINES.items():
        module.TRANSITIONS = originals[name]


@pytest.fixture(autouse=True)
def _recording(tables: dict[str, Recorded]) -> None:
    """Every test here is recorded."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tables are looked at when all tests of this folder have run."""
    ours = [number for number, item in enumerate(items) if item.path.parent == HERE]
    inside = sorted((items[number] for number in ours), key=lambda item: item.path == LAST)
    for number, item in zip(ours, inside, strict=True):
        items[number] = item
