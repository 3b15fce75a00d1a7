"""Requests from any process, through Kafka."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from confluent_kafka import KafkaException, TopicPartition
from msgspec.structs import replace

from perdure.adapters.kafka.client.command_producer import CommandProducer, Place
from perdure.adapters.kafka.client.reply_consumer import ReplyConsumer
from perdure.adapters.kafka.client.state_reader import StateReader
from perdure.adapters.kafka.clients.address import clients_of
from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.process.waiting import Waiting
from perdure.client.position import Position
from perdure.errors import EngineUnavailable
from perdure.model.commands import AwaitWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.client.ports import Reader
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply

T = TypeVar("T")

ASK_AGAIN_S: Final = 5.0
"""Interval at which a waiting request is repeated, seconds: a restarted engine has forgotten its
waiting clients.
"""

ABANDONED_S: Final = 30.0
"""Time after which a request without a limit gives up if no engine has taken it, seconds: time for
a takeover.
"""

POLL_INTERVAL_S: Final = 2.0
CLOSED: Final = "this client is closed: connect again"


def connect(url: str) -> KafkaTransport:
    """A transport to the engines at `kafka://host:9092/namespace`; `client.address` names this
    function.

    Raises:
        UsageError: the address is not understood.
        InfrastructureError: a Kafka setting is wrong.
    """
    return KafkaTransport(clients_of(url, f"client-{os.getpid()}@{socket.gethostname()}"))


class KafkaTransport:
    """`client.ports.Transport` through the topics of a namespace. Connects on the first request, in
    separate threads.

    Requests that are sent while no engine runs are kept, and done when one starts.

    Args:
        clients: makes Kafka clients.
        ask_again_s: see `ASK_AGAIN_S`.
        abandoned_s: see `ABANDONED_S`.
    """

    def __init__(
        self, clients: PlainClients, ask_again_s: float = ASK_AGAIN_S, abandoned_s: float = ABANDONED_S
    ) -> None:
        self._clients = clients
        self._ask_again_s = ask_again_s
        self._abandoned_s = abandoned_s
        self._waiting = Waiting()
        self._asked: dict[str, Future[AnyReply]] = {}
        self._reply_consumer: ReplyConsumer | None = None
        self._command_producer: CommandProducer | None = None
        self._committed: Consumer | None = None
        self._offsets_lock = Lock()
        self._reader = StateReader(clients, self.ask)
        self._ends = Ends(clients, clients.topic("events"), self._on_trouble)
        self._partitions = 0
        self._trouble = ""
        self._is_closed = False

    @property
    def reader(self) -> Reader:
        """Reads states from a table, and histories by requests to the engines."""
        return self._reader

    @property
    def is_reader_near(self) -> bool:
        """False: reading one state loads the table of all states."""
        return False

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Call the reader in a thread, since it waits until it has everything that was answered
        before.
        """
        if self._is_closed:
            raise EngineUnavailable(CLOSED)
        return await asyncio.to_thread(question, self._reader)

    async def position(self, workflow_id: str) -> Position:
        """The end of the events on the workflow id's partition: its answers were committed with
        them.
        """
        return await asyncio.to_thread(self._position, workflow_id)

    def _position(self, workflow_id: str) -> Position:
        ends = self._ends
        self._partitions = self._partitions or ends.count()
        partition = partition_of(workflow_id.encode(), self._partitions)
        return Position(partition, ends.of([partition])[partition])

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Send a request, and wait for the reply."""
        consumer, producer = self._opened()
        future = self._waiting.add(command.request_id)
        places: list[Place] = []
        try:
            async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
                address = await asyncio.shield(asyncio.wrap_future(consumer.address))
                command = replace(command, reply_to=address)
                producer.send(cast("AnyCommand", command), places.append)
                if isinstance(command, AwaitWorkflow):
                    await self._ask_again(command, future, producer, places)
                return await future
        except TimeoutError:
            raise await asyncio.to_thread(self._unavailable, command, timeout_s, places) from None
        except asyncio.CancelledError:
            if self._is_closed and not consumer.address.done():
                raise EngineUnavailable(CLOSED) from None
            raise
        finally:
            self._waiting.remove(command.request_id, future)

    def ask(self, command: Request, timeout_s: float) -> AnyReply:
        """As `request`, from a thread without a loop."""
        consumer, producer = self._opened()
        future: Future[AnyReply] = Future()
        places: list[Place] = []
        self._asked[command.request_id] = future
        try:
            address = consumer.address.result(timeout_s)
            producer.send(cast("AnyCommand", replace(command, reply_to=address)), places.append)
            return future.result(timeout_s)
        except TimeoutError:
            raise self._unavailable(command, timeout_s, places) from None
        finally:
            self._asked.pop(command.request_id, None)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply."""
        self._opened()[1].submit(commands)

    async def close(self) -> None:
        """Write the waiting commands, then close."""
        if self._is_closed:
            return
        self._is_closed = True
        error = EngineUnavailable("this client was closed while it waited for an answer")
        self._waiting.fail(error)
        for future in list(self._asked.values()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # mark as retrieved, as in Waiting.fail
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._command_producer is not None:
            self._command_producer.close()
        if self._reply_consumer is not None:
            self._reply_consumer.close()
        self._reader.close()
        self._ends.close()
        with self._offsets_lock:
            if self._committed is not None:
                self._committed.close()

    def _opened(self) -> tuple[ReplyConsumer, CommandProducer]:
        if self._is_closed:
            raise EngineUnavailable(CLOSED)
        if self._command_producer is None:
            self._command_producer = CommandProducer(self._clients, self._on_trouble)
        if self._reply_consumer is None or self._reply_consumer.has_failed:
            self._reply_consumer = ReplyConsumer(self._clients, self._deliver, self._on_trouble)
        return self._reply_consumer, self._command_producer

    def _deliver(self, replies: Sequence[AnyReply]) -> None:
        """Hand replies to the loop, all in one call."""
        others: list[AnyReply] = []
        for reply in replies:
            future = self._asked.get(reply.request_id)
            if future is None:
                others.append(reply)
            elif not future.done():
                future.set_result(reply)
        if others:
            self._trouble = ""
            self._waiting.resolve_from_thread(others)

    async def _ask_again(
        self,
        command: AwaitWorkflow,
        future: asyncio.Future[AnyReply],
        producer: CommandProducer,
        places: list[Place],
    ) -> None:
        """Repeat a request until it is answered; repeats get the same answer.

        Raises:
            EngineUnavailable: no engine takes the request.
        """
        untaken_s = 0.0
        while not (await asyncio.wait((future,), timeout=self._ask_again_s))[0]:
            is_taken: bool | None = bool(places) and await asyncio.to_thread(self._is_taken, places[-1])
            untaken_s = 0.0 if is_taken else untaken_s + self._ask_again_s
            if untaken_s >= self._abandoned_s:
                raise await asyncio.to_thread(self._unavailable, command, self._abandoned_s, places)
            if not untaken_s:
                places.clear()
                producer.send(command, places.append)

    # ---- why there is no answer

    def _unavailable(self, command: Request, timeout_s: float, places: Sequence[Place]) -> EngineUnavailable:
        if not places:
            return EngineUnavailable(self._no_answer(command, timeout_s))
        partition, offset = places[0]
        where = f"{self._clients.topic('commands')}, partition {partition}, offset {offset}"
        taken = self._is_taken(places[0])
        if taken is None:
            return EngineUnavailable(self._no_answer(command, timeout_s))
        if taken:
            return EngineUnavailable(
                f"the engine took {type(command).__name__} for {command.workflow_id!r} ({where}) but did "
                "not answer within "
                f"{timeout_s:g} s: it is busy or was restarted; see its log. It is safe to retry."
            )
        return EngineUnavailable(
            f"no engine has taken {type(command).__name__} for {command.workflow_id!r} ({where}) within "
            f"{timeout_s:g} s: start one with "
            f"`perdure engine APP --namespace {self._clients.namespace}`. The request is stored and will be "
            "processed then."
        )

    def _no_answer(self, command: Request, timeout_s: float) -> str:
        said = f" ({self._trouble})" if self._trouble else ""
        brokers = self._clients.settings.get("bootstrap.servers", "")
        return (
            f"{type(command).__name__} for {command.workflow_id!r} had no answer within {timeout_s:g} s "
            f"from Kafka at {brokers}{said}: see "
            "that it runs and is reachable, and that an engine runs. It is safe to retry."
        )

    def _is_taken(self, place: Place) -> bool | None:
        """Whether an engine has processed the command; None: unknown."""
        try:
            wanted = [TopicPartition(self._clients.topic("commands"), place[0])]
            found: Any = self._offsets().committed(wanted, timeout=POLL_INTERVAL_S)[0]
        except KafkaException as exception:
            self._trouble = in_words(error_of(exception))
            return None
        if found.error is not None:
            self._trouble = in_words(found.error)
            return None
        return bool(found.offset > place[1])

    def _offsets(self) -> Consumer:
        """Threads share it."""
        with self._offsets_lock:
            if self._committed is None:
                self._committed = self._clients.engine_offsets(self._on_trouble)
            return self._committed

    def _on_trouble(self, message: str) -> None:
        self._trouble = message
