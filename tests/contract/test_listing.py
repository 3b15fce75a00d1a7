"""The list of workflows, on one machine; `tests/kafka` and `tests/postgres` have theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from perdure.client.address import transport_of
from perdure.client.listing import HIDDEN, ListQuery, Sort, end_of
from perdure.client.ports import Reader
from perdure.errors import RequestRefused
from tests.contract.listing_suite import ListingContract, many
from tests.contract.media import MEDIA, MemoryMedia
from tests.contract.samples import states
from tests.contract.served import served


def filled(medium: str, folder: pytest.TempPathFactory) -> Iterator[Reader]:
    media = MEDIA[medium](folder.mktemp(medium))
    media.node().open().write(states(*many()))
    yield media.reader()
    media.close()


class TestListOfMemory(ListingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        yield from filled("memory", tmp_path_factory)


class TestListOfSqlite(ListingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        yield from filled("sqlite", tmp_path_factory)


class TestListOverHttp(ListingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        media = MemoryMedia(tmp_path_factory.mktemp("http"))
        node = media.node().open()
        node.write(states(*many()))
        with served(media, node) as url:
            transport = transport_of(url)
            yield transport.reader
            asyncio.run(transport.close())
        media.close()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sort": "record; --"}, "must be one of started_at"),
        ({"order": "sideways"}, "must be one of newest"),
        ({"limit": 0}, "between 1 and 1000"),
        ({"limit": 1_001}, "between 1 and 1000"),
        ({"after": ("x", "w")}, "does not come from a list"),
        ({"after": (7, "w"), "sort": "workflow_id"}, "does not come from a list"),
        ({"after": (7,)}, "does not come from a list"),
        ({"after": (True, "w")}, "does not come from a list"),
        ({"id_prefix": "\udc80"}, "not valid Unicode"),
        ({"types": ("\udc80",)}, "not valid Unicode"),
        ({"attributes": (("a", "\udc80"),)}, "not valid Unicode"),
        ({"attributes": (("a", 2**64),)}, "64 bits"),
        ({"attributes": (("a", float("nan")),)}, "not a JSON number"),
        ({"started_after": 2**63}, "64 bits"),
    ],
)
def test_an_invalid_query_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        ListQuery(**fields)  # type: ignore[arg-type]


def test_what_follows_a_prefix_is_the_next_character_there_is() -> None:
    assert end_of("w-1") == "w-2"
    assert end_of("a\U0010ffff") == "b"
    assert end_of("\U0010ffff") is None
    assert end_of("") is None
    assert end_of("\ud7ff") == "\ue000"


@pytest.mark.parametrize("medium", ["memory", "sqlite"])
@pytest.mark.parametrize("sort", ["started_at", "updated_at", "workflow_id"])
def test_schedules_are_listed_only_by_their_type(medium: str, sort: Sort, tmp_path: Path) -> None:
    media = MEDIA[medium](tmp_path)
    first, *others = many()[:5]
    hidden = replace(first, workflow_id="schedule/a", type=HIDDEN)
    media.node().open().write(states(hidden, first, *others))
    reader = media.reader()
    for max_bytes in (0, 1_000_000):
        query = ListQuery(sort=sort, max_bytes=max_bytes)
        assert hidden.workflow_id not in {each.workflow_id for each in reader.list(query)}
        assert len(reader.list(query)) == 5
        assert reader.list(replace(query, types=(HIDDEN,))) == [hidden]
    media.close()
