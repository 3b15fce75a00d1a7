"""`with_start`: the start goes with the first signal that is answered, whatever became of those
before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import workflow
from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.errors import EngineUnavailable, InfrastructureError, RequestRefused
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.model.replies import Accepted, Refused


@workflow.defn
class Basket:
    @workflow.run
    async def main(self, owner: str) -> None: ...

    @workflow.signal
    def add(self, item: str) -> None: ...


class Answers:
    """A transport that answers what a test says."""

    is_reader_near = False

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[Any] = []

    async def request(self, command: Any, timeout_s: float) -> Any:
        self.asked.append(command)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


REFUSED = Refused("", "limit", "too many")


@pytest.mark.parametrize("first", [EngineUnavailable("nobody"), InfrastructureError("no disk"), REFUSED])
def test_a_first_signal_that_fails_leaves_the_start_to_the_next_one(first: Any) -> None:
    answers: Any = Answers(first, first, Accepted("", "run-1"), Accepted("", "run-1"))
    basket = Client(answers, payloads=JsonPayloads()).with_start("b-1", Basket.main, "Ada")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises((EngineUnavailable, InfrastructureError, RequestRefused)):
                await basket.signal(Basket.add, "burrata")
        await basket.signal(Basket.add, "burrata")
        await basket.signal(Basket.add, "olives")

    asyncio.run(main())
    assert [type(each) for each in answers.asked] == [
        StartWorkflow,
        StartWorkflow,
        StartWorkflow,
        SignalWorkflow,
    ]
    assert {each.input for each in answers.asked[:3]} == {b'["Ada"]'}
    assert answers.asked[2].signal_name == "add"
    assert answers.asked[3].run_id == "run-1"
