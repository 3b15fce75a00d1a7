"""The chaos run: orders on a real Kafka while its brokers, our engines and our workers are killed,
stopped and frozen.

    python -m tests.chaos.run [--seed N] [--minutes 2] [--brokers 3] [--rate 8] [--folder DIR]

Faults are made from the seed; then they stop, everything must come to rest within a bound, and the
checker reads the topics. Every fault is in the log, with its time; what the processes wrote, the
journal, the ledger and the topics are in the folder. Prints the verdict as JSON; exit code 1 when
something that must hold does not. A failing seed gives the same load and the same faults at the
same times again; what real processes make of them may differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.chaos.checker import Verdict, check
from tests.chaos.contents import Violation
from tests.chaos.faults import Fault, Kind, Who, plan_faults
from tests.chaos.ledger import check_ledger
from tests.chaos.processes import Process
from tests.chaos.promises import Bounds, read_journal
from tests.chaos.reading import read
from tests.kafka.broker import Broker, Cluster, running

APP = Path(__file__).parent / "apps" / "chaos_orders.py"
PERDURE = str(Path(sys.executable).parent / "perdure")
NAMESPACE = "chaos"
PARTITIONS = 6
REST_S = 90.0
"""After the last fault and the last start, everything has ended within this time, seconds."""
WHOLE_S = 60.0
"""After a broker is back, every replica is in sync within this time, seconds."""


@dataclass
class Outcome:
    """The result of a chaos run."""

    seed: int
    verdict: Verdict
    faults: int
    counts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_good(self) -> bool:
        return self.verdict.is_good

    def as_json(self) -> dict[str, Any]:
        return {"seed": self.seed, "faults": self.faults, **self.verdict.as_json(), "load": self.counts}


class Chaos:
    """One run.

    Args:
        cluster: to be hurt.
        seed: of faults and load.
        seconds: of faults.
        rate: orders a second.
        folder: for everything that is written.
        say: takes the log's lines.
    """

    def __init__(
        self,
        cluster: Cluster,
        seed: int,
        seconds: float,
        rate: float,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._seed = seed
        self._seconds = seconds
        self._rate = rate
        self._folder = folder
        self._say_line = say
        self._begun = time.monotonic()
        self._processes = {
            Who.ENGINE: [
                self._process("engine", i, "--state-dir", str(folder / f"state-{i}")) for i in (1, 2)
            ],
            Who.WORKER: [self._process("worker", i, "--concurrency", "50") for i in (1, 2)],
        }
        load = [
            sys.executable,
            "-m",
            "tests.chaos.load",
            f"kafka://{cluster.bootstrap}/{NAMESPACE}",
            str(self._journal),
        ]
        self._load = Process("load", [*load, str(seed), str(seconds), str(rate)], {}, folder / "load.out")
        self._busy: set[tuple[Who, int]] = set()
        self._lock = threading.Lock()
        self._brokers = threading.Lock()
        self._over = threading.Event()
        self._found: list[Violation] = []
        self._hurt = 0
        self._rss: dict[str, int] = {}

    def run(self) -> Outcome:
        """From the first process to the verdict."""
        self.say(
            f"seed {self._seed}, {self._seconds:.0f} s, {len(self._cluster.brokers)} brokers at "
            f"{self._cluster.bootstrap}"
        )
        apply = [PERDURE, "topics", "apply", "--kafka", self._cluster.bootstrap, "--namespace", NAMESPACE]
        subprocess.run([*apply, "--partitions", str(PARTITIONS)], check=True, capture_output=True)
        everyone = [*self._processes[Who.ENGINE], *self._processes[Who.WORKER], self._load]
        watcher = threading.Thread(target=self._watch)
        try:
            for process in everyone:
                process.start()
            self._begun = time.monotonic()
            watcher.start()
            self._make_faults()
            self.say("faults are over")
            verdict = self._come_to_rest()
        finally:
            self._over.set()
            if watcher.ident is not None:
                watcher.join()
            for process in everyone:
                process.thaw()
                process.kill()
        violations, counts = check_ledger(self._folder / "ledger", self._journal)
        verdict.violations += [*self._found, *violations]
        verdict.notes.append(f"memory of the processes, MB: {self._rss}")
        return Outcome(self._seed, verdict, self._hurt, counts)

    def say(self, text: str) -> None:
        """A line of the log."""
        self._say_line(f"{time.strftime('%H:%M:%S')} +{time.monotonic() - self._begun:6.1f} s  {text}")

    @property
    def _journal(self) -> Path:
        return self._folder / "journal"

    def _process(self, what: str, index: int, *options: str) -> Process:
        name = f"{what}-{index}"
        where = ["--kafka", self._cluster.bootstrap, "--namespace", NAMESPACE, "--instance", name]
        environment = {"LEDGER": str(self._folder / "ledger")}
        return Process(
            name, [PERDURE, what, str(APP), *where, *options], environment, self._folder / f"{name}.out"
        )

    # ---- faults

    def _make_faults(self) -> None:
        under_way: list[Future[None]] = []
        with ThreadPoolExecutor(12) as hands:
            for fault in plan_faults(self._seed, self._seconds, len(self._cluster.brokers)):
                time.sleep(max(0.0, self._begun + fault.at_s - time.monotonic()))
                under_way.append(hands.submit(self._make, fault))
        for each in under_way:
            each.result()
        time.sleep(max(0.0, self._begun + self._seconds - time.monotonic()))

    def _make(self, fault: Fault) -> None:
        """To another of the same kind, when that one is out already."""
        count = len(self._cluster.brokers) if fault.who is Who.BROKER else len(self._processes[fault.who])
        with self._lock:
            free = [i for i in (fault.index, *range(count)) if (fault.who, i) not in self._busy]
            if not free:
                self.say(f"({fault}: passed over, all are out already)")
                return
            fault = replace(fault, index=free[0])
            self._busy.add((fault.who, fault.index))
        try:
            if fault.who is Who.BROKER:
                self._hurt_broker(fault, self._cluster.brokers[fault.index])
            else:
                self._hurt_process(fault, self._processes[fault.who][fault.index])
        finally:
            with self._lock:
                self._busy.discard((fault.who, fault.index))

    def _hurt_process(self, fault: Fault, process: Process) -> None:
        self._hurt += 1
        self.say(str(fault))
        if fault.kind is Kind.FREEZE:
            process.freeze()
            time.sleep(fault.lasts_s)
            process.thaw()
            self.say(f"SIGCONT {process.name}")
            return
        if fault.kind is Kind.KILL:
            process.kill()
        elif not process.terminate():
            self._find(
                "process",
                process.name,
                f"did not end well when told to: {process.exit_code}; {process.tail()}",
            )
        time.sleep(fault.lasts_s)
        process.start()
        self.say(f"{process.name} is started again")

    def _hurt_broker(self, fault: Fault, broker: Broker) -> None:
        """One at a time, and the next when all replicas are in sync."""
        if not self._brokers.acquire(blocking=False):
            self.say(f"({fault}: passed over, another broker is out)")
            return
        try:
            self._hurt += 1
            self.say(str(fault))
            if fault.kind is Kind.FREEZE:
                broker.pause()
                time.sleep(fault.lasts_s)
                broker.resume()
            else:
                (broker.kill if fault.kind is Kind.KILL else broker.stop)()
                time.sleep(fault.lasts_s)
                broker.start()
            self.say(
                f"broker {broker.node_id} is let go on"
                if fault.kind is Kind.FREEZE
                else f"broker {broker.node_id} is started again"
            )
            since = time.monotonic()
            time.sleep(1)  # it may not know yet what it has missed
            while not all(self._is_whole(each) for each in self._cluster.brokers):
                if time.monotonic() - since > WHOLE_S:
                    self._find(
                        "broker",
                        str(broker.node_id),
                        f"replicas are not in sync after {WHOLE_S:.0f} s: {broker.output()}",
                    )
                    return
                time.sleep(0.5)
            self.say(
                f"all replicas are in sync, {time.monotonic() - since:.1f} s after broker {broker.node_id} "
                "was back"
            )
        finally:
            self._brokers.release()

    def _is_whole(self, broker: Broker) -> bool:
        """As one of them knows it: they are not always of one mind."""
        client: dict[str, Any] = {
            **self._cluster.client,
            "bootstrap.servers": broker.bootstrap,
            "log_level": "0",
        }
        try:
            found = AdminClient(client).list_topics(timeout=2)
        except KafkaException:
            return False
        partitions = [partition for topic in found.topics.values() for partition in topic.partitions.values()]
        return len(found.brokers) == len(self._cluster.brokers) and all(
            len(partition.isrs) == len(partition.replicas) for partition in partitions
        )

    def _find(self, invariant: str, where: str, message: str) -> None:
        self._found.append(Violation(invariant, where, message))
        self.say(f"FOUND {invariant} {where}: {message[:300]}")

    # ---- meanwhile

    def _watch(self) -> None:
        """Processes that end by themselves are started again, as an orchestrator would, and are
        found."""
        while not self._over.wait(0.5):
            for process in [*self._processes[Who.ENGINE], *self._processes[Who.WORKER]]:
                if process.is_meant_to_run and (code := process.exit_code) is not None:
                    process.is_meant_to_run = False
                    self._find("process", process.name, f"has ended by itself with {code}: {process.tail()}")
                    process.start()
                self._rss[process.name] = max(self._rss.get(process.name, 0), process.rss_mb)

    # ---- afterwards

    def _come_to_rest(self) -> Verdict:
        """The clients get all their answers, and nothing is left to do."""
        deadline = time.monotonic() + REST_S
        while self._load.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.2)
        if self._load.exit_code != 0:
            self._find("client", "load", f"has not ended: {self._load.exit_code}; {self._load.tail()}")
        self.say("the load has ended")
        bounds = Bounds(late_s=10, must_end=True)
        while True:
            with contextlib.suppress(KafkaException, TimeoutError):
                contents = read(NAMESPACE, self._cluster.client)
                verdict = check(contents, read_journal(self._journal), bounds, at_rest=True)
                if verdict.is_good or time.monotonic() > deadline:
                    (self._folder / "contents.pickle").write_bytes(pickle.dumps(contents))
                    return verdict
            if time.monotonic() > deadline + 60:
                raise TimeoutError("the topics cannot be read")
            time.sleep(2)


def run_chaos(
    seed: int, minutes: float, brokers: int, rate: float, folder: Path, say: Callable[[str], None]
) -> Outcome:
    """A cluster, a run, a verdict.

    Raises:
        KafkaUnavailable: there is no Kafka.
    """
    with running(brokers) as cluster:
        return Chaos(cluster, seed, minutes * 60, rate, folder, say).run()


def main() -> None:
    """Run, and print the verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.run", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=8.0, help="orders started a second")
    parser.add_argument(
        "--folder",
        type=Path,
        help="for logs, journal, ledger and topics; kept. A temporary one by default, kept too",
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="perdure-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("a", buffering=1) as log:

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)
            log.write(f"{line}\n")

        outcome = run_chaos(options.seed, options.minutes, options.brokers, options.rate, folder, say)
    print(json.dumps(outcome.as_json(), indent=2))
    print(
        f"SEED={options.seed} {'good' if outcome.is_good else 'BAD'}; everything is in {folder}",
        file=sys.stderr,
    )
    sys.exit(not outcome.is_good)


if __name__ == "__main__":
    main()
