"""`perdure` as a user runs it: real processes on a real file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep
from typing import Any

import pytest

APP = """
from perdure import activity, workflow

@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"

@workflow.defn
class Greeting:
    def __init__(self) -> None:
        self.approved_by: str | None = None

    @workflow.run
    async def process(self, name: str) -> str:
        by = await workflow.wait_until(lambda: self.approved_by)
        return await greet(name) + f" ({by})"

    @workflow.signal
    def approve(self, by: str) -> None:
        self.approved_by = by

    @workflow.query
    def is_approved(self) -> bool:
        return self.approved_by is not None

    @workflow.query
    def broken(self) -> int:
        raise ValueError("no answer")

    @workflow.view
    def status(self) -> dict[str, str | None]:
        return {"approved_by": self.approved_by}

@workflow.defn
async def failing(reason: str) -> None:
    raise ValueError(reason)
"""
WITHIN_S = 20.0


class Dev:
    """A `perdure dev` in a process of its own; what it prints is collected."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._is_ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "perdure.cli", "dev", *arguments],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1) -> str:
        """The line with the text, once it was printed so often."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or len(self._with(text)) >= times, WITHIN_S)
            found = self._with(text)
        assert len(found) >= times, f"{text!r} was not printed {times} times:\n" + "\n".join(self.lines)
        return found[times - 1]

    def _with(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def devs() -> Iterator[Callable[..., Dev]]:
    """Starts `perdure dev`, waits until it serves, and ends it after the test."""
    started: list[Dev] = []

    def start(directory: Path, *arguments: str, serves: bool = True) -> Dev:
        dev = Dev(directory, *arguments)
        started.append(dev)
        if serves:
            dev.wait_for("Ctrl-C stops")
        return dev

    yield start
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
        dev.ended()


def perdure(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "perdure.cli", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def ask(place: Path, *arguments: str) -> str:
    done = perdure(place, "workflow", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until_text(look: Callable[[], str], text: str) -> str:
    """The output, as soon as it contains the text."""
    until = monotonic() + WITHIN_S
    while text not in (seen := look()):
        assert monotonic() < until, f"{text!r} is not in:\n{seen}"
    return seen


def refusal(place: Path, *arguments: str) -> str:
    """One line on standard error, exit code 1."""
    done = perdure(place, *arguments)
    assert done.returncode == 1, done
    assert done.stderr.startswith("perdure: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


def test_a_new_project_runs_and_every_command_works_on_it(tmp_path: Path, devs: Callable[..., Dev]) -> None:
    assert perdure(tmp_path, "init", "hello").returncode == 0
    place = tmp_path / "hello"
    dev = devs(place, "app.py")
    assert "Greeting" in dev.wait_for("workflows ")
    assert "greet" in dev.wait_for("activities ")
    assert "sqlite:///perdure.db" in dev.wait_for("database ")

    assert ask(place, "start", "greeting-1", "Greeting", "Ada").startswith("started greeting-1, run ")
    assert "greeting-1" in ask(place, "list", "--status", "running")
    assert ask(place, "query", "greeting-1", "is_approved") == "false\n"
    ask(place, "signal", "greeting-1", "approve", "Grace")
    assert ask(place, "result", "greeting-1") == '"Hello, Ada! (Grace said yes)"\n'
    shown = ask(place, "show", "greeting-1")
    assert "completed" in shown
    assert "Hello, Ada!" in shown
    history = ask(place, "history", "greeting-1").splitlines()
    assert history[1].endswith('type=Greeting input=["Ada"]')
    assert "WorkflowCompleted" in history[-1]
    assert dev.stop() == 0


def test_an_app_that_imports_datetime_is_served_and_its_workflows_are_guarded(
    place: Path, devs: Callable[..., Dev]
) -> None:
    clocks = """
import datetime

@activity.defn
def stamp() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)

@workflow.defn
async def stamps() -> datetime.datetime:
    return await stamp()

