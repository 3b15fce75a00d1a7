"""Who waits for a run to close. Soft state: after a restart clients ask again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.decide import closed_reply

if TYPE_CHECKING:
    from perdure.core.run import RunState
    from perdure.engine.outbox import BatchOutbox
    from perdure.model.commands import AwaitWorkflow


class Waiters:
    """Requests that wait, by run id."""

    __slots__ = ("_by_run",)

    def __init__(self) -> None:
        self._by_run: dict[str, dict[tuple[str, str], None]] = {}

    def add(self, run_id: str, command: AwaitWorkflow) -> None:
        """Remember a request; the same one a second time is one."""
        self._by_run.setdefault(run_id, {})[command.reply_to, command.request_id] = None

    def answer(self, run: RunState, outbox: BatchOutbox) -> None:
        """The run has closed: tell everybody who waits. They are forgotten by `forget`, once that is durable."""
        for reply_to, request_id in self._by_run.get(run.run_id, ()):
            outbox.reply(reply_to, closed_reply(run, request_id))

    def forget(self, run_id: str) -> None:
        """They have been told."""
        self._by_run.pop(run_id, None)
