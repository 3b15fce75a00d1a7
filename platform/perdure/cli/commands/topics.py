"""`perdure topics …`: create and verify the topics of a namespace on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.contract import ExitCode
from perdure.cli.options.kafka import KafkaOption, NamespaceOption, SettingOption
from perdure.cli.output import Wanted, print_json, print_table, say
from perdure.cli.tree import UntilStopped, group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.adapters.kafka.admin.admin import Topics
    from perdure.adapters.kafka.admin.plan import Plan

commands = group("Create and verify the topics of a namespace on Kafka.")

PartitionsOption = Annotated[
    int,
    typer.Option(
        min=0,
        show_default=False,
        help="Number of partitions of commands, events and state; can never change. 12 by default.",
    ),
]
ReplicationOption = Annotated[
    int,
    typer.Option(
        min=0,
        show_default=False,
        help="Replicas of every topic; 3 by default, or as many as there are brokers.",
    ),
]
QueueOption = Annotated[list[str] | None, typer.Option("--queue", help="Task queue; may be repeated.")]
OwnerOption = Annotated[
    str,
    typer.Option(
        help="Deployment that owns the topics. It is recorded; topics of another owner are rejected.",
        envvar="PERDURE_OWNER",
    ),
]


@commands.command()
def plan(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    partitions: PartitionsOption = 0,
    replication: ReplicationOption = 0,
    queue: QueueOption = None,
    owner: OwnerOption = "",
    settings: SettingOption = None,
) -> None:
    """Show what `apply` would do; exit code 1 when it would refuse."""
    topics = _topics(kafka, namespace, settings)
    made = topics.plan(partitions=partitions, replication=replication, queues=queue or (), owner=owner)
    _print(made)
    _refuse(made.faults)


@commands.command()
def apply(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    partitions: PartitionsOption = 0,
    replication: ReplicationOption = 0,
    queue: QueueOption = None,
    existing: Annotated[
        bool,
        typer.Option(
            "--existing",
            help="Create no topics (Strimzi or others do): verify them, and record what was found.",
        ),
    ] = False,
    owner: OwnerOption = "",
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Record --owner in place of another one. Stop that deployment first."
        ),
    ] = False,
    settings: SettingOption = None,
) -> None:
    """Make what is missing; refuses when something that is there differs, and never changes it."""
    if take_over and not owner:
        raise typer.BadParameter("name the new owner by --owner", param_hint="--take-over")
    topics = _topics(kafka, namespace, settings)
    made = topics.plan(
        partitions=partitions,
        replication=replication,
        queues=queue or (),
        owner=owner,
        is_taken_over=take_over,
    )
    if existing and made.missing:
        faults = [
            f"{name} does not exist yet; with --existing it is not created here" for name in made.missing
        ]
        say({"topics": _rows(made), "faults": faults})
        _refuse(faults)
    topics.apply(made)
    _print(made, done=True)


@commands.command()
def check(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    queue: QueueOption = None,
    owner: OwnerOption = "",
    settings: SettingOption = None,
) -> None:
    """Verify the topics; exit code 1 and a line for each thing that differs."""
    faults = _topics(kafka, namespace, settings).check(queue or (), owner)
    say({"namespace": namespace, "faults": faults})
    _refuse(faults)
    say(None, f"the topics of {namespace} are configured correctly")


@commands.command(cls=UntilStopped)
def mirror(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    to: Annotated[
        str,
        typer.Option(
            help="Bootstrap servers of the other Kafka, HOST:PORT,…",
            metavar="BOOTSTRAP",
            envvar="PERDURE_MIRROR",
        ),
    ],
    settings: SettingOption = None,
    to_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--to-set",
            help="A librdkafka setting for the other Kafka; may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Copy the records that exist now, then exit.")] = False,
) -> None:
    """Copy a namespace to another Kafka until it is stopped, so that engines can continue there if
    this one is lost.

    No process of the namespace may run on the other Kafka in the meantime.
    """
    from perdure.adapters.kafka.admin.mirroring import Mirror, Round
    from perdure.cli.lifecycle.signals import stop_on_signal
    from perdure.cli.options.kafka import place

    source, target = place(kafka, namespace, settings), place(to, namespace, to_settings)
    from perdure.engine.operator_log import to_stderr

    made = Mirror(namespace, source.settings, target.settings, report=to_stderr)
    rounds = 0

    def done(each: Round) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            typer.echo(
                f"mirrored {each.copied} records to {to} in {each.took_s:.1f} s"
                + ("" if once else "; continuing, Ctrl-C stops")
            )

    stop_on_signal(made.request_stop)
    made.run(once=once, done=done)


@commands.command()
def describe(namespace: NamespaceOption, queue: QueueOption = None) -> None:
    """Print the topics as an AsyncAPI document, in JSON, for who reads or writes them."""
    from perdure.adapters.kafka.admin.asyncapi import document

    print_json(document(namespace, queue or ("default",)))


def _topics(kafka: str, namespace: str, settings: list[str] | None) -> Topics:
    import logging

    from perdure.errors import UsageError

    try:
        from perdure.adapters.kafka.admin.admin import Topics
        from perdure.adapters.kafka.clients.address import settings_of_environment
    except ModuleNotFoundError as error:
        raise UsageError(f"Kafka needs the module {error.name}: pip install 'perdure[kafka]'") from None
    # librdkafka logs to stderr, but the relevant problems arrive as errors
    logging.getLogger("perdure.kafka.client").addHandler(logging.NullHandler())
    pairs = [setting.partition("=") for setting in settings or ()]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE", param_hint="--set")
    given = {name.strip(): value for name, _, value in pairs}
    return Topics(namespace, {**settings_of_environment(), **given, "bootstrap.servers": kafka})


def _print(plan: Plan, *, done: bool = False) -> None:
    rows = _rows(plan)
    if Wanted.json:
        print_json({"topics": rows, "faults": plan.faults})
        return
    news = {True: "created" if done else "to be created", False: "there"}
    print_table(
        ("TOPIC", "PARTITIONS", "REPLICAS", "CLEANUP", ""),
        [
            (
                each["name"],
                str(each["partitions"]),
                str(each["replicas"]),
                each["cleanup"],
                news[each["is_new"]],
            )
            for each in rows
        ],
    )


def _rows(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "name": wanted.name,
            "partitions": wanted.partitions,
            "replicas": wanted.replication,
            "cleanup": wanted.topic.cleanup,
            "is_new": wanted.name in plan.missing,
        }
        for wanted in plan.wanted
    ]


def _refuse(faults: Sequence[str]) -> None:
    """End with a line for each fault, if there are any."""
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(ExitCode.FAILED)
