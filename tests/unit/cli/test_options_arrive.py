"""Every option arrives where it is meant to, under the name that it has there; nothing is
started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from perdure.app import App
from perdure.cli.app import app
from perdure.cli.lifecycle import processes
from perdure.cli.options import kafka as kafka_options
from perdure.cli.options.kafka import OnKafka, queues_of
from perdure.cli.options.metrics import LogFormat, LogLevel, Observing
from perdure.client import Client
from perdure.client.listing import ListQuery
from perdure.distributed.options import EngineOptions, Place, WorkerOptions
from perdure.engine.processor import Settings
from perdure.model.retention import Retention
from perdure.registry import Registry

KAFKA = ["--kafka", "b:1", "--namespace", "ns"]
WATCHED = ["--metrics-port", "9", "--metrics-host", "h", "--log-format", "json", "--log-level", "debug"]
OBSERVED = Observing(9, "h", LogFormat.JSON, LogLevel.DEBUG)


def giving(value: Any) -> Callable[..., Any]:
    """A function that gives the same whatever it is asked."""

    def give(*_: Any, **__: Any) -> Any:
        return value

    return give


def into(found: list[Any]) -> Callable[..., None]:
    """A function that takes down what it is given."""

    def take(*values: Any) -> None:
        found.append(values)

    return take


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that `serve` gets."""
    found: list[Any] = []
    monkeypatch.setattr("perdure.cli.lifecycle.serving.serve", found.append)

    def see(place: Place, owner: str) -> None:
        found.append((place.namespace, owner))

    monkeypatch.setattr(kafka_options, "see_owner", see)
    return found


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments that `OnKafka` gets."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(OnKafka, "of", into(found))
    return found


def test_an_engine_is_as_it_was_asked_for(served: list[Any], wired: list[tuple[Any, ...]]) -> None:
    own = [
        "--state-dir",
        "s",
        "--instance",
        "i",
        "--static",
        "--session-timeout-ms",
        "7000",
        "--protocol",
        "consumer",
        "--run-retention",
        "7 days, failed=90 days",
    ]
    invoke("engine", "app.py", *KAFKA, *own, "--owner", "o", "--grace", "3", "--traces", *WATCHED)
    owner, found = served
    assert owner == ("ns", "o")
    assert (found.target, found.db, found.grace_s, found.has_web) == ("app.py", "kafka://b:1/ns", 3.0, False)
    assert found.needs_workflows
    assert found.observing == Observing(9, "h", LogFormat.JSON, LogLevel.DEBUG, has_traces=True)
    found.make(Registry.of([]), None)
    ((registry, place, _, engine, worker),) = wired
    assert "perdure.echo" in registry.workflows, "for `helm test`"
    assert place.settings["bootstrap.servers"] == "b:1"
    kept = Settings(retention=Retention("7 days", failed="90 days"))
    assert engine == EngineOptions(
        "i", Path("s"), "consumer", is_static=True, session_timeout_ms=7_000, settings=kept
    )
    assert worker is None


def test_a_worker_is_as_it_was_asked_for(served: list[Any], wired: list[tuple[Any, ...]]) -> None:
    own = [
        "--queue",
        "a",
        "--queue",
        "b",
        "--concurrency",
        "5",
        "--instance",
        "i",
        "--static",
        "--session-timeout-ms",
        "7000",
    ]
    invoke("worker", "app.py", *KAFKA, *own, "--owner", "o", "--grace", "3", "--set", "linger.ms=9", *WATCHED)
    owner, found = served
    assert owner == ("ns", "o")
    assert (found.grace_s, found.has_web, found.needs_workflows, found.observing) == (
        3.0,
        False,
        False,
        OBSERVED,
    )
    found.make(Registry.of([]), None)
    ((_, place, _, engine, worker),) = wired
    assert place.settings["linger.ms"] == "9"
    assert worker == WorkerOptions(("a", "b"), 5, "i", is_static=True, session_timeout_ms=7_000)
    assert engine is None


def test_without_a_queue_a_worker_serves_those_of_its_activities_each_once() -> None:
    def of(queue: str, *, is_local: bool = False) -> Any:
        return SimpleNamespace(defaults=SimpleNamespace(queue=queue), is_local=is_local)

    registry: Any = SimpleNamespace(
        activities={"a": of("ovens"), "b": of("vans"), "c": of("ovens"), "d": of("own", is_local=True)}
    )
    assert queues_of(registry, None) == ("ovens", "vans")
    assert queues_of(registry, ["x", "x"]) == ("x",)
    assert queues_of(SimpleNamespace(activities={"d": of("own", is_local=True)}), None) == ("default",)  # type: ignore[arg-type]


