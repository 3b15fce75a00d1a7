"""Queries of workflow lists. `select` defines their result; every reader must return the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nlargest, nsmallest
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, get_args

from msgspec import Struct, json
from msgspec.structs import replace

from perdure.client.where import Scalar, holds, is_equal, parsed
from perdure.errors import RequestRefused, UsageError
from perdure.model.limits import is_unicode
from perdure.model.states import Status, WorkflowState

Sort: TypeAlias = Literal["started_at", "updated_at", "closed_at", "workflow_id"]
Order: TypeAlias = Literal["newest", "oldest"]
Key: TypeAlias = tuple[int | str, str]
"""A workflow's sort key, and its id."""

PAGE_LIMIT: Final = 1_000
HIDDEN: Final = "perdure.schedule"
"""The type of schedules: a list has them only if it asks for the type."""
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
STATUSES: Final[tuple[str, ...]] = tuple(map(str, Status))
MOMENTS: Final = tuple(
    f"{name}_{side}" for name in ("started", "closed", "updated") for side in ("after", "before")
)
"""The filters by time."""
_INT64: Final = range(-(2**63), 2**63)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ListOptions(TypedDict, total=False):
    """The filters of a list, as callers give them. A workflow must match all of them.

    Attributes:
        type: match this type, or one of these. Schedules (`perdure.schedule`) are listed only then.
        status: match this status, or one of these.
        id_prefix: match ids with this prefix.
        started_after: match times at or after this one. The same for `closed_after`, which leaves
            out open runs, and `updated_after`.
        started_before: match times before this one; likewise for the others.
        closed_after: see `started_after`.
        closed_before: see `started_before`.
        updated_after: see `started_after`.
        updated_before: see `started_before`.
        attributes: match these names and values.
        where: match a condition on attributes, such as `cents < 500 and city in ('Bari', 'Rome')`;
            see `perdure.client.where`.
        sort: the sort key, followed by the id; `started_at` by default.
        order: newest (or greatest) first, by default, or oldest.
        limit: the size of a page, at most 1000; 100 by default.
        after: the last workflow of the previous page.
    """

    type: str | Sequence[str] | None
    status: Status | str | Sequence[Status | str] | None
    id_prefix: str
    started_after: datetime | None
    started_before: datetime | None
    closed_after: datetime | None
    closed_before: datetime | None
    updated_after: datetime | None
    updated_before: datetime | None
    attributes: Mapping[str, Scalar] | None
    where: str
    sort: Sort
    order: Order
    limit: int
    after: WorkflowState | None


