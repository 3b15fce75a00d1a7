"""A memo passes through the codec; the code reads it, and a client that has the codec."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec import json

from perdure import testing, workflow
from perdure.app import App
from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.interceptor import Interceptor, Outbound
from perdure.model.runtime import WorkflowRuntime
from perdure.registry import Registry


class Reversed:
    name = "reversed"

    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


@dataclass
class Card:
    number: str


class Passes(Interceptor):
    """Between the code and its run."""

    def outbound(self, runtime: WorkflowRuntime) -> WorkflowRuntime:
        return Outbound(runtime)


@workflow.defn(name="notes_encoded_child")
async def child() -> Card | None:
    await workflow.sleep("1h", summary="until the bank opens")
    return workflow.memo("card", Card)


@workflow.defn(name="notes_encoded")
async def order() -> Card | None:
    workflow.details("waits for the bank")
    late = await workflow.wait_until(lambda: False, timeout="1m", summary="a minute")
    assert not late
    card = workflow.memo("card", Card)
    return await workflow.options(memo={"card": card}, summary="the bank").execute("bank", child)


def test_a_memo_is_encoded_on_its_way_and_at_rest_and_decoded_for_the_code_and_its_clients() -> None:
    async def main() -> None:
        async with testing.Environment(
            Registry.of([order, child]), app=App(codec=Reversed()), interceptors=[Passes()]
        ) as env:
            given = env.client.options(memo={"card": Card("4111")})
            run = await given.start("order", order)
            await env.settle()
            found = await env.client.describe("order")
            assert (found.memo, found.details) == ({"card": {"number": "4111"}}, "waits for the bank")
            assert [each.summary for each in found.timers] == ["a minute"]
            await env.sleep("1m")
            assert [each.summary for each in (await env.client.describe("order")).children] == ["the bank"]
            for workflow_id in ("order", "bank"):
                recorded = json.encode(await env.client.history(workflow_id))
                assert b"4111" not in recorded
                assert (await env.client.state(workflow_id)).memo.startswith(b"\0reversed\0")
            other = Client(env.client._transport, payloads=JsonPayloads())
            assert (await other.describe("order")).memo is None
            assert (await other.describe("order")).details == "waits for the bank"
            await env.sleep("1h")
            assert await run.result() == Card("4111")

    asyncio.run(main())