def test_a_setting_of_the_command_line_counts_more_than_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERDURE_KAFKA_LINGER_MS", "5")
    monkeypatch.setenv("PERDURE_KAFKA_BATCH_SIZE", "6")
    settings = kafka_options.place("b:1", "ns", ["linger.ms=9"]).settings
    assert (settings["linger.ms"], settings["batch.size"], settings["bootstrap.servers"]) == ("9", "6", "b:1")


def test_triggers_begin_at_the_chosen_offsets(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def ingest_of(registry: Any, where: Any, name: str, report: Any, begin: str) -> tuple[Any, Any]:
        given.extend((where.namespace, name, begin))
        return None, None

    monkeypatch.setattr("perdure.distributed.ingesting.ingest_of", ingest_of)
    invoke("ingest", "app.py", *KAFKA, "--from", "latest", "--instance", "i", "--owner", "o", *WATCHED)
    owner, found = served
    assert (owner, found.observing, found.has_web) == (("ns", "o"), OBSERVED, False)
    found.make(None, None)
    assert given == ["ns", "i", "latest"]
    invoke("ingest", "app.py", *KAFKA, "--from", "now", code=2)


def test_a_projector_is_as_it_was_asked_for(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Projecting:
        progress = None

        def __init__(self, where: Any, database: Any, *_: Any, **options: Any) -> None:
            given.update(options, where=where.namespace, schema=database.schema)

        def request_stop(self) -> None: ...

        def run_forever(self, ready: Any) -> None: ...

    monkeypatch.setattr("perdure.distributed.projecting.ProjectorService", Projecting)
    monkeypatch.setattr("perdure.cli.lifecycle.signals.stop_on_signal", giving(None))
    monkeypatch.setattr(Observing, "begin", giving(None))
    postgres = [
        "--postgres",
        "postgresql://h/d",
        "--retention",
        "90 days",
        "--rebuild",
        "--session-timeout-ms",
        "7000",
    ]
    invoke("projector", *KAFKA, *postgres, "--owner", "o")
    assert served == [("ns", "o")]
    assert (given["retention_s"], given["is_rebuild"], given["session_timeout_ms"]) == (
        90 * 86_400,
        True,
        7_000,
    )
    assert given["where"] == "ns"
    invoke("projector", *KAFKA, "--postgres", "postgresql://h/d")
    assert (given["retention_s"], given["is_rebuild"]) == (None, False)


def test_an_api_is_as_it_was_asked_for(
    served: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Any] = []

    def serve(*values: Any, **named: Any) -> None:
        given.append((values, named))

    def on_file(url: str, registry: Registry | None) -> tuple[Any, Any]:
        return url, registry

    monkeypatch.setattr("perdure.cli.commands.api._serve", serve)
    monkeypatch.setattr("perdure.cli.lifecycle.api_backends.on_file", on_file)
    monkeypatch.setattr(Observing, "begin", giving(None))
    monkeypatch.setattr("perdure.observability.accepting.raise_descriptor_limit", lambda: None)
    limits = ["--connections", "50", "--connections-per-address", "7", "--rate-limit", "2.5"]
    invoke("api", "--db", "a.db", "--insecure", "--port", "81", "--grace", "4", *limits, *WATCHED)
    (((backend, _, _, host, port, grace, observing), named),) = given
    assert (backend, host, port, grace, observing) == ("sqlite:///a.db", "127.0.0.1", 81, 4, OBSERVED)
    assert (named["limits"].connections, named["limits"].per_address, named["rate_limit"]) == (50, 7, 2.5)
    assert "is reachable from other machines" in str(
        CliRunner().invoke(app, ["api", "--db", "a.db", "--insecure", "--host", "0.0.0.0"]).exception
    )


class Process:
    """A process that ends with a given exit code."""

    def __init__(self, command: list[str], codes: list[int | None]) -> None:
        self.command = command
        self.codes = codes
        self.returncode: int | None = None
        self.signals: list[int] = []

    def poll(self) -> int | None:
        if self.returncode is None and self.codes:
            self.returncode = self.codes.pop(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def wait(self) -> None: ...


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Process], list[list[int | None]]]:
    """The processes that were started, and how the next ones end."""
    made: list[Process] = []
    ends: list[list[int | None]] = []

    def start(command: list[str], **_: Any) -> Process:
        made.append(Process(command, ends.pop(0) if ends else []))
        return made[-1]

    monkeypatch.setattr("perdure.cli.lifecycle.processes.subprocess.Popen", start)
    monkeypatch.setattr("perdure.cli.lifecycle.processes.signal.signal", giving(None))
    monkeypatch.setattr(processes, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(processes, "say", giving(None))
    monkeypatch.setattr(sys, "argv", ["perdure", "engine", "app.py"])
    return made, ends


def test_each_of_several_engines_has_a_name_and_a_port_of_its_own_after_it_was_started_again_too(
    started: Any,
) -> None:
    made, ends = started
    ends += [[], [1], [None, None, 2]]
    with pytest.raises(SystemExit) as ended:
        processes.run_several(3, "shop-0", 9_000)
    assert ended.value.code == 2, "a wrong command line is wrong every time"
    names = [each.command[each.command.index("--instance") + 1] for each in made]
    ports = [each.command[each.command.index("--metrics-port") + 1] for each in made]
    assert names == ["shop-0-0", "shop-0-1", "shop-0-2", "shop-0-1"]
    assert ports == ["9000", "9001", "9002", "9001"]
    assert all(each.command[-6:-4] == ["--processes", "1"] for each in made)
    assert [bool(each.signals) for each in made] == [True, False, False, True], "those that run are stopped"


class Handle:
    run_id = "run-1"

    def __init__(self, asked: list[Any], id: str) -> None:
        self.asked = asked
        self.id = id

    def activity(self, number: int) -> Handle:
        return Handle(self.asked, f"{self.id}/{number}")

    def __getattr__(self, name: str) -> Any:
        async def ask(*values: Any, **options: Any) -> str:
            self.asked.append((name, self.id, *values, *([options] if options else [])))
            return "answer"

        return ask


class FakeClient:
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.total = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def options(self, **options: Any) -> FakeClient:
        self.asked.append(options)
        return self

    async def start_by_name(self, id: str, type: str, arguments: list[Any]) -> Handle:
        self.asked.append((id, type, arguments))
        return Handle(self.asked, id)

    def get_by_name(self, id: str) -> Handle:
        return Handle(self.asked, id)

    async def history(self, id: str, run_id: str) -> list[Any]:
        self.asked.append((id, run_id))
        return []

    async def list(self, query: ListQuery) -> list[Any]:
        self.asked.append(query)
        return []


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    found = FakeClient()

    def connect(url: str, app: App) -> FakeClient:
        found.asked.append(url)
        return found

    monkeypatch.setattr(Client, "connect", connect)
    return found


def test_a_start_has_its_options_and_values(client: FakeClient) -> None:
    options = ["--if-running", "attach", "--if-closed", "after_failure", "--delay", "2s", "--timeout", "1h"]
    options += ["--memo", "ticket=7", "--memo", "by=Ada=Eva", "--memo", 'of={"a": [1]}']
    said = invoke("workflow", "start", "o-1", "Order", "7", "x y", '{"a": [1]}', *options, "--db", "a.db")
    assert said == "started o-1, run run-1\n"
    assert client.asked == [
        "sqlite:///a.db",
        {
            "if_running": "attach",
            "if_closed": "after_failure",
            "delay": "2s",
            "start_at": None,
            "timeout": "1h",
            "memo": {"ticket": 7, "by": "Ada=Eva", "of": {"a": [1]}},
        },
        ("o-1", "Order", [7, "x y", {"a": [1]}]),
    ]
    assert "must be one of refuse, attach, terminate" in invoke(
        "workflow", "start", "o-1", "Order", "--if-running", "start", code=2
    )
    assert "looks like JSON but is invalid" in invoke("workflow", "start", "o-1", "Order", "[1", code=2)


def test_a_start_time_has_a_time_zone(client: FakeClient) -> None:
    start = ("workflow", "start", "o-1", "Order", "--db", "a.db", "--start-at")
    invoke(*start, "2026-12-24T18:00:00+01:00")
    assert client.asked[1]["start_at"] == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert "has no time zone" in invoke(*start, "2026-12-24T18:00:00", code=2)
    assert "cannot read the time" in invoke(*start, "tomorrow", code=2)


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["signal", "o-1", "move", "1", "b"], ("signal_by_name", "o-1", "move", [1, "b"])),
        (["query", "o-1", "where", "null"], ("query_by_name", "o-1", "where", [None])),
        (["cancel", "o-1", "--reason", "late"], ("cancel", "o-1", "late")),
        (["terminate", "o-1", "--reason", "lost"], ("terminate", "o-1", "lost")),
        (["history", "o-1", "--run", "r-2"], ("o-1", "r-2")),
    ],
)
def test_a_request_asks_the_workflow_for_the_chosen_action(
    client: FakeClient, command: list[str], asked: tuple[Any, ...]
) -> None:
    invoke("workflow", *command, "--db", "http://host")
    assert client.asked == ["http://host", asked]