class ListQuery(Struct, frozen=True, kw_only=True):
    """A query for a page of workflows, each by its last run. A workflow must match all filters; the
    empty query matches every workflow, newest first. A list leaves out schedules unless `types`
    asks for them.

    Attributes:
        types: match one of these.
        statuses: match one of these.
        id_prefix: match ids with this prefix.
        started_after: at or after, microseconds.
        started_before: before, microseconds.
        closed_after: at or after, microseconds; open runs are left out. The same for
            `closed_before`.
        closed_before: before, microseconds.
        updated_after: at or after, microseconds.
        updated_before: before, microseconds.
        attributes: match these names and values, compared as JSON: 1 and 1.0 are equal, 1 and true
            are not.
        where: match this condition on attributes; see `perdure.client.where`.
        sort: the sort key, followed by the id in the same direction. Open runs count as closed in
            1970.
        order: newest, or the greatest, first; or the other way round.
        limit: the size of the page, 1 to 1000.
        max_bytes: the page ends with the state that exceeds this size; 0: no limit. See `is_cut`.
        after: the key of the last workflow of the previous page; see `key_of`.

    Raises:
        RequestRefused: the query is invalid; the message says why.
    """

    types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    id_prefix: str = ""
    started_after: int | None = None
    started_before: int | None = None
    closed_after: int | None = None
    closed_before: int | None = None
    updated_after: int | None = None
    updated_before: int | None = None
    attributes: tuple[tuple[str, Scalar], ...] = ()
    sort: Sort = "started_at"
    order: Order = "newest"
    limit: int = 100
    after: Key | None = None
    max_bytes: int = 0
    where: str = ""

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise RequestRefused(fault)

    @classmethod
    def of(cls, **options: Unpack[ListOptions]) -> ListQuery:
        """The query for `ListOptions`.

        Raises:
            UsageError: a time has no time zone.
            RequestRefused: an option is invalid.
        """
        given = dict[str, Any](options)
        after: WorkflowState | None = given.pop("after", None)
        fields: dict[str, Any] = {
            "types": _several(given.pop("type", None)),
            "statuses": _several(given.pop("status", None)),
            "attributes": tuple(dict[str, Scalar](given.pop("attributes", None) or {}).items()),
        }
        for name, value in given.items():
            fields[name] = _microseconds(value) if name in MOMENTS else value
        query = cls(**fields)
        return query if after is None else replace(query, after=query.key_of(after))

    @property
    def is_newest(self) -> bool:
        """Whether the list is in descending order."""
        return self.order == "newest"

    @property
    def has_filters(self) -> bool:
        """Whether the query has filters."""
        unfiltered = ListQuery(
            sort=self.sort, order=self.order, limit=self.limit, after=self.after, max_bytes=self.max_bytes
        )
        return self != unfiltered

    def key_of(self, state: WorkflowState) -> Key:
        """The workflow's sort key and id: `after` of the next page."""
        return getattr(state, self.sort), state.workflow_id

    def within(self, states: Iterable[WorkflowState]) -> list[WorkflowState]:
        """The first matching states that fit on the page, by number and by size; does not read
        further.
        """
        found: list[WorkflowState] = []
        size = 0
        for state in states:
            found.append(state)
            size += size_of(state)
            if len(found) >= self.limit or 0 < self.max_bytes < size:
                break
        return found

    def is_cut(self, page: Sequence[WorkflowState]) -> bool:
        """Whether another page may follow: this one is full, by number or by size."""
        return len(page) >= self.limit or 0 < self.max_bytes < sum(map(size_of, page))

    def is_after(self, key: Key) -> bool:
        """Whether a state comes after the previous page."""
        last: Any = self.after
        return last is None or (key < last if self.is_newest else key > last)

    def shows(self, state: WorkflowState) -> bool:
        """Whether a list has the state, if it matches the filters."""
        return state.type != HIDDEN or bool(self.types)

    def matches(self, state: WorkflowState) -> bool:
        """Whether a state matches the filters."""
        return (
            (not self.types or state.type in self.types)
            and (not self.statuses or str(state.status) in self.statuses)
            and self.has_rest(state)
        )

    def has_rest(self, state: WorkflowState) -> bool:
        """As `matches`, for a state whose type and status are known to match."""
        return (
            state.workflow_id.startswith(self.id_prefix)
            and _is_within(state.started_at, self.started_after, self.started_before)
            and _is_within(state.updated_at, self.updated_after, self.updated_before)
            and (
                (self.closed_after is None and self.closed_before is None)
                or (
                    bool(state.closed_at)
                    and _is_within(state.closed_at, self.closed_after, self.closed_before)
                )
            )
            and (not (self.attributes or self.where) or self._has_attributes(state.attributes))
        )

    def _has_attributes(self, encoded: bytes) -> bool:
        found: Any = json.decode(encoded) if encoded else {}
        if not all(name in found and is_equal(found[name], value) for name, value in self.attributes):
            return False
        return not self.where or holds(parsed(self.where), found)

    def _fault(self) -> str:
        if self.where:
            parsed(self.where)
        if self.sort not in SORTS:
            return f"invalid sort={self.sort!r}: must be one of {', '.join(SORTS)}"
        if self.order not in get_args(Order):
            return f"invalid order={self.order!r}: must be one of {', '.join(get_args(Order))}"
        if not 1 <= self.limit <= PAGE_LIMIT:
            return f"limit={self.limit} is not between 1 and {PAGE_LIMIT}; for the next page, pass after="
        if self.after is not None:
            wanted = str if self.sort == "workflow_id" else int
            if tuple(map(type, self.after)) != (wanted, str):
                return f"after={self.after!r} does not come from a list sorted by {self.sort}"
        for status in self.statuses:
            if status not in STATUSES:
                return f"invalid status={status!r}: must be one of {', '.join(STATUSES)}"
        texts = [
            *self.types,
            *self.statuses,
            self.id_prefix,
            *(part for pair in self.attributes for part in pair),
        ]
        texts += self.after or ()
        for text in texts:
            if isinstance(text, str) and not is_unicode(text):
                return f"{text!r} is not valid Unicode"
            if isinstance(text, int) and text not in _INT64:
                return f"{text} has more than 64 bits"
            if isinstance(text, float) and text - text:  # infinite, or no number
                return f"{text} is not a JSON number"
        moments = (getattr(self, name) for name in MOMENTS)
        if any(moment is not None and moment not in _INT64 for moment in moments):
            return "a time has more than 64 bits"
        return ""


def select(
    query: ListQuery, states: Iterable[WorkflowState], matches: Callable[[WorkflowState], bool]
) -> list[WorkflowState]:
    """The page of a query, from states in any order.

    Args:
        query: the query.
        states: all of them.
        matches: `query.matches`, or `query.has_rest` if types and statuses were checked.
    """
    key: Any = query.key_of
    wanted = (
        state
        for state in states
        if matches(state) and query.shows(state) and query.is_after(query.key_of(state))
    )
    return query.within((nlargest if query.is_newest else nsmallest)(query.limit, wanted, key=key))


def size_of(state: WorkflowState) -> int:
    """Bytes of the large parts of a state."""
    failure = state.failure
    return (
        len(state.view)
        + len(state.result)
        + len(state.attributes)
        + len(state.memo)
        + len(state.details)
        + (len(failure.fields) if failure is not None else 0)
    )


def count(states: Iterable[WorkflowState], query: ListQuery) -> dict[tuple[str, str], int]:
    """Number of matching workflows, by (type, status)."""
    found: dict[tuple[str, str], int] = {}
    for state in states:
        if query.matches(state):
            kind = (state.type, str(state.status))
            found[kind] = found.get(kind, 0) + 1
    return found


def end_of(prefix: str) -> str | None:
    """The least text that is greater than every text with the prefix; None when there is none."""
    for length in range(len(prefix), 0, -1):
        last = ord(prefix[length - 1])
        if last < 0x10FFFF:
            following = (
                0xE000 if last == 0xD7FF else last + 1
            )  # the code points between are surrogates, not characters
            return prefix[: length - 1] + chr(following)
    return None


def _several(given: str | Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (str(given),) if isinstance(given, str) else tuple(map(str, given))


def _microseconds(when: datetime | None) -> int | None:
    if when is None:
        return None
    if when.tzinfo is None:
        raise UsageError(f"{when!r} has no time zone; write datetime.now(UTC), or datetime(…, tzinfo=UTC)")
    # from 2038 on, a float of seconds is not exact to the microsecond
    return (when - _EPOCH) // timedelta(microseconds=1)


def _is_within(moment: int, after: int | None, before: int | None) -> bool:
    return (after is None or moment >= after) and (before is None or moment < before)
