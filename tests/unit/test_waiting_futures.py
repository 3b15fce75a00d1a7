"""Futures that wait for replies, when the client is closed before they have one."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from perdure.adapters.process.waiting import Waiting
from perdure.errors import EngineUnavailable


def test_a_request_that_was_given_up_before_the_client_closed_is_no_complaint_of_asyncio() -> None:
    complaints: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        waiting = Waiting()
        future = waiting.add("request-1")
        asking = asyncio.ensure_future(asyncio.wait((future,)))
        await asyncio.sleep(0)
        asking.cancel()
        waiting.fail(EngineUnavailable("closed"))
        with pytest.raises(asyncio.CancelledError):
            await asking
        waiting.remove("request-1", future)
        del future, asking
        gc.collect()

    asyncio.run(scenario())
    assert complaints == []


def test_waiting_callers_get_the_error() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        future = waiting.add("request-1")
        waiting.fail(EngineUnavailable("closed"))
        with pytest.raises(EngineUnavailable, match="closed"):
            await future

    asyncio.run(scenario())
