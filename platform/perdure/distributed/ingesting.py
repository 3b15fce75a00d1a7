"""An ingest on Kafka, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.ingest.ingest import Ingest
from perdure.adapters.kafka.status import Status
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.triggers.binding import Bindings

if TYPE_CHECKING:
    from perdure.distributed.options import Place
    from perdure.engine.operator_log import Report
    from perdure.model.payloads import AnyCodec
    from perdure.registry import Registry


def ingest_of(
    registry: Registry,
    place: Place,
    instance: str,
    report: Report,
    begin: str = "earliest",
    codec: AnyCodec | None = None,
) -> tuple[Ingest, Status]:
    """Create the ingest of an app's triggers, and the status of its clients.

    Args:
        registry: the app's.
        place: where the topics are.
        instance: its name; unique among running processes.
        report: receives messages for the operator.
        begin: `earliest` or `latest`: where to start a partition without committed offsets.
        codec: encrypts or compresses payloads; by default that of the registry's app.

    Raises:
        UsageError: the app has no triggers.
    """
    bindings = Bindings(registry, JsonPayloads.of(registry.app.plus(codec, ())))
    if not bindings.topics:
        raise UsageError("the app has no trigger: put @workflow.trigger(topic, …) on a run or a signal")
    clients = EngineClients(place.namespace, f"ingest.{instance}", place.settings)
    status = Status(report, is_away=clients.is_away)
    return Ingest(clients, bindings, status, begin=begin), status
