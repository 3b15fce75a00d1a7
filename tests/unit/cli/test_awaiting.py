"""`perdure workflow result` waits for as long as it was asked to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.cli import awaiting
from perdure.cli.awaiting import awaited
from perdure.errors import NotClosed


class Handle:
    """Of a run that ends at the given look at what it waits for; the looks follow each other
    without a pause.

    Args:
        ends_at: number of the look, from 1.
    """

    id = "order-1"

    def __init__(self, ends_at: int) -> None:
        self.looks = 0
        self._ends_at = ends_at
        self._has_ended = asyncio.Event()

    async def result(self) -> str:
        await self._has_ended.wait()
        return "receipt"

    async def waits_for(self) -> str:
        self.looks += 1
        if self.looks == self._ends_at:
            self._has_ended.set()
        return "it waits for a signal"


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "SOON_S", 0.0)
    monkeypatch.setattr(awaiting, "POLL_INTERVAL_S", 0.0)


@pytest.mark.parametrize("limit_s", [None, 3600.0])
def test_a_result_within_the_time_is_given(limit_s: float | None) -> None:
    async def main() -> Any:
        handle: Any = Handle(ends_at=20)
        return await awaited(handle, limit_s)

    assert asyncio.run(main()) == "receipt"


def test_after_the_time_the_reason_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        handle: Any = Handle(ends_at=20)
        with pytest.raises(NotClosed, match="'order-1' is still open: it waits for a signal"):
            await awaited(handle, 0.0)
        assert handle.looks == 1

    asyncio.run(main())
    assert capsys.readouterr().err == ""
