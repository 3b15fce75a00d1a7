"""A real Apache Kafka for tests and for people: one broker, or a cluster whose nodes can be killed,
stopped and restarted.

The first of these that there is: the broker at `KAFKA_BOOTSTRAP`; a container (testcontainers,
where Docker answers); a process of this machine, from Maven's jars. Processes listen on loopback
only and end with the process that started them, whatever ends that.

    python -m tests.kafka.broker [--brokers 3] [--port 9092]     until Ctrl-C
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.distribution import KafkaUnavailable, classpath, java
from tests.servers import Source, source

HEAP: Final = "-Xmx512m"
QUICK: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Starts in half the time; at half the throughput once warm."""
STEADY: Final = ("-XX:+UseG1GC",)
READY_S: Final = 120
IMAGE: Final = "confluentinc/cp-kafka:8.1.0"
ALONE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
    }
)
"""Settings of a broker without others, in a container too: Kafka wants three for transactions
unless it is told."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_LOG4J: Final = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
"""
BOUND_TO_PARENT: Final = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("the parent has gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
_spawner: Final = ThreadPoolExecutor(1, "kafka-spawner")
"""The parent-death signal is sent when the *thread* that made the child ends: this one lives as
long as the process."""


def spawned(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that begins with `BOUND_TO_PARENT`, in a session of its own."""

    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    return _spawner.submit(spawn).result()


class Broker:
    """One node, broker and controller in one process.

    Args:
        node_id: from 1.
        port: of the clients' listener, on loopback.
        folder: configuration, data and output; data outlives `kill` and `stop`.
        options: of the Java machine.
    """

    def __init__(self, node_id: int, port: int, folder: Path, options: tuple[str, ...]) -> None:
        self.node_id = node_id
        self.port = port
        self.bootstrap = f"127.0.0.1:{port}"
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process, be it stopped by `pause`."""
        return self._process is not None and self._process.poll() is None

    def configure(self, properties: Mapping[str, str], cluster_id: str) -> None:
        """Write the configuration and format the data folder; once."""
        self._folder.mkdir()
        own = {"node.id": str(self.node_id), "log.dirs": str(self._folder / "data")}
        self._properties.write_text(
            "".join(f"{key}={value}\n" for key, value in {**own, **properties}.items())
        )
        (self._folder / "log4j2.properties").write_text(_LOG4J)
        self._run("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)).wait(
            READY_S
        )

    def start(self) -> None:
        """Start the process; see `Cluster.wait_until_ready`."""
        assert not self.is_running
        self._process = self._run("kafka.Kafka", str(self._properties))

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and its end: leaders move away first."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: silent, its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def output(self) -> str:
        """The end of what it printed."""
        return (self._folder / "output").read_text(errors="replace")[-3000:]

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        jvm = [
            java(),
            HEAP,
            *self._options,
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
            "-cp",
            classpath(),
        ]
        command = [sys.executable, "-c", BOUND_TO_PARENT, str(os.getpid()), *jvm, *arguments]
        with (self._folder / "output").open("ab") as output:
            return spawned(command, output)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:  # paused, or without a quorum to hand its leaders to
            self._signal(signal.SIGKILL)
            self._process.wait(10)


class Cluster:
    """A Kafka.

    Attributes:
        bootstrap: what clients connect to.
        brokers: its nodes, when they are ours; empty for a Kafka that was there.
        client: settings of librdkafka to connect with.
    """

    def __init__(self, bootstrap: str, brokers: list[Broker], client: Mapping[str, str] = NOTHING) -> None:
        self.bootstrap = bootstrap
        self.brokers = brokers
        self.client = {**client, "bootstrap.servers": bootstrap}

    def wait_until_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every node that runs answers, and knows of all that run.

        Raises:
            KafkaUnavailable: one does not, or has ended; the message has the end of its output.
        """
        deadline = time.monotonic() + timeout_s
        running = [broker for broker in self.brokers if broker.is_running]
        for broker in running:
            while not _knows(
                {**self.client, "bootstrap.servers": broker.bootstrap}, {peer.node_id for peer in running}
            ):
                if not broker.is_running or time.monotonic() > deadline:
                    raise KafkaUnavailable(f"broker {broker.node_id} is not ready: {broker.output()}")

    def close(self) -> None:
        """End all nodes concurrently."""
        for broker in self.brokers:
            broker.kill()


@contextlib.contextmanager
def running(
    count: int = 1,
    properties: Mapping[str, str] = NOTHING,
    *,
    client: Mapping[str, str] = NOTHING,
    port: int = 0,
    options: tuple[str, ...] = QUICK,
) -> Generator[Cluster]:
    """Nodes of this machine, ready; killed at the end.

    Args:
        count: of nodes; with three or more, topics have three replicas and `min.insync.replicas` 2.
        properties: of every node, over ours.
        client: settings that clients need because of them.
        port: of the first node's listener; 0: any that is free.
        options: of the Java machine.

    Raises:
        KafkaUnavailable: there is no Java, or no Kafka, or it does not start.
    """
    free = free_ports(2 * count)
    ports = [port or free[0], *free[1:count]]
    # "-…" would be taken for an option
    cluster_id = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    with tempfile.TemporaryDirectory(prefix="perdure-kafka-") as folder:
        brokers = [Broker(i + 1, ports[i], Path(folder) / f"node-{i + 1}", options) for i in range(count)]
        cluster = Cluster(",".join(broker.bootstrap for broker in brokers), brokers, client)
        voters = ",".join(f"{i + 1}@127.0.0.1:{free[count + i]}" for i in range(count))
        classpath()  # once, before several ask for it
        try:
            with ThreadPoolExecutor(count) as starters:
                for done in [
                    starters.submit(
                        _begin,
                        broker,
                        {**_settings(broker, free[count + i], voters, count), **properties},
                        cluster_id,
                    )
                    for i, broker in enumerate(brokers)
                ]:
                    done.result()
            cluster.wait_until_ready()
            yield cluster
        finally:
            cluster.close()


@contextlib.contextmanager
def any_kafka() -> Generator[Cluster]:
    """One broker, wherever it comes from.

    Raises:
        KafkaUnavailable: there is none; the message says why.
    """
    match source("KAFKA_BOOTSTRAP"):
        case Source.NAMED:
            yield Cluster(os.environ["KAFKA_BOOTSTRAP"], [])
        case Source.CONTAINER:
            with _container() as bootstrap:
                yield Cluster(bootstrap, [])
        case Source.PROCESS:
            with running() as cluster:
                yield cluster


@contextlib.contextmanager
def _container() -> Generator[str]:
    """One broker in a container; what clients connect to."""
    containers: Any = importlib.import_module("testcontainers.community.kafka")
    container = containers.KafkaContainer(IMAGE).with_kraft()
    for key, value in ALONE.items():
        container = container.with_env(f"KAFKA_{key.upper().replace('.', '_')}", value)
    with container:
        yield container.get_bootstrap_server()


def _begin(broker: Broker, properties: Mapping[str, str], cluster_id: str) -> None:
    broker.configure(properties, cluster_id)
    broker.start()


def _settings(broker: Broker, controller_port: int, voters: str, count: int) -> dict[str, str]:
    replicas, in_sync = str(min(count, 3)), "2" if count >= 3 else "1"
    return {
        "process.roles": "broker,controller",
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{broker.bootstrap},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.bootstrap}",
        "controller.listener.names": "CONTROLLER",
        **ALONE,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
    }


def _knows(client: dict[str, str], node_ids: set[int]) -> bool:
    """Whether the node answers and knows the others; waits a moment when not."""
    probe = socket.socket()
    with probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", int(client["bootstrap.servers"].rpartition(":")[2]))):
            threading.Event().wait(0.05)
            return False
    try:
        return node_ids <= set(AdminClient({**client, "log_level": "0"}).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def free_ports(count: int) -> list[int]:
    """Free ports on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    """Run a Kafka until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kafka.broker", description="A Kafka until Ctrl-C; nothing is kept."
    )
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--port", type=int, default=9092)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        running(arguments.brokers, port=arguments.port, options=STEADY) as cluster,
    ):
        print(f"Kafka is at {cluster.bootstrap}; Ctrl-C ends it and deletes its data.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
