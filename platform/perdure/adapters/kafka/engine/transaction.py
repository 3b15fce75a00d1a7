"""One transaction at a time, each with one of three definite ends: committed, aborted, fenced.

A commit whose outcome is not known is repeated until it is, and nothing else is done meanwhile:
asking the committed offset instead split one transaction in ten when a broker crashed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException

from perdure.adapters.kafka.bounded_calls import BoundedCalls, CallTimedOut
from perdure.adapters.kafka.error_classes import ErrorClass, class_of, error_of, in_words
from perdure.errors import CommitAborted, InfrastructureError
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from confluent_kafka import Producer, TopicPartition

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status

CALL_S: Final = 5.0
"""One try of a call; the client itself repeats within it."""

HANG_S: Final = 15.0
"""A call that exceeds its time limit by this much does not return any more, seconds."""

INIT_S: Final = 2.0
FENCES: Final = 4
FENCES_WITHIN_S: Final = 60.0


class Fenced(CommitAborted):
    """Another producer has this engine's id, or the broker has expired it. The committed offsets
    say what was recorded, and the partitions must be given up.
    """


class TooLarge(CommitAborted):
    """A record is larger than Kafka accepts; nothing was recorded."""


class Transactions:
    """The producer of an engine, and a warm spare: with the same id, connected, not yet
    initialised.

    Args:
        clients: makes producers.
        status: shows what is waited for.
        is_given_up: asked now and then while a new producer waits for the broker; True ends the
            wait.
    """

    def __init__(self, clients: EngineClients, status: Status, is_given_up: Callable[[], bool]) -> None:
        self._clients = clients
        self._is_given_up = is_given_up
        self._status = status
        self._producer: Producer | None = None
        self._spare: Producer | None = None
        self._warming: WatchedThread | None = None
        self._fenced_at: list[float] = []
        self._calls = BoundedCalls(CALL_S + HANG_S)

    def open(self) -> None:
        """Fence the producer that had our id before; waits for the broker, and says why.

        Raises:
            InfrastructureError: it was given up, or never can work; the message says what to do.
        """
        self._initialise(self._new_producer())

    def run(
        self,
        write: Callable[[Producer], None],
        offsets: list[TopicPartition],
        metadata: Any,
    ) -> None:
        """One transaction. Returns when it is committed.

        Args:
            write: produces its records.
            offsets: the offsets that it commits.
            metadata: of the group, as it was when the partitions were ours: that is what fences us.

        Raises:
            Fenced: another producer has this engine's id; there is a new producer.
            TooLarge: a record is too large.
            CommitAborted: nothing was recorded.
            Exception: raised by `write`; nothing was recorded.
        """
        producer = self._producer
        assert producer is not None
        begun = time.perf_counter()

        def finish() -> None:
            if offsets:
                send = producer.send_offsets_to_transaction
                self._repeat("offsets to join the transaction", lambda: send(offsets, metadata, CALL_S))
            self._repeat("a transaction to be committed", lambda: producer.commit_transaction(CALL_S))

        try:
            producer.begin_transaction()
            write(producer)
            self._calls.call(finish)
        except KafkaException as exception:
            self._status.clear_wait()
            self._end(producer, exception)
        except CallTimedOut as hung:
            self._leave("does not end a transaction")
            raise Fenced("the Kafka client did not return from a transaction") from hung
        except BaseException:
            self._abort(producer)
            raise
        self._status.last_transaction_s = time.perf_counter() - begun
        self._status.counts.transactions += 1
        self._status.trouble = ""

    def close(self) -> None:
        """Close the producers."""
        self._producer = None
        if self._warming is not None:
            self._warming.join(INIT_S)
        self._spare = None
        self._calls.close()

    # ---- the ends

    def _repeat(self, what: str, call: Callable[[], None]) -> None:
        """Repeat a call until its outcome is definite."""
        while True:
            self._calls.beat()
            try:
                call()
            except KafkaException as exception:
                error = error_of(exception)
                if class_of(error) is not ErrorClass.AGAIN:
                    raise
                self._status.trouble = self._status.trouble or in_words(error)
                self._status.waits(f"{what}, whose outcome is not known yet")
            else:
                self._status.clear_wait()
                return

    def _end(self, producer: Producer, exception: KafkaException) -> None:
        error = error_of(exception)
        is_too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        # which `produce` says without asking for an abort
        if class_of(error) is ErrorClass.FENCED and not is_too_large:
            self._replace_fenced(in_words(error))
            raise Fenced(f"the transaction's producer is no longer usable ({in_words(error)})") from exception
        self._abort(producer)
        if is_too_large:
            raise TooLarge("a record of the batch is larger than Kafka accepts") from exception
        raise CommitAborted(f"the transaction was aborted ({in_words(error)})") from exception

    def _abort(self, producer: Producer) -> None:
        """Abort, and keep the producer if every delivery report has arrived."""
        self._status.counts.aborted += 1
        try:
            self._calls.call(lambda: producer.abort_transaction(CALL_S))
        except CallTimedOut:
            self._leave("does not abort a transaction")
        except KafkaException as exception:
            error = error_of(exception)
            if class_of(error) is not ErrorClass.AGAIN:
                self._replace_fenced(in_words(error))
                raise Fenced(f"a transaction could not be aborted ({in_words(error)})") from exception
            # which aborts it, too: nothing was committed, and nothing can be
            self._initialise(self._take_spare())
        else:
            # Reports that are still to come could be taken for those of the next transaction.
            if len(producer):
                self._initialise(self._take_spare())

    def _leave(self, what: str) -> None:
        """The client hangs: abandon it. A new producer with the same id ends its transaction."""
        self._status.counts.fenced += 1
        self._status.report(
            f"the Kafka client {what} and has not returned {HANG_S:.0f} s after its deadline: abandoning "
            "it, a new one takes "
            "over; no data lost"
        )
        self._initialise(self._take_spare())

    def _replace_fenced(self, why: str) -> None:
        self._status.counts.fenced += 1
        now = time.monotonic()
        self._fenced_at = [*(at for at in self._fenced_at if now - at < FENCES_WITHIN_S), now]
        if len(self._fenced_at) >= FENCES:
            raise InfrastructureError(
                f"this engine was fenced {FENCES} times within {FENCES_WITHIN_S:.0f} s ({why}). Another "
                "process may run as "
                f"{self._clients.instance!r} in namespace {self._clients.namespace!r}: give each engine its "
                "own instance name."
            )
        self._initialise(self._take_spare())

    # ---- producers

    def _initialise(self, producer: Producer) -> None:
        self._producer = None
        while True:
            try:
                self._calls.call(lambda: producer.init_transactions(INIT_S))  # noqa: B023 - called immediately
                break
            except CallTimedOut:
                producer = self._new_producer()
            except KafkaException as exception:
                error = error_of(exception)
                if class_of(error) is not ErrorClass.AGAIN:
                    raise InfrastructureError(_refused(error, self._clients.transactional_id)) from exception
                self._status.trouble = self._status.trouble or in_words(error)
            if self._is_given_up():
                raise InfrastructureError("stopped while waiting for the broker")
            self._status.waits("a transactional producer")
        self._status.clear_wait()
        self._producer = producer
        self._warming = WatchedThread(target=self._warm, name="perdure-kafka-spare")
        self._warming.start()

    def _warm(self) -> None:
        spare = self._new_producer()
        with contextlib.suppress(KafkaException):  # it connects when it can
            spare.list_topics(timeout=CALL_S)
        self._spare = spare

    def _take_spare(self) -> Producer:
        spare, self._spare = self._spare, None
        return spare or self._new_producer()

    def _new_producer(self) -> Producer:
        return self._clients.producer(self._on_error)

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def _refused(error: Any, transactional_id: str) -> str:
    return (
        f"Kafka refuses the transactional id {transactional_id!r} ({in_words(error)}); check that the user "
        "may Write and Describe it, "
        "and that transaction.timeout.ms is not above the broker's transaction.max.timeout.ms"
    )