@workflow.defn
async def leaks() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
"""
    (place / "app.py").write_text(APP + clocks)
    dev = devs(place, "app.py")
    ask(place, "start", "a", "stamps")
    assert ask(place, "result", "a").startswith('"20')
    ask(place, "start", "b", "leaks")
    until_text(lambda: ask(place, "show", "b"), "workflow.now()")
    assert dev.stop() == 0


def test_the_tests_of_a_new_project_pass(tmp_path: Path) -> None:
    assert perdure(tmp_path, "init", "hello").returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path / "hello",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_lists_are_filtered_and_json_is_complete(place: Path, devs: Callable[..., Dev]) -> None:
    devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    ask(place, "start", "b", "failing", "because")
    perdure(place, "workflow", "result", "b")
    ask(place, "start", "c", "Greeting", '"Cy"')

    def ids(*filters: str) -> list[str]:
        return [state["workflow_id"] for state in json.loads(ask(place, "list", "-o", "json", *filters))]

    assert ids() == ["c", "b", "a"]
    assert ids("--type", "Greeting") == ["c", "a"]
    assert ids("--status", "failed") == ["b"]
    assert ids("--limit", "1") == ["c"]
    assert ids("--type", "nothing") == []
    assert "ValueError: because" in ask(place, "list")
    state: dict[str, Any] = json.loads(ask(place, "show", "b", "-o", "json"))
    assert (state["status"], state["failure"]["message"]) == ("failed", "because")
    assert json.loads(ask(place, "show", "a", "-o", "json"))["view"] == {"approved_by": None}
    assert json.loads(ask(place, "start", "d", "Greeting", "Di", "-o", "json"))["workflow_id"] == "d"


def test_cancel_and_terminate_end_a_run_and_say_why(place: Path, devs: Callable[..., Dev]) -> None:
    devs(place, "app.py")
    for name, command, status in (("a", "cancel", "cancelled"), ("b", "terminate", "terminated")):
        ask(place, "start", name, "Greeting", "Ada")
        ask(place, command, name, "--reason", "enough")
        assert "enough" in refusal(place, "workflow", "result", name)
        assert json.loads(ask(place, "show", name, "-o", "json"))["status"] == status


def test_a_refusal_is_one_line_and_exit_code_1(place: Path, devs: Callable[..., Dev]) -> None:
    devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    for words, arguments in {
        "already": ("start", "a", "Greeting", "Ada"),
        "Nothing": ("start", "b", "Nothing"),
        "name": ("start", "b", "Greeting", "{}"),
        "'b'": ("signal", "b", "approve", "Grace"),
        "'nowhere'": ("show", "nowhere"),
        "nonsense": ("signal", "a", "nonsense"),
        "unasked": ("query", "a", "unasked"),
        "no answer": ("query", "a", "broken"),
        "255": ("start", "x" * 300, "Greeting", "Ada"),
        "empty": ("start", "", "Greeting", "Ada"),
        "U+0007": ("start", "bell\a", "Greeting", "Ada"),
        "is still open": ("result", "a", "--timeout", "200ms"),
        "soon": ("result", "a", "--timeout", "soon"),
    }.items():
        assert words in refusal(place, "workflow", *arguments)
    assert ask(place, "query", "a", "is_approved") == "false\n"


def test_without_a_platform_what_is_recorded_can_be_read_and_nothing_hangs(
    place: Path, devs: Callable[..., Dev]
) -> None:
    assert "perdure.db" in refusal(place, "workflow", "list")
    dev = devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    assert dev.stop(signal.SIGINT) == 0
    assert "Greeting" in ask(place, "list")
    assert "WorkflowStarted" in ask(place, "history", "a")
    assert "perdure dev" in refusal(place, "workflow", "result", "a", "--no-wait")


def test_recorded_histories_replay_and_an_edit_that_diverges_is_found(
    place: Path, devs: Callable[..., Dev]
) -> None:
    dev = devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    ask(place, "signal", "a", "approve", "Grace")
    ask(place, "result", "a")
    ask(place, "start", "b", "Greeting", "Bo")
    dev.stop()
    (place / "histories").mkdir()
    (place / "histories/a.json").write_text(ask(place, "history", "a", "-o", "json"))

    done = perdure(place, "check", "app.py", "--histories", "histories", "--db", "sqlite:///perdure.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 histories replayed under 4 hash seeds, 0 diverged" in done.stdout

    (place / "app.py").write_text(APP.replace('await greet(name) + f" ({by})"', '"Hello!"'))
    done = perdure(place, "check", "app.py", "--histories", "histories")
    assert done.returncode == 1
    assert "a.json: " in done.stdout
    assert "event 3" in done.stdout or "event 4" in done.stdout
    assert json.loads(perdure(place, "check", "app.py", "--histories", "histories", "-o", "json").stdout)[
        "diverged"
    ]


def test_the_order_of_a_set_is_found_by_replaying_under_other_hash_seeds(
    place: Path, devs: Callable[..., Dev]
) -> None:
    # the reader of code does not know what it gives
    hidden = "def names() -> object:\n    return {'a', 'b', 'c', 'd', 'e'}\n"
    body = (
        "@workflow.defn\nasync def unordered() -> None:\n    for name in names():\n        await "
        "greet(name)\n"
    )
    (place / "app.py").write_text(APP + hidden + body)
    dev = devs(place, "app.py")
    ask(place, "start", "a", "unordered")
    ask(place, "result", "a")
    dev.stop()
    done = perdure(place, "check", "app.py", "--db", "perdure.db")
    assert done.returncode == 1
    assert "PYTHONHASHSEED=" in done.stdout
    assert "no leaks in the code" in done.stdout


def test_a_save_starts_the_new_code_in_the_same_process_and_runs_continue(
    place: Path, devs: Callable[..., Dev]
) -> None:
    dev = devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    (place / "app.py").write_text(APP.replace("Hello, ", "Good morning, "))
    dev.wait_for("app.py changed, restarting")
    dev.wait_for("Ctrl-C stops", times=2)
    ask(place, "signal", "a", "approve", "Grace")
    assert ask(place, "result", "a") == '"Good morning, Ada! (Grace)"\n'
    assert dev.stop() == 0


def test_a_broken_save_prints_one_line_and_the_old_code_runs_until_it_is_fixed(
    place: Path, devs: Callable[..., Dev]
) -> None:
    dev = devs(place, "app.py")
    (place / "app.py").write_text(APP + "\nnonsense\n")
    said = dev.wait_for("still serving the previous version")
    assert f"app.py:{APP.count(chr(10)) + 2}: NameError" in said
    ask(place, "start", "a", "Greeting", "Ada")
    ask(place, "signal", "a", "approve", "Grace")
    assert ask(place, "result", "a") == '"Hello, Ada! (Grace)"\n'
    (place / "app.py").write_text(APP.replace("Hello", "Fixed"))
    dev.wait_for("Ctrl-C stops", times=2)
    ask(place, "start", "b", "Greeting", "Bo")
    ask(place, "signal", "b", "approve", "Grace")
    assert ask(place, "result", "b") == '"Fixed, Bo! (Grace)"\n'


def test_an_edit_that_diverges_suspends_the_run_visibly_until_it_is_fixed(
    place: Path, devs: Callable[..., Dev]
) -> None:
    two_greetings = APP.replace("        by = await", "        await greet('first')\n        by = await")
    (place / "app.py").write_text(two_greetings)
    dev = devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    (place / "app.py").write_text(APP)
    dev.wait_for("Ctrl-C stops", times=2)
    ask(place, "signal", "a", "approve", "Grace")
    until_text(
        lambda: ask(place, "list", "--status", "suspended"), "history holds activity 1 'greet' scheduled"
    )
    assert "history holds" in ask(place, "show", "a")
    checked = perdure(place, "check", "app.py", "--live", "--db", "perdure.db")
    assert checked.returncode == 0, checked
    assert "stays suspended: a: " in checked.stdout
    assert checked.stdout.splitlines()[-1] == (
        "this code breaks no running workflow; 1 suspended run stays suspended"
    )
    (place / "app.py").write_text(two_greetings)
    dev.wait_for("Ctrl-C stops", times=3)
    assert ask(place, "result", "a") == '"Hello, Ada! (Grace)"\n'


def test_an_activity_without_a_worker_is_shown_as_waiting_with_the_reason(
    place: Path, devs: Callable[..., Dev]
) -> None:
    elsewhere = (
        "\n@workflow.defn\nasync def far() -> str:\n    return await activity.named('far_away', "
        "returns=str)()\n"
    )
    (place / "app.py").write_text(APP + elsewhere)
    devs(place, "app.py")
    ask(place, "start", "a", "far")
    shown = until_text(lambda: ask(place, "show", "a"), "waits for activity far_away: waiting for a worker")
    assert "(" in shown.split("waiting for a worker")[1], "no reason is given"


def test_code_that_is_broken_after_a_restart_is_waited_for(
    place: Path, devs: Callable[..., Dev], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved twice in a row: the first was good and started the restart, the second is not."""
    (place / "app.py").write_text("nonsense\n")
    monkeypatch.setenv("PERDURE_RESTARTED", "1")
    dev = devs(place, "app.py", serves=False)
    assert "app.py:1: NameError" in dev.wait_for("waiting until it is fixed")
    (place / "app.py").write_text(APP)
    dev.wait_for("Ctrl-C stops")
    assert dev.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_such\n", "app.py:1: ModuleNotFoundError: No module named 'nothing_such'"),
        ("x = (\n", "app.py:1: '(' was never closed"),
        ("", "app.py defines no workflow"),
        (
            APP + "\n@workflow.defn(name='Greeting')\nasync def other() -> None: ...\n",
            "two workflow types have the name 'Greeting': app.Greeting (",
        ),
        (APP + "\nweb = 3\n", "app.web is int, not an ASGI application"),
    ],
)
def test_a_bad_app_is_one_line_and_exit_code_1(text: str, said: str, place: Path) -> None:
    (place / "app.py").write_text(text)
    assert said in refusal(place, "dev", "app.py")
    assert not (place / "perdure.db").exists()