RETRY = {"by": "ann", "timeout": "2s", "maximum_attempts": 4, "queue": "q"}
BY = ["--reason", "why", "--by", "ann"]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["workflow", "pause", "o-1", *BY], ("pause", "o-1", "why", {"by": "ann"})),
        (["workflow", "unpause", "o-1", *BY], ("unpause", "o-1", "why", {"by": "ann"})),
        (
            [
                "activity",
                "retry",
                "o-1",
                "3",
                *BY,
                "--timeout",
                "2s",
                "--maximum-attempts",
                "4",
                "--queue",
                "q",
            ],
            ("retry", "o-1/3", "why", RETRY),
        ),
        (
            ["activity", "complete", "o-1", "3", "-7", *BY],
            ("complete", "o-1/3", -7, {"reason": "why", "by": "ann"}),
        ),
        (
            ["activity", "fail", "o-1", "3", "lost", *BY],
            ("fail", "o-1/3", "lost", {"reason": "why", "by": "ann"}),
        ),
    ],
)
def test_an_operator_says_who_asks_and_why(
    client: FakeClient, command: list[str], asked: tuple[Any, ...]
) -> None:
    invoke(*command, "--db", "http://host")
    assert client.asked == ["http://host", asked]


def test_who_asks_is_by_default_the_user_of_the_process(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "bob")
    invoke("workflow", "pause", "o-1", "--db", "http://host")
    assert client.asked[1] == ("pause", "o-1", "", {"by": "bob"})


