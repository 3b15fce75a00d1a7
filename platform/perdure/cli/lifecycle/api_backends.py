"""Backends of the HTTP API: Kafka, the file of another process, or the platform of this process."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.adapters.sqlite.audit import SqliteAuditTrail
from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters
from perdure.adapters.sqlite.file import path_of
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.api.backend import Backend
from perdure.api.feeds import PollingFeed
from perdure.client.address import transport_of
from perdure.codec.payloads import JsonPayloads

if TYPE_CHECKING:
    from perdure.distributed import Place
    from perdure.embedded import Platform
    from perdure.ports.audit import AuditTrail
    from perdure.registry import Registry

ONE_MACHINE = "dev"
"""The namespace of a file."""


def on_kafka(where: Place, registry: Registry | None, postgres: str = "") -> tuple[Backend, AuditTrail]:
    """The backend of a namespace on Kafka, with its audit log; connects on first use.

    Args:
        where: the cluster and namespace.
        registry: validates arguments; None: the engines validate.
        postgres: the database to read from; empty: read from the topics.
    """
    from perdure.adapters.kafka.admin.audit import KafkaAuditTrail
    from perdure.adapters.kafka.admin.dead_letters import KafkaDeadLetters
    from perdure.adapters.kafka.admin.operations import KafkaOperations
    from perdure.adapters.kafka.client.state_feed import StateFeed
    from perdure.adapters.kafka.client.transport import KafkaTransport
    from perdure.adapters.kafka.clients.plain import PlainClients

    clients = PlainClients(where.namespace, "api", where.settings)
    reader = None
    if postgres:
        from perdure.adapters.postgres.reader import PostgresReader
        from perdure.cli.options.postgres import database_of

        reader = PostgresReader(database_of(postgres, where.namespace))
    backend = Backend(
        where.namespace,
        KafkaTransport(clients),
        StateFeed(clients),
        reader=reader,
        registry=registry,
        dead_letters=lambda: KafkaDeadLetters(where.namespace, where.settings),
        operations=KafkaOperations(clients),
        payloads=_payloads_of(registry),
    )
    return backend, KafkaAuditTrail(where.namespace, where.settings)


def on_file(url: str, registry: Registry | None) -> tuple[Backend, AuditTrail]:
    """The file of a `perdure dev` in another process.

    Raises:
        InfrastructureError: there is no such file.
    """
    path = path_of(url)
    feed = PollingFeed(SqliteReader(path))
    backend = Backend(
        ONE_MACHINE,
        transport_of(url),
        feed,
        reader=None,
        registry=registry,
        dead_letters=lambda: SqliteDeadLetters(url),
        payloads=_payloads_of(registry),
    )
    return backend, SqliteAuditTrail(path)


def in_process(platform: Platform, url: str, registry: Registry) -> tuple[Backend, AuditTrail]:
    """The platform in this process."""
    is_file = url.startswith("sqlite:")
    backend = Backend(
        ONE_MACHINE,
        platform.transport(),
        platform.state_feed(),
        reader=None,
        registry=registry,
        dead_letters=(lambda: SqliteDeadLetters(url)) if is_file else None,
        operations=OneMachine(platform, registry),
        payloads=_payloads_of(registry),
    )
    return backend, SqliteAuditTrail(path_of(url)) if is_file else MemoryAuditTrail()


def _payloads_of(registry: Registry | None) -> JsonPayloads:
    return JsonPayloads() if registry is None else JsonPayloads.of(registry.app)


class OneMachine:
    """Task queues and the one worker of a platform in this process.

    Args:
        platform: whose worker it is.
        registry: whose activities it runs.
    """

    def __init__(self, platform: Platform, registry: Registry) -> None:
        self._worker = platform.worker
        self._queues = sorted(
            {each.defaults.queue for each in registry.activities.values() if not each.is_local}
        )

    def queues(self) -> list[dict[str, Any]]:
        """Task queues, each with its unfinished tasks."""
        backlog = Counter(task.queue for task in self._worker.held)
        return [
            {"name": queue, "backlog": backlog[queue], "workers": 1}
            for queue in sorted({*self._queues, *backlog})
        ]

    def workers(self) -> list[dict[str, Any]]:
        """The only worker."""
        return [{"name": self._worker.name, "queues": self._queues, "host": socket.gethostname()}]
