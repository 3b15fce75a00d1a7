"""Positions are text between processes; invalid text is refused with advice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.client.position import Position
from perdure.client.read_your_writes import reached
from perdure.errors import ReadLags, RequestRefused


def test_a_position_comes_back_from_its_text() -> None:
    assert Position.parse(str(Position(3, 1042))) == Position(3, 1042)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "-",
        "3-",
        "-3",
        "3--4",
        "a-b",
        "3-4-5",
        "²-1",
        "1-99999999999999999999",
        "9223372036854775808-1",
    ],
)
def test_an_invalid_position_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match="pass one returned by a write"):
        Position.parse(text)


class Behind:
    """A transport whose reader is at a fixed offset."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    async def read(self, question: Any) -> Any:
        return question(self)

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        assert timeout_s == 0.5
        return position.offset <= self._offset


def test_a_reader_that_keeps_lagging_is_reported() -> None:
    transport: Any = Behind(7)
    asyncio.run(reached(transport, Position(0, 7), "500ms"))
    with pytest.raises(ReadLags, match=r"behind position 0-8 after 0\.5 s"):
        asyncio.run(reached(transport, "0-8", "500ms"))
