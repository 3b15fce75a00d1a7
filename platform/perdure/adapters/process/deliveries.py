"""Replies, tasks and states of commits, given to subscribers inside one process."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.ports import Batch
    from perdure.model.replies import AnyReply
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task

    DeliverReplies = Callable[[list[AnyReply]], None]
    DeliverTasks = Callable[[list[Task]], None]
    Ended = Callable[[], None]
    DeliverCancelled = Callable[[list[str]], None]
    DeliverStates = Callable[[list[WorkflowState]], None]

_logger: Final = logging.getLogger(__name__)


class Deliveries:
    """The subscribers of one channel.

    Any thread may subscribe and unsubscribe. Subscribers are called on the engine's thread, once
    for each commit with all items for them; they hand the list on and return. A subscriber that
    raises is unsubscribed.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._reply_subscribers: dict[str, tuple[DeliverReplies, Ended | None]] = {}
        self._task_subscribers: list[tuple[DeliverTasks, DeliverCancelled | None]] = []
        self._state_subscribers: list[DeliverStates] = []
        self._undelivered: dict[tuple[str, int], Task] = {}

    def end(self) -> None:
        """The engine has ended: notify the subscribers that wait for replies."""
        with self._lock:
            subscribers = list(self._reply_subscribers.values())
        for _, ended in subscribers:
            if ended is not None:
                ended()

    def subscribe_replies(self, address: str, deliver: DeliverReplies, ended: Ended | None = None) -> None:
        """Get the replies whose `reply_to` is the address.

        Args:
            address: of the subscriber's own choice.
            deliver: takes them.
            ended: called when the engine ends: open requests will not be answered.
        """
        with self._lock:
            self._reply_subscribers[address] = deliver, ended

    def has_subscriber(self, address: str) -> bool:
        """Whether a subscriber gets the replies to the address."""
        return address in self._reply_subscribers

    def unsubscribe_replies(self, address: str) -> None:
        """Replies to the address are dropped from now on."""
        with self._lock:
            self._reply_subscribers.pop(address, None)

    def subscribe_tasks(self, deliver: DeliverTasks, cancelled: DeliverCancelled | None = None) -> None:
        """Subscribe to tasks for workers, starting with those that waited for a subscriber. Several
        subscribers take turns.

        Args:
            deliver: takes them; on the engine's thread, or on this one for those that waited.
            cancelled: called with the tokens of attempts to cancel, of any subscriber.
        """
        with self._lock:
            self._task_subscribers.append((deliver, cancelled))
            waiting = list(self._undelivered.values())
            self._undelivered.clear()
        if waiting:
            deliver(waiting)

    def unsubscribe_tasks(self, deliver: DeliverTasks) -> None:
        """Stop delivering tasks to a subscriber."""
        with self._lock:
            self._task_subscribers = [each for each in self._task_subscribers if each[0] != deliver]

    def subscribe_states(self, deliver: DeliverStates) -> None:
        """Get every public state that changes."""
        with self._lock:
            self._state_subscribers.append(deliver)

    def unsubscribe_states(self, deliver: DeliverStates) -> None:
        """Stop delivering states to a subscriber."""
        with self._lock:
            self._state_subscribers = [each for each in self._state_subscribers if each != deliver]

    def deliver(self, batch: Batch) -> None:
        """Deliver the results of a commit to their subscribers."""
        if batch.replies:
            self._deliver_replies(batch.replies)
        if batch.states and self._state_subscribers:
            self._deliver_states(list(batch.states.values()))
        if batch.tasks_ended and self._undelivered:
            with self._lock:
                for key in batch.tasks_ended:
                    self._undelivered.pop(key, None)
        if batch.tasks:
            self.deliver_tasks([task for task in batch.tasks.values() if task.queue])
        if batch.cancelled:
            self._deliver_cancelled(batch.cancelled)

    def deliver_tasks(self, tasks: list[Task]) -> None:
        """Deliver tasks to the next subscriber in turn; keep them while there is none."""
        if not tasks:
            return
        with self._lock:
            if not self._task_subscribers:
                self._undelivered.update(((task.run_id, task.number), task) for task in tasks)
                return
            subscriber = self._task_subscribers.pop(0)
            self._task_subscribers.append(subscriber)
        try:
            subscriber[0](tasks)
        except Exception:
            _logger.exception("task subscriber raised; unsubscribing it")
            self.unsubscribe_tasks(subscriber[0])
            self.deliver_tasks(tasks)

    def _deliver_replies(self, replies: list[tuple[str, AnyReply]]) -> None:
        by_address: dict[str, list[AnyReply]] = {}
        for address, reply in replies:
            if address in by_address:
                by_address[address].append(reply)
            else:
                by_address[address] = [reply]
        for address, own in by_address.items():
            subscriber = self._reply_subscribers.get(address)
            if subscriber is None:
                continue
            try:
                subscriber[0](own)
            except Exception:
                _logger.exception("reply subscriber raised; unsubscribing it")
                self.unsubscribe_replies(address)

    def _deliver_states(self, states: list[WorkflowState]) -> None:
        for subscriber in list(self._state_subscribers):
            try:
                subscriber(states)
            except Exception:
                _logger.exception("state subscriber raised; unsubscribing it")
                self.unsubscribe_states(subscriber)

    def _deliver_cancelled(self, tokens: list[str]) -> None:
        for _, cancelled in list(self._task_subscribers):
            if cancelled is None:
                continue
            try:
                cancelled(tokens)
            except Exception:
                _logger.exception("cancellation subscriber raised")
