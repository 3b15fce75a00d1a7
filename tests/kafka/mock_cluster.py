"""librdkafka's mock cluster, which is in the wheel: brokers in this process that answer with the
errors they are set to."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import confluent_kafka
from confluent_kafka import KafkaError

PRODUCER = 0


class Api(IntEnum):
    """Requests, by their number in Kafka's protocol."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


def library() -> Any:
    folder = Path(confluent_kafka.__file__).parent
    found = sorted(
        [*folder.parent.glob("confluent_kafka.libs/librdkafka*"), *folder.glob(".dylibs/librdkafka*")]
    )
    assert found, "the wheel holds a librdkafka"
    loaded = ctypes.CDLL(str(found[0]))
    for name, result, arguments in (
        ("rd_kafka_conf_new", ctypes.c_void_p, []),
        (
            "rd_kafka_conf_set",
            ctypes.c_int,
            [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
        ),
        ("rd_kafka_new", ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_mock_cluster_new", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [ctypes.c_void_p]),
        ("rd_kafka_mock_cluster_destroy", None, [ctypes.c_void_p]),
        ("rd_kafka_mock_clear_request_errors", None, [ctypes.c_void_p, ctypes.c_int16]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
        (
            "rd_kafka_mock_topic_create",
            ctypes.c_int,
            [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
        ),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
        ("rd_kafka_destroy", None, [ctypes.c_void_p]),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class MockCluster:
    """Brokers that keep nothing, on loopback ports."""

    def __init__(self, brokers: int = 1) -> None:
        self._library = library()
        message = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        assert self._library.rd_kafka_conf_set(conf, b"log_level", b"0", message, len(message)) == 0, (
            message.value
        )
        self._client = self._library.rd_kafka_new(PRODUCER, conf, message, len(message))
        assert self._client, message.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        self._brokers = range(1, brokers + 1)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        assert (
            self._library.rd_kafka_mock_topic_create(
                self._cluster, name.encode(), partitions, len(self._brokers)
            )
            == 0
        )

    def answer(self, api: Api, *errors: str) -> None:
        """The next requests of this kind get these errors, by `KafkaError`'s names."""
        codes = [getattr(KafkaError, name) for name in errors]
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, api, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def answer_as_usual(self, api: Api) -> None:
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, api)

    def set_down(self) -> None:
        for broker in self._brokers:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def set_up(self) -> None:
        for broker in self._brokers:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)
