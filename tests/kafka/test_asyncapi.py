from __future__ import annotations

import yaml
from fastavro import parse_schema

from perdure.adapters.kafka.admin.asyncapi import document
from perdure.adapters.kafka.namespace.topics import topics_of
from perdure.codec.avro import WIRES
from perdure.codec.frames import FRAMED
from tests.kafka.asyncapi import TARGET, rendered


def test_the_document_in_docs_is_that_of_the_registry() -> None:
    assert TARGET.read_text() == rendered(), "python -m tests.kafka.asyncapi"


def test_every_topic_is_a_channel_and_every_reference_leads_somewhere() -> None:
    made = document("shop", ["default", "gpu"])
    assert {channel["address"] for channel in made["channels"].values()} == {
        f"shop.{t.part}" for t in topics_of(["default", "gpu"])
    }
    for channel in made["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in made["components"]["messages"]
    for operation in made["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in made["channels"]


def test_a_message_carries_the_schema_that_is_written_and_its_header() -> None:
    messages = yaml.safe_load(rendered())["components"]["messages"]
    for name, wire in WIRES.items():
        parse_schema(messages[name]["payload"]["schema"])
        assert messages[name]["payload"]["schema"] == wire.schema.parsed()
        plain, framed = messages[name]["headers"]["properties"][wire.header[0]]["enum"]
        assert (plain.encode(), framed.encode()) == (wire.header[1], wire.header[1] + FRAMED)