def test_a_bad_database_is_one_line_and_exit_code_1(place: Path, devs: Callable[..., Dev]) -> None:
    assert "nonsense://" in refusal(place, "dev", "app.py", "--db", "nonsense://x")
    assert "missing" in refusal(place, "dev", "app.py", "--db", "missing/perdure.db")
    (place / "corrupt.db").write_bytes(b"not a database" * 1000)
    assert "corrupt.db" in refusal(place, "dev", "app.py", "--db", "corrupt.db")
    assert "check that it is a file" in refusal(place, "dev", "app.py", "--db", ".")
    devs(place, "app.py")
    assert "perdure.db" in refusal(place, "dev", "app.py")


WEB = """
async def web(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    import os
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": os.environ["PERDURE_URL"].encode()})
"""


def test_the_web_app_of_an_app_is_served_too(place: Path, devs: Callable[..., Dev]) -> None:
    (place / "app.py").write_text(APP + WEB)
    dev = devs(place, "app.py", "--port", "0")
    url = dev.wait_for("web ").split()[-1]
    with urllib.request.urlopen(url, timeout=WITHIN_S) as answer:
        assert answer.read() == b"sqlite:///perdure.db"
    assert dev.stop() == 0


def test_a_port_for_a_web_app_that_is_not_there_is_noticed(place: Path, devs: Callable[..., Dev]) -> None:
    dev = devs(place, "app.py", "--port", "0")
    said = dev.wait_for("web ")
    assert "none: app.py has no attribute `web`" in said
    assert "the HTTP API has --api-port" in said
    assert dev.stop() == 0


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(place: Path) -> None:
    (place / "app.py").write_text(APP + WEB)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refusal(place, "dev", "app.py", "--port", str(taken.getsockname()[1]))
    assert "Address already in use; choose another with --port" in said


