"""Claims of attempts that may not run twice: the engine records which worker has an attempt before
the function starts.
"""

from __future__ import annotations

import asyncio
from os import urandom
from typing import TYPE_CHECKING, Final

from perdure.model.commands import StartActivity
from perdure.model.tasks import claim_of
from perdure.worker.stopping import was_asked_to_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.model.commands import AnyCommand
    from perdure.model.tasks import Task

REPEAT_S: Final = 3.0
"""The time after which an unanswered claim is repeated: the answer may have been lost, or the
engine have died."""


class Claims:
    """The claims of one worker. Used on its loop's thread.

    Args:
        worker: its name.
        submit: sends commands.

    Attributes:
        claimant: identifies this worker process, also among successive workers of the same name.
    """

    def __init__(self, worker: str, submit: Callable[[Sequence[AnyCommand]], None]) -> None:
        self.claimant = f"{worker} {urandom(4).hex()}"
        self._submit = submit
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    async def claim(self, task: Task) -> bool:
        """Claim an attempt; return whether this worker may run it. False: another worker has it, or
        had it.

        Raises:
            asyncio.CancelledError: the attempt was asked to stop. An activity that cancels every
                task of the loop does not end the wait: another worker would never report the
                attempt.
        """
        me = asyncio.current_task()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[task.token] = answer
        claim = StartActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, worker=self.claimant
        )
        try:
            while not answer.done():
                self._submit([claim])
                try:
                    await asyncio.wait([answer], timeout=REPEAT_S)
                except asyncio.CancelledError:
                    if me is None or was_asked_to_stop(me):
                        raise
                    while me.cancelling():
                        me.uncancel()
            return answer.result()
        finally:
            self._waiting.pop(task.token, None)

    def decided(self, text: str) -> bool:
        """Handle a text that assigns an attempt (`model.tasks.claim_text`).

        Returns:
            Whether the text is one.
        """
        if (claim := claim_of(text)) is None:
            return False
        answer = self._waiting.get(claim[0])
        if answer is not None and not answer.done():
            answer.set_result(claim[1] == self.claimant)
        return True
