"""Who waits for a run to close. Soft state: after a restart clients ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.run import closed_reply
from perdure.model.replies import AskAgain

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.core.state import RunState
    from perdure.engine.outbox import BatchOutbox
    from perdure.model.commands import AwaitWorkflow
    from perdure.model.replies import AnyReply


class Waiters:
    """Requests that wait, by run id; each with the workflow id that it asked for."""

    __slots__ = ("_by_run",)

    def __init__(self) -> None:
        self._by_run: dict[str, dict[tuple[str, str], str]] = {}

    def add(self, run_id: str, command: AwaitWorkflow) -> None:
        """Remember a request; the same one a second time is one."""
        self._by_run.setdefault(run_id, {})[command.reply_to, command.request_id] = command.workflow_id

    def answer(self, run: RunState, outbox: BatchOutbox) -> None:
        """The run has closed: tell everybody who waits. They are forgotten by `forget`, once that is durable."""
        for reply_to, request_id in self._by_run.get(run.run_id, ()):
            outbox.reply(reply_to, closed_reply(run, request_id))

    def forget(self, run_id: str) -> None:
        """They have been told."""
        self._by_run.pop(run_id, None)

    def send_away(self, is_gone: Callable[[str], bool]) -> list[tuple[str, AnyReply]]:
        """Forget who waits for these workflow ids.

        Args:
            is_gone: says of a workflow id whether its run is given up.

        Returns:
            What to answer: to ask again.
        """
        away: list[tuple[str, AnyReply]] = []
        for run_id, requests in list(self._by_run.items()):
            if is_gone(next(iter(requests.values()))):
                away.extend((reply_to, AskAgain(request_id)) for reply_to, request_id in requests)
                del self._by_run[run_id]
        return away
