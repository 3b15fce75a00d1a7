"""Large payloads in object stores, which answer late, or never."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, ClassVar

import pytest

from perdure.adapters.objects import store
from perdure.app import App, LargePayloads
from perdure.codec.payloads import JsonPayloads
from perdure.errors import ValueUnavailable

fsspec: Any = import_module("fsspec")  # it has no types
asyn: Any = import_module("fsspec.asyn")


class Shelf(asyn.AsyncFileSystem):  # type: ignore[misc]
    """An object store as s3fs is one: all calls run on fsspec's own loop."""

    objects: ClassVar[dict[str, bytes]] = {}
    is_silent = False
    cancelled = 0

    async def _cat_file(self, path: str, **options: Any) -> bytes:
        await self._answers()
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    async def _pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        await self._answers()
        self.objects[path] = value

    async def _answers(self) -> None:
        if Shelf.is_silent:
            try:
                await asyncio.Event().wait()
            finally:
                Shelf.cancelled += 1


def test_a_store_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)

    def fresh() -> JsonPayloads:
        return JsonPayloads.of(App(payloads=LargePayloads("shelf://payloads", above_bytes=1024)))

    stored = fresh().encode("x" * 2_000, what="the value")
    assert fresh().decode(stored, str, what="the value") == "x" * 2_000
    monkeypatch.setattr(store, "ANSWER_S", 0.01)
    monkeypatch.setattr(Shelf, "is_silent", True)
    monkeypatch.setattr(Shelf, "cancelled", 0)
    with pytest.raises(ValueUnavailable, match=r"the store did not answer within 0\.01 s"):
        fresh().decode(stored, str, what="the value")
    with pytest.raises(ValueUnavailable, match=r"the store did not answer within 0\.01 s"):
        fresh().encode("y" * 2_000, what="the value")
    monkeypatch.setattr(Shelf, "is_silent", False)
    assert fresh().decode(stored, str, what="the value") == "x" * 2_000
    assert Shelf.cancelled == 2, "nothing is left on the loop"
