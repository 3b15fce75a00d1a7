"""Calls of the Kafka client that are abandoned when they do not return.

librdkafka promises that a call ends after its timeout. Some never do when a broker that a request
waits for leaves the metadata: with confluent-kafka 2.16.1, `send_offsets_to_transaction` hung for
ever in one of three runs of `tests/kafka/test_broker_faults.py` on a busy machine, in
`rd_kafka_txn_op_req0`, after "Transaction coordinator decommissioned". Such a call cannot be
interrupted, so it runs in a thread that can be left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from perdure.threads import WatchedThread

TURN_S: Final = 1.0


class CallTimedOut(Exception):
    """A call did not return; its thread is left behind."""


class BoundedCalls:
    """Runs one call at a time, in one thread; a new thread after a call that hung.

    Args:
        patience_s: how long a call may take without saying that it is alive (`beat`), in whole
            seconds. A process that was stopped meanwhile has not waited: what counts is how often
            it looked.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._thread: _Thread | None = None
        self._beats = 0

    def beat(self) -> None:
        """Note that the call has made progress; called from within it."""
        self._beats += 1

    def call(self, function: Callable[[], None]) -> None:
        """Make a call in the thread.

        Raises:
            Hung: see there.
            BaseException: what it raised.
        """
        thread = self._thread = self._thread or _Thread()
        thread.begin(function)
        looked, beats = 0.0, self._beats
        while not thread.done.acquire(timeout=TURN_S):
            looked += TURN_S
            if beats != self._beats:
                looked, beats = 0.0, self._beats
            elif looked >= self._patience_s:
                self._thread = None
                raise CallTimedOut
        error, thread.error = thread.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Let the thread end."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()


class _Thread:
    """Calls one function after the other."""

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.error: BaseException | None = None
        self._wanted = threading.Lock()
        self._function: Callable[[], None] | None = None
        self.done.acquire()
        self._wanted.acquire()
        WatchedThread(target=self._run, name="perdure-kafka-transactions").start()

    def begin(self, function: Callable[[], None]) -> None:
        self._function = function
        self._wanted.release()

    def end(self) -> None:
        self._function = None
        self._wanted.release()

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            function, self._function = self._function, None
            if function is None:
                return
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                self.error = error
            del function
            self.done.release()
