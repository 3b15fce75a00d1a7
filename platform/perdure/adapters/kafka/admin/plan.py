"""Plans `perdure topics`: compares the required, found and recorded topics. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.adapters.kafka.namespace.metadata import Made
from perdure.adapters.kafka.namespace.topics import (
    COMMANDS,
    DEFAULT_PARTITIONS,
    META,
    Setting,
    Topic,
    name_of,
    topics_of,
)
from perdure.model.options import DEFAULT_QUEUE

_TASKS = "tasks."


@dataclass(frozen=True, slots=True)
class Found:
    """A topic that exists.

    Attributes:
        id: Kafka's.
        partitions: their number.
        replication: of the partition that has the fewest replicas.
        configuration: by name.
    """

    id: str
    partitions: int
    replication: int
    configuration: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlannedTopic:
    """A topic as it should be."""

    topic: Topic
    name: str
    partitions: int
    replication: int
    configuration: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of `perdure topics apply`.

    Attributes:
        namespace: the prefix of the topics.
        replication: of every topic.
        wanted: all topics.
        missing: names of those to be made.
        faults: what differs and cannot be fixed here; with any, nothing is done.
        owner: to be recorded; empty: what is recorded stays.
    """

    namespace: str
    replication: int
    wanted: tuple[PlannedTopic, ...]
    missing: tuple[str, ...] = field(default=())
    faults: tuple[str, ...] = field(default=())
    owner: str = ""


def plan_of(
    namespace: str,
    found: Mapping[str, Found],
    made: Made | None,
    brokers: int,
    *,
    partitions: int = 0,
    replication: int = 0,
    queues: Sequence[str] = (),
) -> Plan:
    """Decide.

    Args:
        namespace: the prefix of the topics.
        found: by full name, every topic that exists among those that may be wanted.
        made: what is recorded; None: nothing.
        brokers: how many there are.
        partitions: of commands, events and state; 0: as recorded, or found, or the default.
        replication: 0: as recorded, or three, or as many as there are brokers.
        queues: besides those that are recorded.

    Raises:
        UsageError: a name cannot be part of a topic's.
    """
    recorded = made.topics if made else {}
    known_queues = [part.removeprefix(_TASKS) for part in recorded if part.startswith(_TASKS)]
    topics = topics_of([*known_queues, *queues] or [DEFAULT_QUEUE])
    commands = found.get(name_of(namespace, COMMANDS))
    kept = (
        recorded[COMMANDS.part].partitions
        if COMMANDS.part in recorded
        else commands.partitions
        if commands
        else 0
    )
    replicas = replication or (made.replication if made else 0) or min(3, brokers)
    wanted = tuple(
        _wanted(
            topic, name_of(namespace, topic), kept or partitions or DEFAULT_PARTITIONS, replicas, found, made
        )
        for topic in topics
    )
    missing = [each.name for each in wanted if each.name not in found]
    faults = list(_limits(partitions, kept, replicas, brokers, is_recorded=made is not None))
    for each in wanted:
        faults += _lost(each, made) if each.name in missing else differences(each, found[each.name], made)
    return Plan(namespace, replicas, wanted, tuple(missing), tuple(faults))


def _wanted(
    topic: Topic, name: str, partitions: int, replicas: int, found: Mapping[str, Found], made: Made | None
) -> PlannedTopic:
    if topic.partitions:
        recorded = made.topics.get(topic.part) if made else None
        there = found.get(name) if topic is not META else None
        partitions = recorded.partitions if recorded else there.partitions if there else topic.partitions
    in_sync = Setting("min.insync.replicas", "2" if replicas >= 3 else "1", is_minimum=True)
    return PlannedTopic(topic, name, partitions, replicas, (*topic.configuration, in_sync))


def _limits(partitions: int, kept: int, replicas: int, brokers: int, *, is_recorded: bool) -> Iterator[str]:
    if partitions and kept and partitions != kept:
        how = "recorded" if is_recorded else "found"
        yield (
            f"--partitions {partitions}: the number is fixed at {kept} ({how}), because with another one "
            "workflow ids would map to other partitions. "
            "Omit the option, or use another namespace"
        )
    if replicas > brokers:
        yield (
            f"{replicas} replicas need as many brokers, there are {brokers}: add brokers, or start with "
            f"--replication {brokers}"
        )


def _lost(wanted: PlannedTopic, made: Made | None) -> Iterator[str]:
    if made and wanted.topic.part in made.topics:
        yield (
            f"{wanted.name} is missing: it was created with {made.topics[wanted.topic.part].partitions} "
            "partitions and has been deleted. "
            "Restore it; or, to start over without its data, delete all topics of the namespace"
        )


def differences(wanted: PlannedTopic, found: Found, made: Made | None) -> Iterator[str]:
    """Differences between an existing topic and its required and recorded state, as text."""
    recorded = made.topics.get(wanted.topic.part) if made else None
    if found.partitions != wanted.partitions:
        yield (
            f"{wanted.name} has {found.partitions} partitions, not {wanted.partitions}"
            + (
                " as recorded when it was created: partitions must never be added, workflow ids would map "
                "to other partitions"
                if recorded
                else ""
            )
        )
    elif recorded and recorded.id != found.id:
        yield (
            f"{wanted.name} was deleted and created again (its id is {found.id}, recorded is "
            f"{recorded.id}): its data is lost"
        )
    if found.replication < wanted.replication:
        yield (
            f"{wanted.name} has {found.replication} replicas, not {wanted.replication}: "
            "kafka-reassign-partitions.sh adds some"
        )
    for setting in wanted.configuration:
        value = found.configuration.get(setting.name)
        if value is None or not setting.fits(value):
            least = "at least " if setting.is_minimum else ""
            yield (
                f"{wanted.name} has {setting.name}={value}, not {least}{setting.value}: kafka-configs.sh "
                "--alter sets it"
            )
