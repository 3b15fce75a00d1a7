"""The address of a namespace on Kafka:
`kafka://host:9092,other:9092/namespace?security.protocol=SASL_SSL`.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.namespace import topics
from perdure.adapters.kafka.settings import checked
from perdure.errors import UsageError

PREFIX: Final = "PERDURE_KAFKA_"
"""Of environment variables that are settings of librdkafka: `PERDURE_KAFKA_SASL_PASSWORD` is
`sasl.password`. What the address says counts for more; a password is better kept in the environment
than in an address.
"""


def settings_of_environment(environment: Any = os.environ) -> dict[str, str]:
    """The settings of librdkafka that the environment names."""
    return {
        name.removeprefix(PREFIX).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }


def parsed(url: str) -> tuple[str, dict[str, Any]]:
    """Parse an address into the namespace and the settings, including those of the environment.

    Raises:
        UsageError: it is invalid, or has a setting that is reserved for perdure.
    """
    parts = urlsplit(url)
    namespace = unquote(parts.path.strip("/"))
    if parts.scheme != "kafka" or not parts.netloc or not namespace:
        raise UsageError(
            f'invalid address {url!r}; write "kafka://localhost:9092/shop": brokers, then the namespace'
        )
    if "@" in parts.netloc:
        raise UsageError(
            "keep the password out of the address: set PERDURE_KAFKA_SASL_USERNAME and "
            "PERDURE_KAFKA_SASL_PASSWORD"
        )
    topics.name_of(namespace, topics.COMMANDS)
    try:
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise UsageError(f"the settings behind the '?' of {url!r} are not NAME=VALUE&NAME=VALUE") from None
    return namespace, checked({**settings_of_environment(), **given, "bootstrap.servers": parts.netloc})


def address_of(bootstrap: str, namespace: str, settings: dict[str, Any] | None = None) -> str:
    """The address for a namespace and settings, without secrets, which belong in the
    environment.
    """
    shown = {
        name: value
        for name, value in (settings or {}).items()
        if "password" not in name and "secret" not in name
    }
    return f"kafka://{bootstrap}/{quote(namespace)}" + (f"?{urlencode(shown)}" if shown else "")


def clients_of(url: str, name: str) -> PlainClients:
    """The Kafka clients for an address.

    Args:
        url: of the namespace.
        name: of this process, for the broker's logs.

    Raises:
        UsageError: the address is not understood.
    """
    namespace, settings = parsed(url)
    return PlainClients(namespace, name, settings)
