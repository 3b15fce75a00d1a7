"""Provided instances are opened in order, closed in the other, and none is left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from perdure.activity import Provider
from perdure.errors import UsageError
from perdure.worker.providers import OpenProviders


class Bank: ...


class Printer: ...


class Scales: ...


def provider_of(kind: type[Any], said: list[str], fails: bool = False, times: int = 1) -> Provider:
    async def factory() -> AsyncIterator[Any]:
        said.append(f"open {kind.__name__}")
        if fails:
            raise ConnectionError(kind.__name__)
        for _ in range(times):
            yield kind()
        said.append(f"close {kind.__name__}")

    return Provider(factory)


def provided(
    said: list[str], *kinds: type[Any], failing: type[Any] | None = None, times: int = 1
) -> OpenProviders:
    return OpenProviders({kind: provider_of(kind, said, kind is failing, times) for kind in kinds})


def test_they_are_closed_in_the_other_order_once() -> None:
    said: list[str] = []

    async def program() -> None:
        ours = provided(said, Bank, Printer)
        await ours.open()
        assert [type(each) for each in ours.instances.values()] == [Bank, Printer]
        await ours.close()
        assert not ours.instances
        await ours.close()

    asyncio.run(program())
    assert said == ["open Bank", "open Printer", "close Printer", "close Bank"]


def test_those_before_one_that_fails_are_closed_and_those_after_it_never_opened() -> None:
    said: list[str] = []
    with pytest.raises(ConnectionError, match="Printer"):
        asyncio.run(provided(said, Bank, Printer, Scales, failing=Printer).open())
    assert said == ["open Bank", "open Printer", "close Bank"]


def test_a_provider_that_yields_twice_is_reported() -> None:
    async def program() -> None:
        ours = provided([], Bank, times=2)
        await ours.open()
        await ours.close()

    with pytest.raises(UsageError, match="must yield once"):
        asyncio.run(program())
