"""Test modules of one session may give one name to different workflows and activities."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.errors import UsageError

APP = """
from __future__ import annotations
from perdure import activity, testing, workflow

@activity.defn(name="say_{tag}_or_not")
async def own() -> str:
    return "{module}"

@activity.defn(name="shared_name_of_tests")
async def say() -> str:
    return "{module}"

@workflow.defn(name="SharedNameOfTests")
class Flow:
    @workflow.run
    async def run(self) -> str:
        return await say()

async def program() -> str:
    async with testing.Environment() as env:
        return await env.client.execute("w", Flow.run)
"""
USER = """
from {of} import Flow
from perdure import testing

async def program() -> str:
    async with testing.Environment() as env:
        return await env.client.execute("w", Flow.run)
"""
STRANGER = """
from perdure import testing

async def program() -> str:
    async with testing.Environment() as env:
        return await (await env.client.start_by_name("w", "SharedNameOfTests")).result()
"""


def module(name: str, text: str) -> Any:
    made = ModuleType(name)
    sys.modules[name] = made
    exec(compile(text, f"{name}.py", "exec"), vars(made))
    return made


@pytest.fixture
def modules() -> Iterator[dict[str, Any]]:
    before = len(workflow.DEFINED), len(activity.DEFINED)
    names = {name: f"perdure_{name}_test" for name in ("first", "second", "user", "stranger")}
    yield {
        "first": module(names["first"], APP.format(module="first", tag="a")),
        "second": module(names["second"], APP.format(module="second", tag="b")),
        "user": module(names["user"], USER.format(of=names["second"])),
        "stranger": module(names["stranger"], STRANGER),
    }
    for name in names.values():
        del sys.modules[name]
    del workflow.DEFINED[before[0] :], activity.DEFINED[before[1] :]


@pytest.mark.parametrize(("of", "expected"), [("first", "first"), ("second", "second"), ("user", "second")])
def test_each_module_gets_its_own_or_what_it_imports(modules: dict[str, Any], of: str, expected: str) -> None:
    assert asyncio.run(modules[of].program()) == expected


def test_a_module_with_neither_is_refused_with_advice(modules: dict[str, Any]) -> None:
    with pytest.raises(
        UsageError, match=r"several workflow types have the name 'SharedNameOfTests'.*Registry\.of"
    ):
        asyncio.run(modules["stranger"].program())
