"""Clients that wait for an answer which a later batch has. Soft state: after a restart they ask
again.

What a workflow waits for is recorded instead (`core.machines.promise`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.machines.promise import CLOSED, closed_reply
from perdure.model.replies import AskAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perdure.core.machine import Outbox
    from perdure.core.state import RunState
    from perdure.model.commands import Request
    from perdure.model.replies import AnyReply

_Requests = dict[tuple[str, str], "Request"]
"""By address and request id: the same request a second time is one."""


class Waiters:
    """Requests that wait, by run id and subject: what the answer is about, as of
    `core.machines.promise`.
    """

    __slots__ = ("_answered", "_by_run")

    def __init__(self) -> None:
        self._by_run: dict[str, dict[str, _Requests]] = {}
        self._answered: list[tuple[str, str]] = []

    def add(self, run_id: str, subject: str, request: Request) -> None:
        """Remember a request; the same one a second time is one."""
        subjects = self._by_run.setdefault(run_id, {})
        subjects.setdefault(subject, {})[request.reply_to, request.request_id] = request

    def answer(self, run_id: str, subject: str) -> Iterable[Request]:
        """The requests that wait for the answer about a subject, which the open batch has. `settle`
        forgets them, once it is durable.
        """
        requests = self._by_run.get(run_id, _NONE).get(subject)
        if requests is None:
            return ()
        self._answered.append((run_id, subject))
        return requests.values()

    def close(self, run: RunState, outbox: Outbox) -> None:
        """The run has closed: answer how, and let the others ask again. `forget` forgets them, once
        that is durable.

        Who waits for a run that this one has continued in the open batch is still under its id.
        """
        self._close(run.run_id, run, outbox)
        if run.started.continued_from:
            self._close(run.started.continued_from, run, outbox)

    def _close(self, run_id: str, run: RunState, outbox: Outbox) -> None:
        answered = self._answered
        for subject, requests in self._by_run.get(run_id, _NONE).items():
            if (run_id, subject) in answered:
                continue
            for request in requests.values():
                outbox.reply(
                    request,
                    closed_reply(run, request.request_id)
                    if subject == CLOSED
                    else AskAgain(request.request_id),
                )

    def settle(self) -> None:
        """The answers are durable."""
        if not self._answered:
            return
        for run_id, subject in self._answered:
            subjects = self._by_run.get(run_id, {})
            subjects.pop(subject, None)
            if not subjects:
                self._by_run.pop(run_id, None)
        self._answered.clear()

    def abort(self) -> None:
        """The answers are not durable: their clients still wait."""
        self._answered.clear()

    def forget(self, run_id: str) -> None:
        """All that wait for the run have been answered."""
        self._by_run.pop(run_id, None)

    def move(self, run_id: str, next_run_id: str) -> None:
        """Another run continues this one: who waits for its end waits for that of the other."""
        subjects = self._by_run.pop(run_id, None)
        if subjects is not None:
            for subject, requests in subjects.items():
                self._by_run.setdefault(next_run_id, {}).setdefault(subject, {}).update(requests)

    def release(self, is_gone: Callable[[str], bool]) -> list[tuple[str, AnyReply]]:
        """Forget who waits for these workflow ids.

        Args:
            is_gone: says of a workflow id whether its run is given up.

        Returns:
            What to answer: to ask again.
        """
        away: list[tuple[str, AnyReply]] = []
        for run_id, subjects in list(self._by_run.items()):
            requests = [request for each in subjects.values() for request in each.values()]
            if is_gone(requests[0].workflow_id):
                away.extend((request.reply_to, AskAgain(request.request_id)) for request in requests)
                del self._by_run[run_id]
        return away


_NONE: dict[str, _Requests] = {}
