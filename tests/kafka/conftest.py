"""A Kafka for the tests of this folder: `kafka` one broker a session, `kafka_cluster` three of our
own that a test may hurt.

Without one, tests are skipped with the reason; with PERDURE_REQUIRE_KAFKA=1 they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.kafka.broker import Cluster, any_kafka, running
from tests.kafka.distribution import KafkaUnavailable
from tests.kafka.namespace import Namespace
from tests.postgres.fixtures import postgres, postgres_server

__all__ = ["postgres", "postgres_server"]


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The address that clients connect to."""
    with ExitStack() as stack:
        yield entered(stack, any_kafka()).bootstrap


@pytest.fixture(scope="module")
def kafka_cluster() -> Iterator[Cluster]:
    """Three brokers, three replicas, min.insync.replicas 2."""
    with ExitStack() as stack:
        yield entered(stack, running(3))


@pytest.fixture
def namespace(kafka: str) -> Iterator[Namespace]:
    """Fresh topics."""
    namespace = Namespace(kafka)
    yield namespace
    namespace.close()


def entered(stack: ExitStack, kafka: AbstractContextManager[Cluster]) -> Cluster:
    try:
        return stack.enter_context(kafka)
    except KafkaUnavailable as reason:
        if os.environ.get("PERDURE_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(f"no Kafka: {reason}")
