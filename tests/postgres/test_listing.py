"""The list of workflows on PostgreSQL is that of every reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from perdure.adapters.postgres.reader import PostgresReader
from perdure.client.listing import HIDDEN, ListQuery
from perdure.client.ports import Reader
from tests.contract.listing_suite import SORTS, ListingContract, many
from tests.postgres.tables import fresh, page, writer


class TestListOfPostgres(ListingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        database = fresh(postgres)
        with writer(database) as made:
            made.write(page(many()), lambda partition: 0)
        reader = PostgresReader(database)
        yield reader
        reader.close()


def test_schedules_are_listed_only_by_their_type(postgres: str) -> None:
    database = fresh(postgres)
    first, *others = many()[:5]
    hidden = replace(first, workflow_id="schedule/a", type=HIDDEN)
    with writer(database) as made:
        made.write(page([hidden, first, *others]), lambda partition: 0)
    reader = PostgresReader(database)
    for sort in SORTS:
        assert len(reader.list(ListQuery(sort=sort))) == 5
        assert reader.list(ListQuery(sort=sort, types=(HIDDEN,))) == [hidden]
    reader.close()
