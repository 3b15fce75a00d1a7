"""Settings of librdkafka from outside: all that its documentation lists, except those that
exactly-once depends on.

Beside them, under names that librdkafka does not have, those of an optional schema registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from perdure.errors import UsageError

_OFFSETS: Final = "offsets are committed only in the engine's transactions"
_TRANSACTIONS: Final = "each engine has its own, which fences the previous one"
_BACKOFF: Final = "with the default, consecutive transactions take 100 ms instead of 5"
_GROUP: Final = (
    "partition ownership is decided by a group that perdure names and tunes; see the engine's settings"
)
_IDEMPOTENCE: Final = "without it, retries would lose or repeat records"

OURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "acks": _IDEMPOTENCE,
        "allow.auto.create.topics": "topics are created by `perdure topics apply`, with the partitions and "
        "replicas they need",
        "auto.commit.enable": _OFFSETS,
        "auto.commit.interval.ms": _OFFSETS,
        "auto.offset.reset": "a reader that skips or repeats records breaks histories",
        "client.id": "it names the engine in the broker's logs and metrics",
        "dr_cb": "a producer learns the outcome of a record by it",
        "dr_msg_cb": "a producer learns the outcome of a record by it",
        "enable.auto.commit": _OFFSETS,
        "enable.auto.offset.store": _OFFSETS,
        "enable.gapless.guarantee": _IDEMPOTENCE,
        "enable.idempotence": _IDEMPOTENCE,
        "enable.partition.eof": "a reload detects its end by it",
        "error_cb": "errors are shown in the engine's log and health",
        "group.id": _GROUP,
        "group.instance.id": _GROUP,
        "group.protocol": _GROUP,
        "group.remote.assignor": _GROUP,
        "heartbeat.interval.ms": _GROUP,
        "isolation.level": "records of aborted transactions must not be read",
        "logger": "librdkafka's log is part of the engine's",
        "max.in.flight": _IDEMPOTENCE,
        "max.in.flight.requests.per.connection": _IDEMPOTENCE,
        "max.poll.interval.ms": "a commit is repeated until its outcome is known, for minutes if need be",
        "message.send.max.retries": _IDEMPOTENCE,
        "on_commit": _OFFSETS,
        "partition.assignment.strategy": _GROUP,
        "partitioner": "keys must be partitioned as Java's clients do: murmur2",
        "partitioner_cb": "keys must be partitioned as Java's clients do: murmur2",
        "request.required.acks": _IDEMPOTENCE,
        "retries": _IDEMPOTENCE,
        "retry.backoff.max.ms": _BACKOFF,
        "retry.backoff.ms": _BACKOFF,
        "session.timeout.ms": _GROUP,
        "transaction.timeout.ms": _TRANSACTIONS,
        "transactional.id": _TRANSACTIONS,
    }
)
"""Settings that are refused, and why."""

REGISTRY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "schema.registry.url": "url",
        "schema.registry.username": "username",
        "schema.registry.password": "password",
        "schema.registry.ssl.ca.location": "ca",
        "schema.registry.ssl.certificate.location": "certificate",
        "schema.registry.ssl.key.location": "key",
    }
)
"""Settings of a schema registry, and what `registry.RegistryAddress` calls them."""
_OF_REGISTRY: Final = "schema.registry."


def checked(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings, if they may be set from outside.

    Args:
        settings: as in librdkafka's configuration reference: `bootstrap.servers`,
            `security.protocol`, `sasl.mechanisms`, `ssl.ca.location` …

    Raises:
        UsageError: some are ours; all of them are named, with the reasons. Or one is not a setting
            of a schema registry.
    """
    of_topics = settings.get("default.topic.config")
    names = [*settings, *(cast("Mapping[str, object]", of_topics) if isinstance(of_topics, Mapping) else ())]
    refused = {name: OURS[name] for name in names if name in OURS}
    if refused:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in sorted(refused.items()))
        raise UsageError(f"these Kafka settings are managed by perdure, remove them: {reasons}.")
    if unknown := sorted(name for name in settings if name.startswith(_OF_REGISTRY) and name not in REGISTRY):
        raise UsageError(f"unknown setting {unknown[0]}; schema registry settings: {', '.join(REGISTRY)}.")
    return dict(settings)


def of_librdkafka(settings: Mapping[str, object]) -> dict[str, object]:
    """Without those of a schema registry."""
    return {name: value for name, value in settings.items() if name not in REGISTRY}
