"""The topics of a namespace: names, keys, schemas, and how Kafka must keep them. The one place that
says so.

No Kafka client here: `admin.py` creates and verifies them, `asyncapi.py` describes them to others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from perdure.errors import UsageError
from perdure.model.options import DEFAULT_QUEUE

DEFAULT_PARTITIONS: Final = 12
"""Of commands, events and state: as many engines can share the work, never more. Divisible by 2, 3,
4 and 6."""
RECORD_BYTES: Final = 17 * 1024 * 1024
"""The largest record a topic takes: above what our producers send."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_QUEUE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Setting:
    """A required setting of a topic.

    Attributes:
        name: as Kafka calls it.
        value: that the topic is created with.
        is_minimum: more is fine, and so is -1, no limit.
    """

    name: str
    value: str
    is_minimum: bool = False

    def fits(self, found: str) -> bool:
        """Whether an existing topic's setting is acceptable."""
        if self.is_minimum:
            return int(found) == -1 or int(found) >= int(self.value) > -1
        return set(found.split(",")) == set(self.value.split(","))


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the namespace.

    Attributes:
        part: what follows the namespace and a dot; of task topics with the queue.
        title: what its records are, for people.
        key: of its records, as text.
        schema: of its values; empty: JSON.
        partitions: 0: as many as the namespace's engines share (`--partitions`).
        cleanup: Kafka's cleanup policy.
        retention_ms: at least; of what is deleted by age.
        settings: besides.
        is_public: meant for other systems to write or read.
    """

    part: str
    title: str
    key: str
    _: KW_ONLY
    schema: str
    partitions: int
    cleanup: str
    retention_ms: int = 0
    settings: tuple[Setting, ...] = field(default=())
    is_public: bool = False

    @property
    def configuration(self) -> tuple[Setting, ...]:
        """Required configuration, except for what depends on the number of replicas."""
        kept = (
            (
                Setting("retention.ms", str(self.retention_ms), is_minimum=True),
                Setting("retention.bytes", "-1"),
            )
            if self.cleanup == "delete"
            else ()
        )
        return (
            Setting("cleanup.policy", self.cleanup),
            *kept,
            Setting("max.message.bytes", str(RECORD_BYTES), is_minimum=True),
            Setting("unclean.leader.election.enable", "false"),
            *self.settings,
        )


COMMANDS: Final = Topic(
    "commands",
    "All requests to workflows, including workers' results: the only input of the engines.",
    "workflow id",
    schema="commands",
    partitions=0,
    cleanup="delete",
    retention_ms=30 * _DAY_MS,
    is_public=True,
)
EVENTS: Final = Topic(
    "events",
    "The histories, run by run; the engines' stores are rebuilt from it. Tombstones at retention.",
    "workflow id/run id/first event id; on the partition of the workflow id",
    schema="events",
    partitions=0,
    cleanup="compact",
    settings=(Setting("delete.retention.ms", str(7 * _DAY_MS), is_minimum=True),),
    is_public=True,
)
STATE: Final = Topic(
    "state",
    "The state of every workflow, with its view: a table for anyone.",
    "workflow id",
    schema="state",
    partitions=0,
    cleanup="compact",
    is_public=True,
)
REPLIES: Final = Topic(
    "replies",
    "Replies to clients; each client tails one partition.",
    "the caller's address",
    schema="replies",
    partitions=4,
    cleanup="delete",
    retention_ms=_HOUR_MS,
    settings=(Setting("segment.ms", str(_HOUR_MS)),),
)
CANCELLATIONS: Final = Topic(
    "cancellations",
    "Attempts to cancel; every worker tails it.",
    "none",
    schema="cancellations",
    partitions=1,
    cleanup="delete",
    retention_ms=_HOUR_MS,
    settings=(Setting("segment.ms", str(_HOUR_MS)),),
)
DEAD_LETTERS: Final = Topic(
    "dead-letters",
    "Records that could not be processed, with the reason and the source.",
    "as found",
    schema="dead-letters",
    partitions=1,
    cleanup="delete",
    retention_ms=90 * _DAY_MS,
    is_public=True,
)
STREAMS: Final = Topic(
    "streams",
    "Values that runs give out while they run; their histories do not have them.",
    "workflow id",
    schema="streams",
    partitions=0,
    cleanup="delete",
    retention_ms=_DAY_MS,
    is_public=True,
)
INGEST: Final = Topic(
    "ingest",
    "Records of other systems, offered to the triggers again by `perdure dead-letters retry`.",
    "as found",
    schema="",
    partitions=1,
    cleanup="delete",
    retention_ms=30 * _DAY_MS,
)
AUDIT: Final = Topic(
    "audit",
    "Audit log of the HTTP API: who did what, when, and with what result.",
    "none",
    schema="",
    partitions=1,
    cleanup="delete",
    retention_ms=400 * _DAY_MS,
)
META: Final = Topic(
    "meta",
    "Facts about the namespace: partition counts, which never change, and the schemas in use.",
    "the fact's name",
    schema="",
    partitions=1,
    cleanup="compact",
)
FIXED: Final = (
    COMMANDS, EVENTS, STATE, REPLIES, CANCELLATIONS, DEAD_LETTERS, STREAMS, INGEST, AUDIT, META,
)  # fmt: skip
TASK_PARTITIONS: Final = 12


def tasks_of(queue: str) -> Topic:
    """The topic of a task queue.

    Raises:
        UsageError: the name cannot be part of a topic's.
    """
    if not _QUEUE.fullmatch(queue):
        raise UsageError(
            f"the task queue {queue!r} is not valid in a topic name: use up to 100 letters, digits, '.', "
            "'_' and '-'"
        )
    return Topic(
        f"tasks.{queue}",
        f"Tasks for the workers of the queue {queue}.",
        "none",
        schema="tasks",
        partitions=TASK_PARTITIONS,
        cleanup="delete",
        retention_ms=30 * _DAY_MS,
    )


def topics_of(queues: Sequence[str] = (DEFAULT_QUEUE,)) -> tuple[Topic, ...]:
    """All topics of a namespace.

    Args:
        queues: the task queues.
    """
    return (*FIXED, *(tasks_of(queue) for queue in sorted(set(queues))))


def name_of(namespace: str, topic: Topic) -> str:
    """The name of a topic.

    Raises:
        UsageError: the namespace cannot be part of it. A dot is refused, too: `a.tasks` would have
            topics that are queues of `a`.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            f"the namespace {namespace!r} must be letters, digits, '_' and '-', at most 100, no '.'"
        )
    return f"{namespace}.{topic.part}"
