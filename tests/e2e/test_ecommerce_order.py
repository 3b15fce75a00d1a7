"""The e-commerce order on real Kafka and PostgreSQL: each process is killed in turn while a shop
sells, and every record is counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from ecommerce_order.table import records, table

from perdure.adapters.postgres.database import Database
from tests.e2e.conftest import ROOT, free_port, until
from tests.postgres.fixtures import postgres

__all__ = ["postgres"]

SHOP = ROOT / "examples" / "ecommerce_order" / "shop.py"
APP = "examples/ecommerce_order/app.py"
RATE = 12.0
PROCESSES = ("engine", "worker", "ingest", "projector", "api")
PATIENCE_S = 60.0
KILLED = (("engine",), ("worker",), ("ingest", "projector"), ("api",))
"""One after the other. The two whose partitions are free after six seconds only are waited for
together."""
BAD = {"undecodable": 2, "tombstone": 1, "bad_id": 1}


class Company:
    """All processes, and what they leave."""

    def __init__(self, kafka: str, dsn: str, folder: Path) -> None:
        self.kafka = kafka
        self.database = Database(dsn, f"fulfil{uuid4().hex[:8]}")
        self.namespace = self.database.schema
        self.prefix = f"shop{uuid4().hex[:8]}"
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1"
        self.environment = {
            **os.environ,
            "SHOP_TOPICS": self.prefix,
            "SHOP_LEDGER": str(folder / "ledger"),
            "SHOP_FAILURE_RATE": "0.2",
            "PERDURE_POSTGRES": dsn,
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: str) -> None:
        """To its end."""
        done = subprocess.run(
            self._command(*command),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str) -> None:
        options = {
            "engine": [APP, "--state-dir", str(self.folder / "state"), "--instance", "one", "--static"],
            "worker": [APP, "--instance", "one", "--static"],
            "ingest": [APP, "--instance", "one"],
            "projector": [APP],
            "api": ["--insecure", "--port", str(self.port)],
        }[name]
        with (self.folder / name).open("ab") as output:
            self._running[name] = subprocess.Popen(
                self._command(name, *options), cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )

    def kill(self, name: str) -> None:
        """SIGKILL, and its end."""
        process = self._running.pop(name)
        assert process.poll() is None, f"{name} has ended by itself:\n{self.said(name)}"
        process.kill()
        process.wait(20)

    def shop(self) -> subprocess.Popen[bytes]:
        """It sells, and writes down what Kafka has."""
        command = [sys.executable, str(SHOP), "place", "--kafka", self.kafka, "--rate", str(RATE)]
        with (self.folder / "sold").open("ab") as output:
            self._running["shop"] = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=output)
        return self._running["shop"]

    def sold(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "sold").read_text().splitlines()]

    def put(self, value: bytes | None, key: str) -> None:
        """A record of the shop's topic."""
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(f"{self.prefix}.orders", value, key)
        assert producer.flush(20) == 0

    def said(self, *names: str) -> str:
        """The end of what processes printed, for a failure's message."""
        return "\n".join(
            f"{name}:\n{(self.folder / name).read_text()[-1500:]}" for name in names or PROCESSES
        )

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        with suppress(OSError):
            return bool(self.get("/workflows/counts") is not None)
        return False

    def ledger(self, what: str) -> dict[str, set[str]]:
        """By order, the keys that it was asked for under."""
        found: dict[str, set[str]] = {}
        for line in (self.folder / "ledger").read_text().splitlines():
            entry = json.loads(line)
            if entry["what"] == what:
                found.setdefault(entry["order"], set()).add(entry["key"])
        return found

    def rows(self, text: str) -> list[Any]:
        """Of SQL, `{s}` the schema; none while there is no such table."""
        with suppress(psycopg.errors.UndefinedTable), self.database.connect() as connection:
            return connection.execute(self.database.sql(text)).fetchall()
        return []

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def _command(self, *command: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "perdure.cli",
            *command,
            "--kafka",
            self.kafka,
            "--namespace",
            self.namespace,
        ]


