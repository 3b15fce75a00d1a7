"""Tasks from Kafka to the worker of this process, and its reports back (KAFKA.md 4 and 6).

A task's offset is held until its report is durable, or until the attempt is leased; what is committed is the contiguous prefix. So the
tasks of a worker that dies are delivered again by Kafka itself. Of each queue one thread polls (`_Queue`), one thread writes reports
(`report_writer.py`), one follows the cancellations; the worker's asyncio loop runs attempts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.headers import headers_left
from perdure.adapters.kafka.padding import is_padding
from perdure.adapters.kafka.records import header_of
from perdure.adapters.kafka.worker.cancellations import CancellationTail
from perdure.adapters.kafka.worker.held_tasks import HeldTasks, Place
from perdure.adapters.kafka.worker.report_writer import Buried, Item, ReportWriter
from perdure.codec.avro import TASKS
from perdure.errors import UndecodableRecord
from perdure.model import commands as cm
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.threads import Watched

if TYPE_CHECKING:
    from confluent_kafka import Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.adapters.kafka.status import Status
    from perdure.model.tasks import Task

COMMIT_S: Final = 0.1
"""Between commits of offsets: what a dead worker had done in this time is done again, seconds."""
ENDING_S: Final = 0.5
"""How long attempts of a partition that is taken away may take to end by themselves."""
LEASING_S: Final = 3.0
"""And then, to be leased, which takes as long as a report takes to be written. Both together are shorter than any lease."""
PATIENCE_S: Final = 0.5
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
        let_go: takes the tokens of attempts whose tasks are about to go to another worker: those that wait are dropped, those that run
            are reported as started, so that they are leased and no other worker runs them too. Answered by `dropped`. All three are
            called on threads of the source, and hand over to the worker's loop.
        limit: tasks out at once; more stay in Kafka.
        status: told of stalls.
    """

    def __init__(
        self,
        clients: PlainClients,
        queues: Sequence[str],
        deliver: Callable[[list[Task]], None],
        cancel: Callable[[Sequence[str]], None],
        let_go: Callable[[Sequence[str]], None],
        limit: int,
        status: Status,
    ) -> None:
        self._held = HeldTasks()
        self._writer = ReportWriter(clients, self._durable, status)
        self._worker_cancel = cancel
        self._cancellations = CancellationTail(clients, self._cancel, status)
        self._queues = [
            _Queue(clients, queue, self._held, self._writer, deliver, let_go, limit, status) for queue in dict.fromkeys(queues)
        ]

    @property
    def out(self) -> int:
        """How many tasks are out."""
        return len(self._held)

    def start(self) -> None:
        """Begin to take tasks."""
        self._writer.start()
        self._cancellations.start()
        self._cancellations.ready.wait(READY_S)  # so that no cancellation of what is taken is missed
        for queue in self._queues:
            queue.start()

    def submit(self, reports: Sequence[cm.AnyCommand]) -> None:
        """From any thread: reports, which are written soon; then the offsets of their tasks are released."""
        self._writer.put(reports)

    def dropped(self, tokens: Sequence[str]) -> None:
        """From any thread: these will not be run here; they are of partitions that are taken away."""
        self._held.drop(tokens)

    def pause(self) -> None:
        """Take nothing more; what runs may report. Stays in the groups meanwhile."""
        for queue in self._queues:
            queue.stopping.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is left, commit, leave the groups: tasks that are left go to other workers at once.

        Args:
            timeout_s: for what is left to be written, while the broker does not answer.
        """
        self.pause()
        self._cancellations.close()
        self._writer.close(timeout_s)
        for queue in self._queues:
            queue.leave()

    def _durable(self, items: Sequence[Item]) -> None:
        for item in items:
            match item:
                case cm.CompleteActivity() | cm.FailActivity() | Buried():
                    self._held.end((item.token,))
                case cm.DeclineActivity():
                    self._held.end((item.token,), is_settled=False)  # the engine dispatches it again under the same token
                case cm.StartActivity():
                    self._held.release((item.token,))
                case _:
                    pass

    def _cancel(self, tokens: Sequence[str]) -> None:
        """Nothing will be reported of these."""
        self._worker_cancel(tokens)
        self._held.end(tokens)


class _Queue:
    """One queue: a consumer in the group of its workers, and the thread that polls it."""

    def __init__(
        self,
        clients: PlainClients,
        queue: str,
        held: HeldTasks,
        writer: ReportWriter,
        deliver: Callable[[list[Task]], None],
        let_go: Callable[[Sequence[str]], None],
        limit: int,
        status: Status,
    ) -> None:
        self._clients = clients
        self._queue = queue
        self._topic = clients.topic(f"tasks.{queue}")
        self._held = held
        self._writer = writer
        self._deliver = deliver
        self._let_go = let_go
        self._limit = limit
        self._status = status
        status.joining.add(queue)
        self._is_paused = False
        self._leaving = threading.Event()
        self._commit_at = 0.0
        self.stopping = threading.Event()
        self._thread = Watched(target=self._run, name=f"perdure-tasks-{queue}")

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
        consumer = self._clients.tasks(self._queue, self._troubled, self._committed)
        consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        while not self.stopping.is_set():
            self._turn(consumer)
            self._commit_now_and_then(consumer)
        while not self._leaving.is_set():  # what still runs may report
            self._pause(consumer)
            self._see_to_others(consumer.poll(POLL_S))
            self._commit_now_and_then(consumer)
        self._commit(consumer, is_synchronous=True)
        consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        """Take what there is room for."""
        room = self._limit - len(self._held)
        if room <= 0:
            if self._is_paused or not self._held.wait_until_fewer_than(self._limit, PATIENCE_S):
                self._pause(consumer)
                self._see_to_others(consumer.poll(POLL_S))
            return
        if self._is_paused:
            self._is_paused = False
            consumer.resume(consumer.assignment())
        message = consumer.poll(BUSY_POLL_S if len(self._held) else POLL_S)
        if message is not None:
            more = consumer.consume(room - 1, 0) if room > 1 else []
            self._take([message, *more])

    def _pause(self, consumer: Consumer) -> None:
        """Again and again, for partitions may have come meanwhile."""
        if not self._is_paused:
            self._is_paused = True
            consumer.pause(consumer.assignment())

    def _see_to_others(self, message: Message | None) -> None:
        """Of a paused consumer come errors only; a task that slipped through is taken, for it would not come again."""
        if message is not None:
            self._take([message])

    def _take(self, messages: Sequence[Message]) -> None:
        tasks: list[Task] = []
        for message in messages:
            if (error := message.error()) is not None:
                self._stumble(error)
                continue
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            try:
                task = TASKS.decode(message.value() or b"", header_of(message))
            except UndecodableRecord as fault:
                if is_padding(message):
                    continue
                self._bury(message, place, offset, fault)
                continue
            if self._held.take(place, offset, task.token):
                tasks.append(task)
        if tasks:
            self._deliver(tasks)

    def _bury(self, message: Message, place: Place, offset: int, fault: UndecodableRecord) -> None:
        """To the dead letters, before its offset may be committed."""
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
            self._writer.put([Buried(letter, token)])

    def _stumble(self, error: KafkaError) -> None:
        said = in_words(error)
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            said = f"task queue {self._queue!r} has no topic {self._topic}: perdure topics apply --queue {self._queue}"
        self._troubled(said)
        self._status.report(said)

    # ---- offsets

    def _commit_now_and_then(self, consumer: Consumer) -> None:
        """At once, when the last time is long enough ago."""
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
            self._committed(error_of(exception), offsets)

    def _committed(self, error: KafkaError | None, offsets: list[Any]) -> None:
        """Also told of each partition by itself."""
        failed = [each for each in offsets if error is not None or each.error is not None]
        if failed:
            self._troubled(in_words(error or failed[0].error))
            self._held.not_committed((each.topic, each.partition) for each in failed)

    # ---- partitions come and go; called within poll and consume

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._status.joined(self._queue, [each.partition for each in partitions])
        self._held.gain((each.topic, each.partition) for each in partitions)
        consumer.incremental_assign(partitions)
        if self._is_paused:
            consumer.pause(partitions)
        else:
            consumer.resume(partitions)  # one that was paused when it went comes back paused

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Let the attempts of these partitions end, have those leased that do not, and commit: nobody runs them twice."""
        places = [(each.topic, each.partition) for each in partitions]
        if not self._held.wait_until_released(places, ENDING_S):
            self._let_go(self._held.held(places))
            self._held.wait_until_released(places, LEASING_S)
        self._commit(consumer, is_synchronous=True)
        self._held.lose(places)
        consumer.incremental_unassign(partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._held.lose((each.topic, each.partition) for each in partitions)
        consumer.incremental_unassign(partitions)

    def _troubled(self, message: str) -> None:
        self._status.trouble = message


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
