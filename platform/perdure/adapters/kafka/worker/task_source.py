"""Tasks from Kafka to the worker of this process, and its reports back.

A task's offset is held until its report is durable, or until the attempt is leased; what is
committed is the contiguous prefix. So the tasks of a worker that dies are delivered again by Kafka
itself. Of each queue one thread polls (`_Queue`), one thread writes reports (`report_writer.py`),
one follows the cancellations; the worker's asyncio loop runs attempts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.partition_state import Assignment, Place
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.headers import headers_left
from perdure.adapters.kafka.padding import is_padding
from perdure.adapters.kafka.records import header_of
from perdure.adapters.kafka.worker.cancellations import CancellationTail
from perdure.adapters.kafka.worker.held_tasks import HeldTasks
from perdure.adapters.kafka.worker.report_writer import Item, ReportWriter, UnreadableTask
from perdure.codec.avro import TASKS
from perdure.errors import UndecodableRecord
from perdure.model import commands as cm
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.tasks import claim_of
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from confluent_kafka import Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.adapters.kafka.status import Status
    from perdure.model.tasks import Task

_logger: Final = logging.getLogger("perdure.worker")

COMMIT_S: Final = 0.1
"""Between commits of offsets: what a dead worker had done in this time is done again, seconds."""
END_WITHIN_S: Final = 0.5
"""How long attempts of a revoked partition get to end, seconds."""
LEASE_WITHIN_S: Final = 3.0
"""And then, to be leased, which takes as long as a report takes to be written. Both together are
shorter than any lease."""
PAUSE_AFTER_S: Final = 0.5
"""A worker that is full for longer tells Kafka to wait."""
POLL_S: Final = 0.05
BUSY_POLL_S: Final = 0.01
"""While tasks are out, so that their offsets are committed soon after their reports."""
CLOSE_S: Final = 10.0
READY_S: Final = 2.0


class TaskSource:
    """Tasks of some queues, for one worker.

    Args:
        clients: makes the Kafka clients.
        queues: whose tasks are taken.
        deliver: takes tasks.
        cancel: takes the tokens of attempts, of any worker, that are to stop.
        release: takes the tokens of attempts whose tasks are about to go to another worker: those
            that wait are dropped, those that run are reported as started, so that they are leased
            and no other worker runs them too. Answered by `dropped`. All three are called on
            threads of the source, and hand over to the worker's loop.
        claimant: of the worker, by which it claims attempts that may not run twice.
        limit: unfinished tasks; more stay in Kafka.
        status: shows what is waited for.
    """

    def __init__(
        self,
        clients: PlainClients,
        queues: Sequence[str],
        *,
        deliver: Callable[[list[Task]], None],
        cancel: Callable[[Sequence[str]], None],
        release: Callable[[Sequence[str]], None],
        claimant: str,
        limit: int,
        status: Status,
    ) -> None:
        self._held = HeldTasks()
        self._claimant = claimant
        self._writer = ReportWriter(clients, self._on_durable, status)
        self._worker_deliver, self._worker_cancel = deliver, cancel
        self._cancellations = CancellationTail(clients, self._cancel, status)
        self._queues = [
            _Queue(
                clients,
                queue,
                self._held,
                writer=self._writer,
                deliver=self._deliver,
                release=release,
                limit=limit,
                status=status,
            )
            for queue in dict.fromkeys(queues)
        ]

    @property
    def out(self) -> int:
        """Number of unfinished tasks."""
        return len(self._held)

    def start(self) -> None:
        """Begin to take tasks."""
        self._writer.start()
        self._cancellations.start()
        self._cancellations.ready.wait(READY_S)  # so that no cancellation of what is taken is missed
        for queue in self._queues:
            queue.start()

    def submit(self, reports: Sequence[cm.AnyCommand]) -> None:
        """Submit reports from any thread. They are written soon; then the offsets of their tasks
        are released.
        """
        self._writer.put(reports)

    def dropped(self, tokens: Sequence[str]) -> None:
        """From any thread: these will not be run here; they are of partitions that are taken
        away.
        """
        self._held.drop(tokens)

    def pause(self) -> None:
        """Take no more tasks; running attempts may report. Stays in the groups."""
        for queue in self._queues:
            queue.stopping.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write remaining reports, commit, and leave the groups: other workers get the remaining
        tasks immediately.

        Args:
            timeout_s: for what is left to be written, while the broker does not answer.
        """
        self.pause()
        self._cancellations.close()
        self._writer.close(timeout_s)
        for queue in self._queues:
            queue.leave()

    def _on_durable(self, items: Sequence[Item]) -> None:
        for item in items:
            match item:
                case cm.CompleteActivity() | cm.FailActivity() | cm.DeferActivity() | UnreadableTask():
                    self._held.end((item.token,))
                case cm.DeclineActivity():
                    # the engine dispatches it again under the same token
                    self._held.end((item.token,), is_settled=False)
                case cm.StartActivity():
                    self._held.release((item.token,))
                case _:
                    pass

    def _cancel(self, tokens: Sequence[str]) -> None:
        """Forget cancelled attempts, and those that other workers have claimed: this worker will
        not report them, unless their runs wait for their ends.
        """
        self._worker_cancel(tokens)
        claims = [claim for token in tokens if (claim := claim_of(token)) is not None]
        if claims:
            self._held.end([token for token, claimant in claims if claimant != self._claimant])
            tokens = [token for token in tokens if claim_of(token) is None]
        self._held.cancel(tokens)

    def _deliver(self, tasks: list[Task]) -> None:
        self._worker_deliver(tasks)
        if tokens := self._held.to_stop():
            self._worker_cancel(tokens)