def test_it_stops_while_an_activity_is_running_and_nothing_is_lost(
    place: Path, devs: Callable[..., Dev]
) -> None:
    slow = APP.replace(
        'return f"Hello',
        'import asyncio, pathlib\n    pathlib.Path("reached").touch()\n    await asyncio.sleep(0.3)\n    '
        'return f"Hello',
    )
    (place / "app.py").write_text(dedent(slow))
    dev = devs(place, "app.py")
    ask(place, "start", "a", "Greeting", "Ada")
    ask(place, "signal", "a", "approve", "Grace")
    until = monotonic() + WITHIN_S
    while not (place / "reached").exists() and monotonic() < until:
        sleep(0.01)
    assert dev.stop(signal.SIGTERM) == 0
    devs(place, "app.py")
    assert ask(place, "result", "a") == '"Hello, Ada! (Grace)"\n'


def test_an_instance_that_cannot_be_provided_is_one_line_with_its_place(place: Path) -> None:
    provider = """
import contextlib
from collections.abc import AsyncIterator

class Billing:
    @activity.defn
    async def charge(self) -> None: ...

@activity.provide
async def billing() -> AsyncIterator[Billing]:
    raise ConnectionError("no bank")
    yield Billing()
"""
    (place / "app.py").write_text(APP + provider)
    line = (APP + provider).partition("    raise Conn")[0].count("\n") + 1
    assert f"app.py:{line}: ConnectionError: no bank" in refusal(place, "dev", "app.py")


