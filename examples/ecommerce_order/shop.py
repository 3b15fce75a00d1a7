"""A web shop that is not ours: it has never heard of perdure. When somebody buys, it writes a
record, as it always did.

    python shop.py place --kafka 127.0.0.1:9092 --orders 20
        places orders, prints each that Kafka has; without --orders, until Ctrl-C
    python shop.py shipped --kafka 127.0.0.1:9092
        prints what was shipped, until Ctrl-C

Its producer has the settings that librdkafka comes with, so keys are where CRC32 puts them, and not
where a Java client would. Of ten orders one wants a unicorn, one goes to Atlantis, and one costs
more than the card has.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

PREFIX = os.environ.get("SHOP_TOPICS", "shop")
ORDERS, SHIPPED = f"{PREFIX}.orders", f"{PREFIX}.shipped"
GOODS = {"teapot": 2400, "cup": 650, "kettle": 8900, "saucer": 400}
CUSTOMERS = ("Ada", "Grace", "Barbara", "Katherine", "Margaret")


def bought(number: int) -> dict[str, Any]:
    """What somebody has put into the basket."""
    sku = random.choice([*GOODS])
    line = {"sku": sku, "quantity": random.randint(1, 3), "cents": GOODS[sku]}
    order: dict[str, Any] = {
        "order_id": f"order-{uuid.uuid4().hex[:12]}",
        "customer": random.choice(CUSTOMERS),
        "country": "Norway",
        "payment_key": uuid.uuid4().hex,
        "lines": [line],
        "placed_at": time.time(),
    }
    if number % 10 == 3:
        line["sku"] = "unicorn"
    elif number % 10 == 6:
        order["country"] = "Atlantis"
    elif number % 10 == 9:
        line |= {"sku": "samovar", "quantity": 2, "cents": 89900}
    return order


def place(kafka: str, count: int, rate: float) -> None:
    make_topics(kafka)
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})

    def told(error: KafkaError | None, record: Any) -> None:
        if error is not None:
            raise KafkaException(error)
        print(record.value().decode(), flush=True)

    stopping = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda _number, _frame: stopping.set())
    begun = time.monotonic()
    for number in range(count) if count else itertools.count():
        if stopping.wait(max(0.0, begun + (number + 1) / rate - time.monotonic())):
            break
        order = bought(number)
        producer.produce(ORDERS, json.dumps(order), order["order_id"], on_delivery=told)
        producer.poll(0)
    producer.flush()


def shipped(kafka: str) -> Iterator[dict[str, Any]]:
    make_topics(kafka)
    settings = {
        "group.id": f"{PREFIX}.mails",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    consumer = Consumer({"bootstrap.servers": kafka, **settings})
    consumer.subscribe([SHIPPED])
    try:
        while True:
            record = consumer.poll(1)
            if record is not None and record.error() is None:
                yield json.loads(record.value() or b"null")
    finally:
        consumer.close()


def make_topics(kafka: str) -> None:
    admin: Any = AdminClient({"bootstrap.servers": kafka})
    for made in admin.create_topics([NewTopic(topic, 6) for topic in (ORDERS, SHIPPED)]).values():
        try:
            made.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def main() -> None:
    parser = argparse.ArgumentParser(description="A web shop.")
    parser.add_argument("what", choices=["place", "shipped"])
    parser.add_argument("--kafka", default="127.0.0.1:9092")
    parser.add_argument("--orders", type=int, default=0, help="so many; by default until Ctrl-C")
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second")
    given = parser.parse_args()
    if given.what == "place":
        place(given.kafka, given.orders, given.rate)
        return
    with contextlib.suppress(KeyboardInterrupt):
        for each in shipped(given.kafka):
            print(json.dumps(each), flush=True)


if __name__ == "__main__":
    main()
