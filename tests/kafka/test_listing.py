"""The list of workflows from the compacted topic of states is that of every reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from perdure.adapters.kafka.client.transport import connect
from perdure.client.ports import Reader
from perdure.codec.avro import STATE
from tests.contract.listing_suite import ListingContract, many
from tests.kafka.namespace import Namespace


class TestListOfKafka(ListingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
        namespace = Namespace(kafka)
        for state in many():
            namespace.put(
                STATE.encode(state),
                state.workflow_id,
                namespace.place_of(state.workflow_id),
                [STATE.header],
                "state",
            )
        namespace.flush()
        transport = connect(f"kafka://{kafka}/{namespace.name}")
        yield transport.reader
        asyncio.run(transport.close())
        namespace.close()