def test_methods_of_a_provided_instance_are_served(place: Path, devs: Callable[..., Dev]) -> None:
    provided = """
import pathlib
from collections.abc import AsyncIterator

class Ledger:
    def __init__(self) -> None:
        self.entries: list[str] = []

    @activity.defn
    def enter(self, text: str) -> list[str]:
        self.entries.append(text)
        return self.entries

@activity.provide
async def ledger() -> AsyncIterator[Ledger]:
    pathlib.Path("opened").touch()
    yield Ledger()
    pathlib.Path("closed").touch()

@workflow.defn
async def keeps(text: str) -> list[str]:
    return await Ledger.enter(text)
"""
    (place / "app.py").write_text(APP + provided)
    dev = devs(place, "app.py")
    assert "Ledger.enter" in dev.wait_for("activities ")
    for number, expected in enumerate(('["a"]', '["a","a"]')):
        ask(place, "start", f"keeps-{number}", "keeps", "a")
        assert ask(place, "result", f"keeps-{number}").replace(" ", "").replace("\n", "") == expected
    assert (place / "opened").exists()
    assert not (place / "closed").exists()
    assert dev.stop() == 0
    assert (place / "closed").exists()


ASKING = """
import os
from collections.abc import AsyncIterator
from perdure.client import Client

class Ledger:
    def __init__(self, client: Client, first: str) -> None:
        self.client, self.first = client, first

    @activity.step
    async def enter(self, text: str) -> str:
        return f"{self.first} {text} {len(await self.client.list(type='short'))}"

@activity.provide
async def ledger() -> AsyncIterator[Ledger]:
    async with Client.connect(os.environ["PERDURE_URL"]) as client:
        yield Ledger(client, await client.execute(f"of-the-provider-{os.getpid()}", short))

@workflow.defn
async def short() -> str:
    return "first"

@workflow.defn
async def keeps(text: str) -> str:
    return await Ledger.enter(text)
"""


def test_a_provider_opens_a_client_on_the_new_file_that_it_serves_and_asks_it(
    place: Path, devs: Callable[..., Dev]
) -> None:
    (place / "app.py").write_text(APP + ASKING)
    dev = devs(place, "app.py", "--db", "new.db")
    ask(place, "start", "a", "keeps", "then", "--db", "new.db")
    assert ask(place, "result", "a", "--db", "new.db") == '"first then 1"\n'
    dev.process.kill()
    dev.ended()
    devs(place, "app.py", "--db", "new.db")
    ask(place, "start", "b", "keeps", "again", "--db", "new.db")
    assert ask(place, "result", "b", "--db", "new.db") == '"first again 2"\n'


def test_steps_wait_for_a_slow_provider(place: Path, devs: Callable[..., Dev]) -> None:
    slow = """
import asyncio, pathlib
from collections.abc import AsyncIterator

@activity.provide
async def part() -> AsyncIterator[Part]:
    while not pathlib.Path("opened").exists():
        print("the provider waits", flush=True)
        await asyncio.sleep(0.05)
    yield Part("spare")
"""
    part = """
class Part:
    def __init__(self, name: str) -> None:
        self.name = name

    @activity.step(retry=activity.Retry(maximum_attempts=1))
    async def use(self) -> str:
        return self.name

@workflow.defn
async def uses() -> str:
    return await Part.use()
"""
    (place / "app.py").write_text(APP + part + slow)
    dev = devs(place, "app.py", serves=False)
    dev.wait_for("the provider waits")
    ask(place, "start", "a", "uses")
    (place / "opened").touch()
    assert ask(place, "result", "a") == '"spare"\n'


def test_a_stop_ends_the_wait_for_a_provider(place: Path, devs: Callable[..., Dev]) -> None:
    hanging = """
import asyncio
from collections.abc import AsyncIterator

class Part:
    @activity.defn
    async def use(self) -> None: ...

@activity.provide
async def part() -> AsyncIterator[Part]:
    print("the provider waits", flush=True)
    await asyncio.Event().wait()
    yield Part()
"""
    (place / "app.py").write_text(APP + hanging)
    dev = devs(place, "app.py", serves=False)
    dev.wait_for("the provider waits")
    assert dev.stop() == 0


def test_an_app_opens_a_client_on_a_new_file_while_it_is_imported(
    place: Path, devs: Callable[..., Dev]
) -> None:
    early = """
import os
from perdure.client.sync import SyncClient

early = SyncClient.connect(os.environ["PERDURE_URL"])
assert early.list() == []

@activity.defn
def count() -> int:
    return len(early.list())

@workflow.defn
async def counts() -> int:
    return await count()
"""
    (place / "app.py").write_text(APP + early)
    devs(place, "app.py", "--db", "new.db")
    ask(place, "start", "a", "counts", "--db", "new.db")
    assert ask(place, "result", "a", "--db", "new.db") == "1\n"
