"""Clients that wait for an answer of a later batch. They are not recorded: after a restart they
repeat their requests.

The requests of workflows are recorded instead (`core.machines.promise`).
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
"""Requests by address and request id, so that a repeated request counts once."""


class Waiters:
    """Waiting requests, by run id and subject; `core.machines.promise` defines the subjects."""

    __slots__ = ("_answered", "_by_run")

    def __init__(self) -> None:
        self._by_run: dict[str, dict[str, _Requests]] = {}
        self._answered: list[tuple[str, str]] = []

    def add(self, run_id: str, subject: str, request: Request) -> None:
        """Add a request; a repeated one counts once."""
        subjects = self._by_run.setdefault(run_id, {})
        subjects.setdefault(subject, {})[request.reply_to, request.request_id] = request

    def answer(self, run_id: str, subject: str) -> Iterable[Request]:
        """The requests that wait for this subject, to be answered by the open batch. `settle`
        forgets them when the batch is durable.
        """
        requests = self._by_run.get(run_id, _NONE).get(subject)
        if requests is None:
            return ()
        self._answered.append((run_id, subject))
        return requests.values()

    def close(self, run: RunState, outbox: Outbox) -> None:
        """Answer the clients of a run that has closed: those that wait for its end get it, the
        others must repeat their requests. `forget` forgets them when the batch is durable.

        Clients that wait for a run that this one continues, in the same batch, are still stored
        under that run's id.
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
        """The answers are durable: forget the requests."""
        if not self._answered:
            return
        for run_id, subject in self._answered:
            subjects = self._by_run.get(run_id, {})
            subjects.pop(subject, None)
            if not subjects:
                self._by_run.pop(run_id, None)
        self._answered.clear()

    def abort(self) -> None:
        """The answers are not durable: keep the requests."""
        self._answered.clear()

    def forget(self, run_id: str) -> None:
        """Forget the run: all of its requests were answered."""
        self._by_run.pop(run_id, None)

    def move(self, run_id: str, next_run_id: str) -> None:
        """Another run continues this one: requests for the end of this run now wait for the end of
        that one.
        """
        subjects = self._by_run.pop(run_id, None)
        if subjects is not None:
            for subject, requests in subjects.items():
                self._by_run.setdefault(next_run_id, {}).setdefault(subject, {}).update(requests)

    def release(self, is_gone: Callable[[str], bool]) -> list[tuple[str, AnyReply]]:
        """Forget the requests for these workflow ids.

        Args:
            is_gone: whether a workflow id belongs to a lost partition.

        Returns:
            The answers, which ask the clients to repeat their requests.
        """
        away: list[tuple[str, AnyReply]] = []
        for run_id, subjects in list(self._by_run.items()):
            requests = [request for each in subjects.values() for request in each.values()]
            if is_gone(requests[0].workflow_id):
                away.extend((request.reply_to, AskAgain(request.request_id)) for request in requests)
                del self._by_run[run_id]
        return away


_NONE: dict[str, _Requests] = {}
