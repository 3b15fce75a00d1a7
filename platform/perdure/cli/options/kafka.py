"""Options of the commands that run on Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from perdure.adapters.kafka.ingest.ingest import Ingest
    from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
    from perdure.engine.operator_log import Report
    from perdure.observability.observed import Observed
    from perdure.registry import Registry

KafkaOption = Annotated[
    str, typer.Option(help="Bootstrap servers, HOST:PORT,…", metavar="BOOTSTRAP", envvar="PERDURE_KAFKA")
]
KafkaInsteadOption = Annotated[
    str,
    typer.Option(
        help="Bootstrap servers, HOST:PORT,…, instead of a database.",
        metavar="BOOTSTRAP",
        envvar="PERDURE_KAFKA",
    ),
]
NamespaceOption = Annotated[
    str, typer.Option(help="Namespace: the prefix of the topics' names.", envvar="PERDURE_NAMESPACE")
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A librdkafka setting, such as security.protocol=SASL_SSL, or schema.registry.url; may be "
        "repeated. PERDURE_KAFKA_SASL_PASSWORD in the environment sets sasl.password.",
        metavar="NAME=VALUE",
    ),
]
InstanceOption = Annotated[
    str,
    typer.Option(
        help="Process name, unique among running processes. Host and process id by default.",
        envvar="PERDURE_INSTANCE",
    ),
]
StaticOption = Annotated[
    bool,
    typer.Option(
        "--static/--dynamic",
        help="Keep the partitions across a restart under the same --instance.",
        envvar="PERDURE_STATIC",
    ),
]
SessionOption = Annotated[
    int,
    typer.Option(
        help="Milliseconds without a heartbeat after which a process loses its partitions.",
        envvar="PERDURE_SESSION_TIMEOUT_MS",
        min=1_000,
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        help="On shutdown, seconds that running attempts get to complete.", envvar="PERDURE_GRACE", min=0
    ),
]
StateDirOption = Annotated[
    str,
    typer.Option(
        help="Directory of the engine's stores (a cache).", metavar="DIR", envvar="PERDURE_STATE_DIR"
    ),
]
QueueOption = Annotated[
    list[str] | None,
    typer.Option(
        "--queue", help="Task queue to serve; may be repeated. By default those of the app's activities."
    ),
]
OwnerOption = Annotated[
    str,
    typer.Option(
        help="This deployment's name: reject topics that belong to another owner (`perdure topics apply "
        "--owner`).",
        envvar="PERDURE_OWNER",
    ),
]
ConcurrencyOption = Annotated[
    int, typer.Option(help="Maximum number of concurrent attempts.", envvar="PERDURE_CONCURRENCY", min=1)
]


def place(kafka: str, namespace: str, settings: list[str] | None) -> Place:
    """The Kafka cluster and namespace of the options.

    Raises:
        UsageError: Kafka's client is not installed, a setting is reserved for perdure, or the
            namespace cannot be part of a topic's name.
    """
    from perdure.errors import UsageError

    try:
        from perdure.adapters.kafka.clients.address import settings_of_environment
        from perdure.adapters.kafka.namespace.topics import COMMANDS, name_of
        from perdure.adapters.kafka.settings import checked
        from perdure.distributed import Place
    except ModuleNotFoundError as error:
        raise UsageError(f"Kafka needs the module {error.name}: pip install 'perdure[kafka]'") from None
    pairs = [setting.partition("=") for setting in settings or ()]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE", param_hint="--set")
    name_of(namespace, COMMANDS)
    given: dict[str, Any] = {name.strip(): value for name, _, value in pairs}
    return Place(namespace, checked({**settings_of_environment(), **given, "bootstrap.servers": kafka}))


def see_owner(place: Place, owner: str) -> None:
    """Refuse topics of another owner: now or, if they cannot be read now, as soon as they can. The
    process then stops, and is not restarted.

    Args:
        place: the cluster and namespace.
        owner: this deployment's name; empty: nothing is checked.

    Raises:
        InfrastructureError: the topics belong to another owner.
    """
    if not owner:
        return
    import logging
    import os
    import signal

    from perdure.adapters.kafka.admin.owner import OwnerCheck

    def stop(fault: str) -> None:
        logging.getLogger("perdure").critical("stopping: %s", fault)
        os.kill(os.getpid(), signal.SIGTERM)

    check = OwnerCheck(place.namespace, place.settings, owner)
    if not check.is_settled():
        check.start(stop)


def url_of(place: Place) -> str:
    """The URL that clients connect to."""
    from perdure.adapters.kafka.clients.address import address_of

    settings = dict(place.settings)
    return address_of(settings.pop("bootstrap.servers"), place.namespace, settings)


def queues_of(registry: Registry, queues: list[str] | None) -> tuple[str, ...]:
    """The named queues, or those of the app's activities."""
    named = queues or [each.defaults.queue for each in registry.activities.values() if not each.is_local]
    return tuple(dict.fromkeys(named)) or ("default",)


@dataclass(frozen=True)
class OnKafka:
    """`serving.Running` on Kafka; with the triggers of the app, in `perdure dev`."""

    platform: KafkaPlatform
    ingest: Ingest | None = None

    @classmethod
    def of(
        cls,
        registry: Registry,
        place: Place,
        report: Report,
        engine: EngineOptions | None,
        worker: WorkerOptions | None,
    ) -> OnKafka:
        """Create the platform without starting it."""
        from perdure.distributed import KafkaPlatform

        return cls(KafkaPlatform(registry, place, engine=engine, worker=worker, report=report))

    def run_forever(self, ready: Any) -> None:
        """Serve until `request_stop`."""
        ingest = self.ingest
        if ingest is None:
            self.platform.run_forever(ready)
            return

        from perdure.threads import WatchedThread

        thread = WatchedThread(target=ingest.run, name="perdure-ingest")
        try:
            thread.start()
            self.platform.run_forever(ready)
        finally:
            ingest.request_stop()
            thread.join()

    def request_stop(self, grace_s: float) -> None:
        """Ask for a stop and return immediately."""
        self.platform.request_stop(grace_s)

    def observed(self) -> Observed:
        """The parts of the process that are monitored."""
        from perdure.observability.observed import Observed

        platform = self.platform
        return Observed(
            platform.engine,
            platform.worker,
            platform.steps,
            attempts=platform.attempts,
            kafka=platform.status,
            ingest=self.ingest,
        )
