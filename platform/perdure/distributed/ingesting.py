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
    from perdure.codec.payloads import PayloadCodec
    from perdure.distributed.options import Place
    from perdure.engine.operator_log import Report
    from perdure.registry import Registry


def ingest_of(
    registry: Registry, place: Place, instance: str, report: Report, begin: str = "earliest", codec: PayloadCodec | None = None
) -> tuple[Ingest, Status]:
    """An ingest of an app's triggers, and how its clients are doing.

    Args:
        registry: the app's.
        place: where the topics are.
        instance: its name; no two that run at once have the same.
        report: told in words what an operator should know.
        begin: `earliest` or `latest`: where a partition begins that nobody has read yet.
        codec: encrypts or compresses payloads.

    Raises:
        UsageError: the app has no triggers.
    """
    bindings = Bindings(registry, JsonPayloads(codec=codec))
    if not bindings.topics:
        raise UsageError("the app has no trigger: put @workflow.trigger(topic, …) above a run or a signal")
    clients = EngineClients(place.namespace, f"ingest.{instance}", place.settings)
    status = Status(report, is_away=clients.is_away)
    return Ingest(clients, bindings, status, begin=begin), status
