"""The list of workflows on PostgreSQL is that of every reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.adapters.postgres.reader import PostgresReader
from perdure.client.ports import Reader
from tests.contract.listing_suite import ListingContract, many
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
