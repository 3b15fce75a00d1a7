"""The state of every order as a table, kept by a program that knows Kafka and Avro, and nothing of
perdure.

    python table.py --kafka 127.0.0.1:9092 --namespace fulfilment

`<namespace>.state` is compacted: its last record for a key is the workflow's state, and none says
that it was deleted. Each record names its schema in a header, and the schema is in
`<namespace>.meta`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from typing import Any

import fastavro as _fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

fastavro: Any = _fastavro  # its types are loose
END: Any = KafkaError._PARTITION_EOF  # noqa: SLF001 - so named by the client


def records(kafka: str, topic: str) -> Iterator[Any]:
    """All there are now."""
    settings = {
        "group.id": "a-table",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    consumer = Consumer({"bootstrap.servers": kafka, **settings})
    try:
        partitions = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        open_ = len(partitions)
        while open_:
            record: Any = consumer.poll(30)
            if record is None:
                raise TimeoutError(f"{topic} cannot be read")
            if record.error() is None:
                yield record
            elif record.error().code() == END:
                open_ -= 1
            else:
                raise KafkaException(record.error())
    finally:
        consumer.close()


def table(kafka: str, namespace: str) -> dict[str, dict[str, Any]]:
    """Every workflow's state, by its id."""
    facts = {record.key().decode(): record.value() for record in records(kafka, f"{namespace}.meta")}
    schemas: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    for record in records(kafka, f"{namespace}.state"):
        key, value = record.key().decode(), record.value()
        if value is None:
            found.pop(key, None)
            continue
        name, _, framed = dict(record.headers())["perdure-schema"].decode().partition("/confluent")
        if name not in schemas:
            schemas[name] = fastavro.parse_schema(json.loads(facts[f"schema/{name}"]))
        source = io.BytesIO(value[5:] if framed else value)
        found[key] = fastavro.schemaless_reader(source, schemas[name], None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Every order, and where it is.")
    parser.add_argument("--kafka", default="127.0.0.1:9092")
    parser.add_argument("--namespace", default="fulfilment")
    given = parser.parse_args()
    for order, state in sorted(table(given.kafka, given.namespace).items()):
        view = json.loads(state["view"] or b'{"state": "not begun", "problem": null}')
        print(order, state["status"], state["updated_at"].isoformat(), view["state"], view["problem"] or "")


if __name__ == "__main__":
    main()
