from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from queue import Queue

import pytest

from perdure.adapters.kafka.admin.admin import Topics
from perdure.adapters.kafka.reachability import Watch
from perdure.errors import InfrastructureError
from tests.kafka.broker import Cluster, running
from tests.kafka.conftest import entered

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
PROPERTIES = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": (
        f'{LOGIN} username="broker" password="of-broker" user_broker="of-broker" user_shop="of-shop";'
    ),
}
CLIENT = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanisms": "PLAIN",
    "sasl.username": "shop",
    "sasl.password": "of-shop",
}


@pytest.fixture(scope="module")
def secured() -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield entered(stack, running(properties=PROPERTIES, client=CLIENT))


def test_settings_of_security_reach_every_client(secured: Cluster) -> None:
    topics = Topics("shop", secured.client)
    topics.apply(topics.plan(partitions=1))
    assert topics.check() == []


def test_a_wrong_password_and_a_broker_that_is_down_give_different_errors(secured: Cluster) -> None:
    topics = Topics("shop", {**secured.client, "sasl.password": "guessed"}, answer_s=3)
    with pytest.raises(InfrastructureError, match="Authentication failed") as caught:
        topics.check()
    assert "guessed" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sasl.password": "guessed"}, "Authentication failed"),
        ({"sasl.password": "guessed"}, "check the user name and the password"),
        ({"security.protocol": "PLAINTEXT"}, "security.protocol"),
        ({"security.protocol": "SASL_SSL"}, "check security.protocol and the certificates"),
    ],
)
def test_a_refused_connection_is_reported_in_one_line_without_secrets(
    secured: Cluster, changed: dict[str, str], reason: str
) -> None:
    said: Queue[str] = Queue()
    Watch({**secured.client, **changed}, said.put).look()
    line = said.get(timeout=60)
    assert f"Kafka at {secured.bootstrap} cannot be reached: " in line
    assert reason in line
    assert "guessed" not in line
    assert "of-shop" not in line