def test_a_list_has_its_filters(client: FakeClient) -> None:
    filters = [
        "--type",
        "A",
        "--type",
        "B",
        "--status",
        "failed",
        "--prefix",
        "o-",
        "--attribute",
        "n=1",
        "--attribute",
        "t=a=b",
    ]
    invoke(
        "workflow",
        "list",
        *filters,
        "--sort",
        "closed_at",
        "--order",
        "oldest",
        "--limit",
        "7",
        "--db",
        "a.db",
    )
    assert client.asked[1:] == [
        ListQuery(
            types=("A", "B"),
            statuses=("failed",),
            id_prefix="o-",
            attributes=(("n", 1), ("t", "a=b")),
            sort="closed_at",
            order="oldest",
            limit=7,
        )
    ]


class FakeTopics:
    def __init__(self) -> None:
        self.planned: dict[str, Any] = {}
        self.made: Any = SimpleNamespace(faults=(), missing=(), wanted=())
        self.applied: list[Any] = []

    def plan(self, **options: Any) -> Any:
        self.planned = options
        return self.made

    def apply(self, plan: Any) -> None:
        self.applied.append(plan)

    def check(self, queues: Any, owner: str) -> list[str]:
        return [f"{','.join(queues)} of {owner}"] if owner else []


def test_topics_are_planned_and_made_as_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = FakeTopics()
    monkeypatch.setattr("perdure.cli.commands.topics._topics", giving(topics))
    numbers = ["--partitions", "24", "--replication", "2", "--queue", "a", "--queue", "b", "--owner", "o"]
    wanted = {"partitions": 24, "replication": 2, "queues": ["a", "b"], "owner": "o"}
    invoke("topics", "plan", *KAFKA, *numbers)
    assert topics.planned == wanted
    assert not topics.applied, "a plan makes nothing"
    invoke("topics", "apply", *KAFKA, *numbers, "--take-over")
    assert topics.planned == {**wanted, "is_taken_over": True}
    assert topics.applied == [topics.made]
    assert "name the new owner" in invoke("topics", "apply", *KAFKA, "--take-over", code=2)
    topics.made = SimpleNamespace(faults=("events has 6 partitions",), missing=("ns.state",), wanted=())
    assert "events has 6 partitions" in invoke("topics", "plan", *KAFKA, code=1)
    assert "ns.state does not exist yet" in invoke("topics", "apply", *KAFKA, "--existing", code=1)
    assert len(topics.applied) == 1, "with --existing nothing is made"
    assert "a,b of o" in invoke("topics", "check", *KAFKA, *numbers[4:], code=1)
    invoke("topics", "check", *KAFKA)


def test_a_published_record_has_its_key_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("perdure.adapters.sqlite.published.publish_record", into(sent))
    invoke("publish", "orders", '{"a":  1}', "--key", "k", "--header", "h=a=b", "--db", "a.db")
    invoke("publish", "orders", "plain", "--db", "a.db")
    assert sent == [
        ("sqlite:///a.db", "orders", b"k", b'{"a":1}', [("h", b"a=b")]),
        ("sqlite:///a.db", "orders", None, b'"plain"', []),
    ]