class _Queue:
    """One queue: a consumer in the group of its workers, and the thread that polls it."""

    def __init__(
        self,
        clients: PlainClients,
        queue: str,
        held: HeldTasks,
        *,
        writer: ReportWriter,
        deliver: Callable[[list[Task]], None],
        release: Callable[[Sequence[str]], None],
        limit: int,
        status: Status,
    ) -> None:
        self._clients = clients
        self._queue = queue
        self._topic = clients.topic(f"tasks.{queue}")
        self._held = held
        self._writer = writer
        self._deliver = deliver
        self._release = release
        self._limit = limit
        self._status = status
        status.joining.add(queue)
        self._member = GroupMember(
            on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost, is_paused_at_first=False
        )
        self._is_full = False
        self._consumer: Consumer | None = None
        self._leaving = threading.Event()
        self._commit_at = 0.0
        self.stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name=f"perdure-tasks-{queue}")

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Everything was reported: commit, and leave the group. Idempotent."""
        self.stopping.set()
        self._leaving.set()
        if self._thread.ident is not None:
            self._thread.join()

    # ---- the thread

    def _run(self) -> None:
        consumer = self._consumer = self._clients.tasks(self._queue, self._on_error, self._on_committed)
        self._member.subscribe(consumer, [self._topic])
        while not self.stopping.is_set():
            self._turn(consumer)
            self._commit_now_and_then(consumer)
        while not self._leaving.is_set():  # what still runs may report
            self._pause()
            self._see_to_others(consumer.poll(POLL_S))
            self._commit_now_and_then(consumer)
        self._commit(consumer, is_synchronous=True)
        consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        """Take as many tasks as there is room for."""
        room = self._limit - len(self._held)
        if room <= 0:
            if self._is_full or not self._held.wait_until_fewer_than(self._limit, PAUSE_AFTER_S):
                self._pause()
                self._see_to_others(consumer.poll(POLL_S))
            return
        if self._is_full:
            self._is_full = False
            self._member.resume(list(self._member.partitions.owned))
        message = consumer.poll(BUSY_POLL_S if len(self._held) else POLL_S)
        if message is not None:
            more = consumer.consume(room - 1, 0) if room > 1 else []
            self._take([message, *more])

    def _pause(self) -> None:
        """Partitions that come meanwhile are held, too."""
        if not self._is_full:
            self._is_full = True
            self._member.hold(list(self._member.partitions.owned))

    def _see_to_others(self, message: Message | None) -> None:
        """Poll a paused consumer for errors only; a task that slips through is taken, since it
        would not be fetched again.
        """
        if message is not None:
            self._take([message])

    def _take(self, messages: Sequence[Message]) -> None:
        tasks: list[Task] = []
        for message in messages:
            if (error := message.error()) is not None:
                self._note_error(error)
                continue
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            try:
                task = TASKS.decode(message.value() or b"", header_of(message))
            except UndecodableRecord as fault:
                if is_padding(message):
                    continue
                self._bury(message, place, offset, fault)
                continue
            if self._held.take(place, offset, task.token, reports_stop=task.reports_stop):
                tasks.append(task)
        if tasks:
            self._deliver(tasks)

    def _bury(self, message: Message, place: Place, offset: int, fault: UndecodableRecord) -> None:
        """Write a task to the dead letters, before its offset may be committed."""
        token = f"{place[0]}/{place[1]}/{offset}"
        letter = DeadLetter(
            topic=place[0],
            partition=place[1],
            offset=offset,
            timestamp_ms=message.timestamp()[1],
            reason=fault.reason,
            message=str(fault),
            found_at=time.time_ns() // 1_000,
            key=_bytes(message.key()),
            value=_bytes(message.value()),
            headers=tuple(RecordHeader(name, _bytes(value)) for name, value in headers_left(message)),
        )
        if self._held.take(place, offset, token):
            self._status.counts.dead_letters += 1
            self._writer.put([UnreadableTask(letter, token)])

    def _note_error(self, error: KafkaError) -> None:
        said = in_words(error)
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            said = (
                f"task queue {self._queue!r} has no topic {self._topic}: perdure topics apply --queue "
                f"{self._queue}"
            )
        self._on_error(said)
        self._status.report(said)

    # ---- offsets

    def _commit_now_and_then(self, consumer: Consumer) -> None:
        """Commit if the last commit is long enough ago."""
        if time.monotonic() >= self._commit_at:
            self._commit(consumer, is_synchronous=False)

    def _commit(self, consumer: Consumer, *, is_synchronous: bool) -> None:
        due = self._held.due(self._topic)
        if not due:
            return
        self._commit_at = time.monotonic() + COMMIT_S
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in due]
        try:
            if is_synchronous:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            self._on_committed(error_of(exception), offsets)

    def _on_committed(self, error: KafkaError | None, offsets: list[Any]) -> None:
        """Note revoked or lost partitions; the client may call this once per partition."""
        failed = [each for each in offsets if error is not None or each.error is not None]
        if failed:
            self._on_error(in_words(error or failed[0].error))
            self._held.not_committed((each.topic, each.partition) for each in failed)

    # ---- partitions come and go; called within poll and consume

    def _assigned(self, assignments: list[Assignment]) -> None:
        places = [each.place for each in assignments]
        self._status.joined(self._queue, [partition for _, partition in places])
        self._held.gain(places)
        if self._is_full:
            self._member.hold(places)
        else:
            self._member.resume(places)

    def _revoked(self, assignments: list[Assignment]) -> None:
        """On revocation: wait for the attempts of these partitions to end, lease those that do not,
        and commit, so that no attempt runs twice.
        """
        assert self._consumer is not None
        places = [each.place for each in assignments]
        if not self._held.wait_until_released(places, END_WITHIN_S):
            self._release(self._held.held(places))
            self._held.wait_until_released(places, LEASE_WITHIN_S)
        self._commit(self._consumer, is_synchronous=True)
        self._held.lose(places)
        shown = ", ".join(str(partition) for _, partition in sorted(places))
        _logger.info("queue %s: released partitions %s", self._queue, shown)

    def _lost(self, assignments: list[Assignment]) -> None:
        self._held.lose(each.place for each in assignments)
        shown = ", ".join(str(partition) for _, partition in sorted(each.place for each in assignments))
        _logger.warning("queue %s: lost partitions %s: Kafka took this worker for dead", self._queue, shown)

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
