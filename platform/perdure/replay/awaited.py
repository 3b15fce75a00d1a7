"""Actions of the code that one event answers later: a message to another workflow, for example.

A capability that needs no more than this has no file of its own in `replay`: its public function
calls `WorkflowRuntime.ask`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.replay.futures import ActionFuture, InertFuture, RunFuture
from perdure.replay.pending import Pending

if TYPE_CHECKING:
    from perdure.model import actions as ac
    from perdure.model import events as ev
    from perdure.model.runtime import Settle
    from perdure.replay.loop import RunLoop


class Awaited:
    """Actions of one run that wait for their answers.

    Args:
        loop: of the run.
    """

    __slots__ = ("_loop", "_pending")

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._pending: dict[type[ev.Event], Pending[tuple[RunFuture, Settle]]] = {}

    def ask(
        self,
        what: str,
        action: type[ac.AnyAction],
        *fields: Any,
        answer: type[ev.Event],
        settle: Settle,
        cancel: type[ac.Action] | None = None,
    ) -> RunFuture:
        """Ask for an action, and return the future of its answer. See `WorkflowRuntime.ask`."""
        loop = self._loop
        loop.refuse_if_read_only(what)
        if loop.is_evicted:
            return InertFuture(loop, 0)
        pending = self._pending.get(answer)
        if pending is None:
            pending = self._pending[answer] = Pending(loop.actions, action, cancel)
        pending.count = number = pending.count + 1
        make: Any = action  # that its first field is the number, its type does not say
        loop.actions.items.append(make(number, *fields))
        future = (
            loop.create_future() if cancel is None else ActionFuture(loop, loop.next_hash(), pending, number)
        )
        pending.waiting[number] = future, settle
        return future

    def apply(self, event: Any) -> None:
        """Apply an answer: settle the future of its number, if there is one."""
        kind: type[ev.Event] = event.__class__
        pending = self._pending.get(kind)
        found = None if pending is None else pending.waiting.pop(event.number, None)
        if found is not None:
            future, settle = found
            settle(future, event)

    def release(self) -> list[Any]:
        """Return the awaited futures of an evicted run, for `eviction`."""
        futures: list[Any] = []
        for pending in self._pending.values():
            futures += (future for future, _ in pending.waiting.values())
            pending.waiting.clear()
        return futures
