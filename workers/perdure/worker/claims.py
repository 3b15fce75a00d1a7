"""Claims of attempts that may not run twice: the engine records whose an attempt is before its
function starts.
"""

from __future__ import annotations

import asyncio
from os import urandom
from typing import TYPE_CHECKING, Final

from perdure.model.commands import StartActivity
from perdure.model.tasks import claim_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.model.commands import AnyCommand
    from perdure.model.tasks import Task

REPEAT_S: Final = 3.0
"""A claim that is not answered is repeated: the answer, or the engine, may have been lost."""


class Claims:
    """The claims of one worker; on its loop's thread.

    Args:
        worker: its name.
        submit: takes commands.

    Attributes:
        claimant: tells this worker from all others, also from one of the same name that ran before
            it.
    """

    def __init__(self, worker: str, submit: Callable[[Sequence[AnyCommand]], None]) -> None:
        self.claimant = f"{worker} {urandom(4).hex()}"
        self._submit = submit
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    async def claim(self, task: Task) -> bool:
        """Claim an attempt; whether it is ours. False: another worker has it, or had it."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[task.token] = answer
        claim = StartActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, worker=self.claimant
        )
        try:
            while not answer.done():
                self._submit([claim])
                await asyncio.wait([answer], timeout=REPEAT_S)
            return answer.result()
        finally:
            self._waiting.pop(task.token, None)

    def decided(self, text: str) -> bool:
        """Take what says whose an attempt is (`model.tasks.claim_text`).

        Returns:
            Whether it says that; any other text is left alone.
        """
        if (claim := claim_of(text)) is None:
            return False
        answer = self._waiting.get(claim[0])
        if answer is not None and not answer.done():
            answer.set_result(claim[1] == self.claimant)
        return True
