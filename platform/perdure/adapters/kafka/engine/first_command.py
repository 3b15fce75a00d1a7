"""Finds a partition's first command for its new owner, from the committed offset and the
partition's events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of a partition's commands, as Kafka reports them.

    Attributes:
        committed: the committed offset; -1: none.
        low: the offset of the first command that is there.
        high: the offset after the last.
    """

    committed: int
    low: int
    high: int


NOTHING_KNOWN: Final = Bounds(-1, 0, 0)


def first_command(
    partition: int, bounds: Bounds, caused_by: int, *, layout: Layout, status: Status
) -> tuple[int, bool]:
    """The first command to hand out. Problems are reported to the operator.

    Args:
        partition: its number.
        bounds: of its commands.
        caused_by: the highest offset of a command that its events name; -1: none.
        layout: the topics.
        status: for reports and counts.

    Returns:
        The offset of the first command to hand out; and whether events were ahead of the committed
        offset, so that tasks have to be sent again.
    """
    offset = bounds.committed if bounds.committed >= 0 else bounds.low
    if offset < bounds.low:
        _report_deleted(partition, offset, bounds.low, layout, status)
        offset = bounds.low
    # Offset and events are committed in one transaction: events are ahead only of a transaction
    # that was split.
    is_ahead = caused_by >= offset
    if is_ahead and caused_by >= bounds.high:
        _report_recreated(partition, caused_by, bounds.high, layout, status)
        return offset, False
    if is_ahead:
        _report_split(partition, caused_by, offset, layout, status)
        status.counts.events_ahead += 1
        offset = caused_by + 1
    return offset, is_ahead


def _report_deleted(partition: int, offset: int, low: int, layout: Layout, status: Status) -> None:
    status.report(
        f"{layout.commands}, partition {partition}: the commands from offset {offset} to {low} were deleted "
        "before anybody took them. "
        "Give the topic a longer retention.",
        topic=layout.commands,
        partition=partition,
        offset=offset,
    )


def _report_recreated(partition: int, caused_by: int, high: int, layout: Layout, status: Status) -> None:
    status.report(
        f"ALARM: {layout.events}, partition {partition}, holds events of a command at offset {caused_by}, "
        f"where {layout.commands} ends "
        f"at {high}: the commands topic was created again. Its commands are processed from its current "
        "beginning.",
        topic=layout.events,
        partition=partition,
    )


def _report_split(partition: int, caused_by: int, offset: int, layout: Layout, status: Status) -> None:
    status.report(
        f"ALARM: {layout.events}, partition {partition}, is ahead of the committed offset {offset}: a "
        "transaction was split when an "
        f"engine and a broker died together. The commands up to {caused_by} are skipped, because they are "
        "in the history; tasks that have "
        "not ended are sent again under the same tokens.",
        topic=layout.events,
        partition=partition,
        offset=offset,
    )
