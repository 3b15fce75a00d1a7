from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaException

from perdure.adapters.kafka.settings import OURS, checked
from perdure.errors import UsageError

THEIRS = {
    "bootstrap.servers": "a:9092,b:9092",
    "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.username": "shop",
    "sasl.password": "secret",
    "ssl.ca.location": "/etc/ssl/ca.pem",
    "socket.keepalive.enable": True,
    "statistics.interval.ms": 1000,
}


def test_security_and_all_else_passes_through_unchanged() -> None:
    assert checked(THEIRS) == THEIRS


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_exactly_once_rests_on_is_refused_by_name_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked({**THEIRS, name: "x"})
    assert f"{name} ({OURS[name]})" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_refused_setting_is_named_in_one_error() -> None:
    with pytest.raises(UsageError, match=r"acks \(.*; group\.id \("):
        checked({"group.id": "x", "acks": "0"})


def test_a_setting_of_topics_is_found_where_it_hides() -> None:
    with pytest.raises(UsageError, match=r"partitioner \(keys must be partitioned"):
        checked({"default.topic.config": {"partitioner": "random"}})


@pytest.mark.parametrize(
    "name", sorted(set(OURS) - {"logger", "on_commit", "dr_cb", "error_cb", "dr_msg_cb", "partitioner_cb"})
)
def test_every_reserved_setting_is_known_to_librdkafka(name: str) -> None:
    fault = ""
    try:
        Consumer({"group.id": "g", name: "not a value"}).close()
    except KafkaException as error:
        fault = str(error)
    assert "No such configuration property" not in fault
