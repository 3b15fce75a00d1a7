"""What a beginner uses before it is open, or in the wrong place, says what to write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.client import Client
from perdure.errors import UsageError

HERE = r"test_before_they_are_open\.py:\d+: "


@activity.defn
def charge(cents: int) -> int:
    return cents


@workflow.defn
async def pay(cents: int) -> int:
    return await charge(cents)


def test_a_client_that_is_not_connected_says_how_to_connect_it() -> None:
    client: Any = Client.connect("memory://")
    for name in ("start", "get", "list"):
        with pytest.raises(UsageError, match=HERE + r".*write `async with Client\.connect\(…\) as client`"):
            getattr(client, name)
    assert not hasattr(client, "no_method_of_a_client")


@pytest.mark.parametrize("use", ["client", "sleep", "settle", "restart"])
def test_a_test_environment_that_is_not_open_says_how_to_open_it(use: str) -> None:
    async def scenario() -> None:
        env = testing.Environment()
        match use:
            case "client":
                await env.client.start("pay-1", pay, 1)
            case "sleep":
                await env.sleep("1s")
            case "settle":
                await env.settle()
            case _:
                await env.restart()

    with pytest.raises(UsageError, match=HERE + r"the environment is not open: write `async with"):
        asyncio.run(scenario())


@pytest.mark.parametrize("target", ["charge", charge.fn, pay, int])
def test_only_an_activity_is_faked(target: Any) -> None:
    with (
        pytest.raises(UsageError, match=HERE + r"testing\.fake takes an activity"),
        testing.fake(target, len),
    ):
        pass


def test_a_fake_is_a_function() -> None:
    fake: Any = 3
    with (
        pytest.raises(UsageError, match=HERE + r"the fake of <activity charge> must be a function, not 3"),
        testing.fake(charge, fake),
    ):
        pass