@pytest.fixture
def company(kafka_of_kitchens: str, postgres: str, tmp_path: Path) -> Iterator[Company]:
    """Not started yet; whatever runs at the end is killed."""
    made = Company(kafka_of_kitchens, postgres, tmp_path)
    yield made
    made.close()


class Reader:
    """Somebody who counts the records of shipped orders, as they come."""

    def __init__(self, company: Company) -> None:
        self.orders: list[str] = []
        self._topic = f"{company.prefix}.shipped"
        self._kafka = company.kafka
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        settings = {
            "group.id": self._topic,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
        consumer = Consumer(
            {"bootstrap.servers": self._kafka, "topic.metadata.refresh.interval.ms": 500, **settings}
        )
        consumer.subscribe([self._topic])
        while not self._stopping.is_set():
            record = consumer.poll(0.1)
            if record is not None and record.error() is None:
                self.orders.append(json.loads(record.value() or b"null")["order_id"])
        consumer.close()


class Watcher:
    """Somebody who watches all orders over HTTP, and returns where they were when the server is
    gone."""

    def __init__(self, company: Company) -> None:
        self.states: dict[str, str] = {}
        self.connections = 0
        self._url = f"{company.url}/workflows/events?type=Order"
        self._last = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                self._watch()
            self._stopping.wait(0.1)

    def _watch(self) -> None:
        request = urllib.request.Request(
            self._url, headers={"Last-Event-ID": self._last} if self._last else {}
        )
        with urllib.request.urlopen(request, timeout=1) as stream:
            self.connections += 1
            for line in stream:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    self._last = value
                elif name == "data":
                    state = json.loads(value)
                    if view := state.get("view"):
                        self.states[state["id"]] = view["state"]
                if self._stopping.is_set():
                    return


def step_that_refuses(order: dict[str, Any]) -> str:
    """By the rules of the world; empty: none does."""
    if any(line["sku"] == "unicorn" for line in order["lines"]):
        return "reserve"
    if sum(line["quantity"] * line["cents"] for line in order["lines"]) > 1000_00:
        return "charge"
    return "ship" if order["country"] == "Atlantis" else ""


def test_every_order_is_shipped_or_undone_once_though_each_process_is_killed(company: Company) -> None:
    company.run("topics", "apply", "--partitions", "4")
    for name in PROCESSES:
        company.start(name)
    until(company.is_ready, "the API answers", PATIENCE_S)
    watcher, shop = Watcher(company), company.shop()
    reader = Reader(company)
    try:
        until(lambda: reader.orders, "an order is shipped", PATIENCE_S)
        sell_badly(company)
        connections = watcher.connections
        for names in KILLED:
            before, connections = len(company.sold()), watcher.connections
            for name in names:
                company.kill(name)
                company.start(name)
            until(
                lambda: is_shipped_and_known(company, reader, before),  # noqa: B023
                f"after {names}: a later order is shipped",
                PATIENCE_S,
            )
        until(lambda: watcher.connections > connections, "the API is watched again", PATIENCE_S)
        shop.send_signal(signal.SIGTERM)
        assert shop.wait(20) == 0
        orders = {each["order_id"]: each for each in company.sold()}
        closed = "SELECT count(*) FROM {s}.workflows WHERE closed_at IS NOT NULL"
        until(lambda: company.rows(closed) == [(len(orders),)], "all have closed", PATIENCE_S)
        until(
            lambda: set(watcher.states.values()) == {"shipped", "failed"},
            "they were seen to close",
            PATIENCE_S,
        )
        until(lambda: len(watcher.states) == len(orders), "all were seen", PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{company.said()}") from error
    finally:
        reader.stop()
        watcher.stop()

    refused = {order_id: step_that_refuses(order) for order_id, order in orders.items()}
    shipped = {order_id for order_id, step in refused.items() if not step}
    assert shipped, "the shop has sold nothing that can be shipped"
    assert set(refused.values()) == {"", "reserve", "charge", "ship"}

    # the record of the workflow's own transaction: one for each that was shipped, none for others
    topic = [json.loads(record.value()) for record in records(company.kafka, f"{company.prefix}.shipped")]
    assert Counter(each["order_id"] for each in topic) == dict.fromkeys(shipped, 1)
    assert Counter(reader.orders) == dict.fromkeys(shipped, 1)

    # the world was asked for what it had to be asked for, under one key each; the card under the
    # shop's
    assert set(company.ledger("release")) == {
        order_id for order_id, step in refused.items() if step in {"charge", "ship"}
    }
    assert set(company.ledger("refund")) == {order_id for order_id, step in refused.items() if step == "ship"}
    assert set(company.ledger("ship")) == shipped
    charged = {
        order_id: {order["payment_key"]}
        for order_id, order in orders.items()
        if refused[order_id] in {"", "ship"}
    }
    assert company.ledger("charge") == charged
    for what in ("reserve", "release", "refund", "ship"):
        assert all(len(keys) == 1 for keys in company.ledger(what).values()), what

    # one run each, by each of them
    started = company.rows(
        "SELECT workflow_id, count(*) FROM {s}.events WHERE type = 'WorkflowStarted' GROUP BY workflow_id"
    )
    assert dict(started) == dict.fromkeys(orders, 1)
    wanted = {order_id: "shipped" if order_id in shipped else "failed" for order_id in orders}
    assert dict(company.rows("SELECT workflow_id, state FROM {s}.wf_order")) == wanted
    of_topic = {
        key: json.loads(state["view"])["state"]
        for key, state in table(company.kafka, company.namespace).items()
    }
    assert of_topic == wanted
    assert watcher.states == wanted
    assert states_over_http(company) == wanted
    total = company.rows("SELECT sum(total_cents) FROM {s}.wf_order WHERE state = 'shipped'")[0][0]
    assert total == sum(each["total_cents"] for each in topic)

    # what was no order is a dead letter, once; what was placed twice is none
    letters = company.get("/dead-letters")["dead_letters"]
    assert Counter(each["reason"] for each in letters) == BAD
    assert {each["topic"] for each in letters} == {f"{company.prefix}.orders"}
    with pytest.raises(urllib.error.HTTPError, match="409"):
        again(company, next(iter(orders.values())))


def sell_badly(company: Company) -> None:
    """What the shop's programmers never meant to send, and some orders a second time."""
    company.put(b"not an order", "x-1")
    company.put(b'{"order_id": "x-2", "customer": "Ada"}', "x-2")
    company.put(None, "x-3")
    company.put(json.dumps({**company.sold()[0], "order_id": ""}).encode(), "x-4")
    for order in company.sold()[:10]:
        company.put(json.dumps(order).encode(), order["order_id"])


def is_shipped_and_known(company: Company, reader: Reader, before: int) -> bool:
    """Whether an order that was sold later went the whole way: into the topic and into the
    table."""
    later = {each["order_id"] for each in company.sold()[before:]} & {*reader.orders}
    return any(
        row[0] in later
        for row in company.rows("SELECT workflow_id FROM {s}.wf_order WHERE state = 'shipped'")
    )


def states_over_http(company: Company) -> dict[str, str]:
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = company.get(f"/workflows?type=Order&sort=workflow_id&order=asc&limit=50{cursor}")
        found.update((each["id"], each["view"]["state"]) for each in page["workflows"])
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def again(company: Company, order: dict[str, Any]) -> None:
    body = {"type": "Order", "id": order["order_id"], "args": [order], "options": {"if_closed": "refuse"}}
    request = urllib.request.Request(
        f"{company.url}/workflows", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        raise AssertionError(answer.read())
