"""The exchange inside one process: commands from any thread to the engine; replies, tasks and
states back to subscribers.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from perdure.engine.ports import Batch
    from perdure.model.commands import AnyCommand
    from perdure.model.replies import AnyReply
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task

    DeliverReplies = Callable[[list[AnyReply]], None]
    DeliverTasks = Callable[[list[Task]], None]
    Ended = Callable[[], None]
    DeliverCancelled = Callable[[list[str]], None]
    DeliverStates = Callable[[list[WorkflowState]], None]

_logger: Final = logging.getLogger(__name__)


class Channel:
    """Belongs to a log; clients and workers of the process hold it.

    Any thread may call `submit`, `wake` and the subscriptions. `wait`, `take`, `settle`, `abort`
    and `deliver` belong to the engine's thread, through the log. Subscribers are called on the
    engine's thread, once for each commit with all items for them; they hand the list on and return.
    A subscriber that raises is unsubscribed.

    Attributes:
        has_ended: the engine at the other end has gone, and no other has come yet.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._inbox: deque[Sequence[AnyCommand]] = deque()
        self._bell = Lock()  # held until something was put into the inbox
        self._bell.acquire()
        self._ready: deque[AnyCommand] = deque()
        self._taken: list[AnyCommand] = []
        self._lock = Lock()
        self._reply_subscribers: dict[str, tuple[DeliverReplies, Ended | None]] = {}
        self._task_subscribers: list[tuple[DeliverTasks, DeliverCancelled | None]] = []
        self._state_subscribers: list[DeliverStates] = []
        self._undelivered: dict[tuple[str, int], Task] = {}

    # ---- commands

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Commands that reach `take` in this order."""
        self._inbox.append(commands)
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread has just rung it
                self._bell.release()

    def wake(self) -> None:
        """`wait` returns."""
        self.submit(())

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is submitted or `wake` is called; returns immediately if commands
        are waiting.

        Returns:
            False when the time has passed.
        """
        if self._drain() or self._ready:
            return True
        return timeout_s > 0 and self.wait_for_more(timeout_s)

    def wait_for_more(self, timeout_s: float) -> bool:
        """Like `wait`, but ignores commands that are already waiting.

        The lock is our own, since `queue.SimpleQueue.get` with a timeout may wait for ever: a
        thread that loses the processor inside it computes a time left that is negative, and to its
        lock that means no limit (`simplequeue_get` of CPython's _queuemodule.c; `Lock.acquire`
        looks).
        """
        until = monotonic() + timeout_s
        while not self._drain():
            left_s = until - monotonic()
            if left_s <= 0 or not self._bell.acquire(timeout=left_s):
                return self._drain()
        return True

    def take(self, limit: int) -> list[AnyCommand]:
        """Take up to `limit` commands."""
        self._drain()
        ready = self._ready
        if len(ready) <= limit:
            commands = list(ready)
            ready.clear()
        else:
            commands = [ready.popleft() for _ in range(limit)]
        self._taken += commands
        return commands

    @property
    def has_commands(self) -> bool:
        """Whether submitted commands are waiting; from any thread."""
        return bool(self._ready or self._inbox)

    def settle(self) -> None:
        """The taken commands are committed."""
        self._taken.clear()

    @property
    def taken(self) -> Sequence[AnyCommand]:
        """Commands taken and not yet settled."""
        return self._taken

    def abort(self) -> None:
        """Hand out again, in order, what was taken and is not settled."""
        self._ready.extendleft(reversed(self._taken))
        self._taken.clear()

    def remove(self, ids: Container[int]) -> None:
        """Forget commands that are not taken, by their object's `id`."""
        self._drain()
        kept = [command for command in self._ready if id(command) not in ids]
        self._ready.clear()
        self._ready.extend(kept)

    def _drain(self) -> bool:
        inbox, ready = self._inbox, self._ready
        has_any = False
        while inbox:
            ready.extend(inbox.popleft())
            has_any = True
        return has_any

    # ---- the engine comes and goes

    def begin(self) -> None:
        """An engine has opened the log."""
        self.has_ended = False

    def end(self) -> None:
        """It has gone."""
        self.has_ended = True
        with self._lock:
            subscribers = list(self._reply_subscribers.values())
        for _, ended in subscribers:
            if ended is not None:
                ended()

    # ---- replies, tasks and states

    def subscribe_replies(self, address: str, deliver: DeliverReplies, ended: Ended | None = None) -> None:
        """Get the replies whose `reply_to` is the address.

        Args:
            address: of the subscriber's own choice.
            deliver: takes them.
            ended: called when the engine goes: what was asked is not going to be answered.
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
        """No more tasks for it."""
        with self._lock:
            self._task_subscribers = [each for each in self._task_subscribers if each[0] != deliver]

    def subscribe_states(self, deliver: DeliverStates) -> None:
        """Get every public state that changes."""
        with self._lock:
            self._state_subscribers.append(deliver)

    def unsubscribe_states(self, deliver: DeliverStates) -> None:
        """No more states for it."""
        with self._lock:
            self._state_subscribers = [each for each in self._state_subscribers if each != deliver]

    def deliver(self, batch: Batch) -> None:
        """After a commit: everybody gets theirs."""
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
        """To the subscriber whose turn it is; kept while there is none."""
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
