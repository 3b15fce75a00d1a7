"""An error of a question that a takeover asks is no sign of a stuck owner, and the question is
asked again (no Kafka needed)."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.engine.takeover import Takeover
from perdure.adapters.kafka.status import Status

STALE = KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH))
PENDING = KafkaException(KafkaError(KafkaError._TIMED_OUT))
MOVING = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


def answered(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


class Admin:
    """Its topics end at 5, or it cannot say."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self._trouble = trouble

    def list_offsets(self, asked: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        return {each: answered(self._trouble or SimpleNamespace(offset=5)) for each in asked}


class Reader:
    """Of committed offsets: 5, or an error until a fence."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[Any]:
        if self._clients.trouble is not None and not self._clients.fenced:
            raise self._clients.trouble
        return [
            SimpleNamespace(topic=each.topic, partition=each.partition, offset=5, error=None)
            for each in wanted
        ]

    def close(self) -> None: ...


class Owners:
    """A peer has committed last."""

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[Any]:
        return [
            SimpleNamespace(topic=each.topic, partition=each.partition, metadata="ns.peer", error=None)
            for each in wanted
        ]

    def close(self) -> None: ...


class Clients:
    """`EngineClients` of one engine; every admin after the first knows the leaders."""

    group = "ns.engine"
    transactional_id = "ns.me"

    def __init__(self, trouble: Exception | None = None, admins: list[Admin] | None = None) -> None:
        self.trouble = trouble
        self.fenced: list[str] = []
        self._admins = admins or [Admin()]

    def reader(self, _: Any) -> Reader:
        return Reader(self)

    def offsets(self, _: Any, group: str) -> Owners:
        return Owners()

    def admin(self, _: Any) -> Admin:
        return self._admins.pop(0) if len(self._admins) > 1 else self._admins[0]

    def producer(self, _: Any, owner: str) -> Any:
        def fence(timeout: float) -> None:
            self.fenced.append(owner)

        return SimpleNamespace(init_transactions=fence)


class Restorer:
    def open(self, partition: int, end: int) -> int:
        return end

    def restored(self, partition: int, end: int) -> int:
        return -1

    def close(self, partition: int) -> None: ...


def taken_over(clients: Clients) -> list[int]:
    """The partitions that a takeover of partition 0 has restored."""
    made: Any = clients
    layout: Any = SimpleNamespace(commands="ns.commands", events="ns.events")
    restorer: Any = Restorer()
    done: Future[None] = Future()
    takeover = Takeover(made, layout, restorer, status=Status(_unheard), wake=lambda: done.set_result(None))
    takeover.start()
    takeover.hand_over([], [(0, 1)])
    done.result(20)
    takeover.stop()
    return [each.partition for each in takeover.done()]


def test_an_admin_that_knows_only_an_old_leader_is_replaced_and_the_healthy_owner_is_not_fenced() -> None:
    clients = Clients(admins=[Admin(STALE), Admin()])
    assert taken_over(clients) == [0]
    assert clients.fenced == []


def test_an_owner_whose_offsets_stay_pending_is_fenced() -> None:
    clients = Clients(PENDING)
    assert taken_over(clients) == [0]
    assert clients.fenced == ["ns.peer"]


@pytest.mark.parametrize("trouble", [MOVING, STALE])
def test_a_request_to_a_moved_coordinator_is_repeated_and_no_owner_is_fenced(trouble: Exception) -> None:
    clients = Clients(trouble)
    made: Any = clients
    layout: Any = SimpleNamespace(commands="ns.commands", events="ns.events")
    restorer: Any = Restorer()
    takeover = Takeover(made, layout, restorer, status=Status(_unheard), wake=lambda: None)
    with pytest.raises(KafkaException) as raised:
        takeover._stable_offsets(made.reader(None), made.admin(None), [0])
    assert raised.value is trouble
    assert clients.fenced == []


def _unheard(_message: str, /, **_where: str | int) -> None:
    pass
