"""What every reader promises of its list: the page that plain Python filters and sorts out of all
workflows."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace

from perdure.client import where
from perdure.client.listing import ListQuery, Order, Sort, size_of
from perdure.client.ports import Reader
from perdure.errors import RequestRefused
from perdure.model.states import UNPAUSE, Status, Wait, WorkflowState

SORTS: tuple[Sort, ...] = ("started_at", "updated_at", "closed_at", "workflow_id")
ATTRIBUTES = (
    b"",
    b"",
    b'{"city":"Bari","cents":3,"rush":true}',
    b'{"city":"Bari","cents":4.5,"rush":false}',
    b'{"city":"L\xc3\xbcbeck","note":null,"tags":["a","b"]}',
    b'{"city":"Roma","nested":{"city":"Bari"},"rush":1}',
)
HOSTILE = "'; DROP TABLE workflows; --"


def many() -> list[WorkflowState]:
    """Two hundred workflows of three types; starts, updates and ends coincide."""
    chance = random.Random(7)
    found: list[WorkflowState] = []
    for number in range(200):
        status = chance.choice(list(Status))
        started = 1 + chance.randrange(50)
        updated = started + chance.randrange(30)
        prefix = chance.choice(["w-", "w-1", "\u00fc/\U0001f355", "%2e%2e/"])
        found.append(
            WorkflowState(
                f"{prefix}{number:03}",
                f"run-{number}",
                chance.choice(["Order", "Refund", "\u00dcberweisung"]),
                status,
                started,
                updated,
                updated if status.is_closed else 0,
                2,
                b'{"n":1}',
                chance.choice(ATTRIBUTES),
                waits=(Wait(UNPAUSE, "ann", 0),) if status is Status.PAUSED else (),
            )
        )
    return found


def attributes_of(state: WorkflowState) -> dict[str, Any]:
    return json.decode(state.attributes) if state.attributes else {}


def has_city(state: WorkflowState) -> bool:
    return attributes_of(state).get("city") == "Bari"


CONDITIONS = (
    "city = 'Bari'",
    "city != 'Bari'",
    "not city = 'Bari'",
    "cents < 4",
    "cents <= 4.5",
    "cents > 3",
    "cents >= 3.0 and rush = true",
    "cents > 3 or city = 'Roma'",
    "rush = true",
    "rush = 1",
    "rush < 2",
    "rush in (true, 1.0)",
    "note = null",
    "note != null",
    "city in ('Bari', 'Roma')",
    "city < 'L'",
    "city >= 'L\u00fcbeck'",
    "city starts with 'L\u00fc'",
    "city starts with ''",
    "cents starts with '3'",
    "tags = 'a'",
    "nested = 'Bari' or tags != 'a'",
    "\"city\" = 'Bari' and not (cents = 3 or rush = true)",
    "city = 'Bari'' OR 1 = 1 --'",
    "\"'; DROP TABLE workflows; %s %(x)s --\" = 1 or city starts with '%'",
)


def having(text: str) -> Callable[[WorkflowState], bool]:
    condition = where.parsed(text)
    return lambda each: where.holds(condition, attributes_of(each))


JUST_BEFORE = next(each.workflow_id for each in many() if each.workflow_id.endswith("5"))[:-1] + "4"
"""A prefix, and what follows it is a workflow id."""
FILTERS: list[tuple[dict[str, Any], Callable[[WorkflowState], bool]]] = [
    ({"id_prefix": "w-1"}, lambda each: each.workflow_id.startswith("w-1")),
    ({"id_prefix": JUST_BEFORE}, lambda each: each.workflow_id.startswith(JUST_BEFORE)),
    ({"id_prefix": "w-1\U0010ffff"}, lambda each: False),
    ({"id_prefix": "\u00fc/\U0001f355"}, lambda each: each.workflow_id.startswith("\u00fc/\U0001f355")),
    ({"id_prefix": "%"}, lambda each: each.workflow_id.startswith("%")),
    ({"id_prefix": HOSTILE}, lambda each: False),
    ({"updated_after": 30, "updated_before": 60}, lambda each: 30 <= each.updated_at < 60),
    ({"closed_after": 0}, lambda each: each.closed_at > 0),
    ({"closed_before": 40}, lambda each: 0 < each.closed_at < 40),
    ({"attributes": (("city", "Bari"),)}, has_city),
    *(({"where": text}, having(text)) for text in CONDITIONS),
    (
        {"attributes": (("city", "L\u00fcbeck"),)},
        lambda each: attributes_of(each).get("city") == "L\u00fcbeck",
    ),
    ({"attributes": (("rush", True),)}, lambda each: attributes_of(each).get("rush") is True),
    ({"attributes": (("rush", 1),)}, lambda each: type(attributes_of(each).get("rush")) is int),
    ({"attributes": (("cents", 3.0), ("city", "Bari"))}, lambda each: attributes_of(each).get("cents") == 3),
    ({"attributes": (("note", None),)}, lambda each: "note" in attributes_of(each)),
    ({"attributes": (("tags", "a"),)}, lambda each: False),
    ({"attributes": (('it\'s"a"}', HOSTILE),)}, lambda each: False),
    ({"attributes": (("nul", "\0"),)}, lambda each: False),
    ({"types": ("Order", HOSTILE)}, lambda each: each.type == "Order"),
    ({"types": ("Ord\0er",)}, lambda each: False),
    (
        {"statuses": ("completed", "running"), "attributes": (("city", "Bari"),)},
        lambda each: each.status in {"completed", "running"} and has_city(each),
    ),
]


def pages(reader: Reader, query: ListQuery) -> list[WorkflowState]:
    """All of them."""
    found: list[WorkflowState] = []
    while page := reader.list(query):
        assert len(page) <= query.limit
        found += page
        query = replace(query, after=query.key_of(page[-1]))
    return found


def ids(found: list[WorkflowState]) -> list[str]:
    return [each.workflow_id for each in found]


class ListingContract(ABC):
    """A suite: a subclass says what a reader of these workflows is."""

    @pytest.fixture(scope="class")
    @classmethod
    @abstractmethod
    def reader(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        """Of `many()`; closed afterwards."""

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    @pytest.mark.parametrize("sort", SORTS)
    def test_the_list_is_in_order(self, reader: Reader, sort: Sort, order: Order) -> None:
        query = ListQuery(sort=sort, order=order, limit=1_000)
        assert reader.list(query) == sorted(many(), key=query.key_of, reverse=order == "newest")

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    def test_kinds_and_spans_give_what_a_plain_filter_gives(self, reader: Reader, order: Order) -> None:
        types: tuple[tuple[str, ...], ...] = ((), ("Order",), ("Order", "\u00dcberweisung"), ("Unheard",))
        statuses: tuple[tuple[str, ...], ...] = ((), ("running",), ("failed", "running", "timed_out"))
        spans = ((None, None), (10, None), (None, 40), (10, 40))
        for kinds, wanted, (since, until) in product(types, statuses, spans):
            query = ListQuery(
                types=kinds, statuses=wanted, started_after=since, started_before=until, order=order, limit=30
            )
            expected = [
                each
                for each in sorted(many(), key=query.key_of, reverse=order == "newest")
                if (not kinds or each.type in kinds)
                and (not wanted or str(each.status) in wanted)
                and (since is None or each.started_at >= since)
                and (until is None or each.started_at < until)
            ]
            assert ids(pages(reader, query)) == ids(expected), query
            assert sum(reader.counts(query).values()) == len(expected), query

    @pytest.mark.parametrize("sort", SORTS)
    def test_every_filter_with_every_sort_gives_what_a_plain_filter_gives(
        self, reader: Reader, sort: Sort
    ) -> None:
        for number, (fields, holds) in enumerate(FILTERS):
            query = ListQuery(**fields, sort=sort, order="oldest" if number % 2 else "newest", limit=25)
            expected = sorted(filter(holds, many()), key=query.key_of, reverse=query.is_newest)
            assert ids(pages(reader, query)) == ids(expected), query
            assert sum(reader.counts(query).values()) == len(expected), query

    @pytest.mark.parametrize("sort", SORTS)
    def test_pages_of_a_size_join_to_the_list_and_none_is_larger_by_more_than_its_last_one(
        self, reader: Reader, sort: Sort
    ) -> None:
        query = ListQuery(sort=sort, max_bytes=150, limit=1_000)
        found: list[WorkflowState] = []
        is_cut = True
        while is_cut:
            page = reader.list(query)
            assert sum(map(size_of, page[:-1])) <= query.max_bytes
            found += page
            is_cut = query.is_cut(page)
            query = replace(query, after=query.key_of(page[-1]) if page else query.after)
        assert ids(found) == ids(sorted(many(), key=query.key_of, reverse=True))

    def test_a_status_that_does_not_exist_is_refused_with_those_that_do(self) -> None:
        with pytest.raises(RequestRefused, match=r"'canceled': must be one of running, .*cancelled"):
            ListQuery(statuses=("running", "canceled"))

    def test_counts_are_by_type_and_status(self, reader: Reader) -> None:
        expected: dict[tuple[str, str], int] = {}
        for each in many():
            expected[each.type, str(each.status)] = expected.get((each.type, str(each.status)), 0) + 1
        assert reader.counts() == expected
        assert reader.counts(ListQuery(types=("Order",))) == {
            kind: n for kind, n in expected.items() if kind[0] == "Order"
        }
