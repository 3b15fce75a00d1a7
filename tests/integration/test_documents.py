"""What the documents say can be done, done: every command and every program of README and howtos,
as a reader would.

Fences say how: `python file=app.py` is written to that file, `python` is run, `python excerpt` is
only parsed, of `sh` each line is run; a line that starts `perdure dev` or `perdure codec serve`
runs beside the others.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli import Dev

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
RUN = ["README.md", *(f"docs/howto/{name}.md" for name in (
    "write-a-workflow", "write-activities", "use-the-client", "failures-and-values", "test-a-workflow",
    "operate-one-machine", "steps",
    "change-code-under-running-workflows", "check-that-code-replays", "start-from-your-events", "http-api",
    "backup-and-restore", "answers-from-outside", "encrypt",
    "store-large-payloads", "pass-context", "find-workflows", "tell-operators", "undo-and-cancel", "jobs",
    "retention", "schedules", "operate-runs",
)), "docs/coming-from/celery.md"]  # fmt: skip
NOT_HERE = ("make ", "pip ", "export ", "docker ", "helm ", "kubectl ")
"""What `make test`, or another tier, does."""


def app_of(document: str) -> str:
    (text,) = re.findall(
        r"^```python file=app\.py\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL
    )
    assert isinstance(text, str)
    return text


class Reader:
    """Runs the document's commands, in a separate directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devs: list[Dev] = []
        self.servers: list[subprocess.Popen[str]] = []
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(directory)}

    def shell(self, line: str) -> None:
        if line.startswith("perdure dev "):
            arguments = line.partition("#")[0].split()[2:]
            self.devs.append(dev := Dev(self.directory, *arguments))
            dev.wait_for("database ")
        elif line.startswith("perdure codec serve "):
            self.servers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "perdure.cli", *line.partition("#")[0].split()[1:]],
                    cwd=self.directory,
                    env=self.environment,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert (said := self.servers[-1].stdout) is not None
            assert said.readline().startswith("serving the codec ")
        elif line and not line.startswith(NOT_HERE):
            self.directory = Path(self._run(["bash", "-c", f"set -e\n{line}\necho; pwd"]).rpartition("\n")[2])

    def program(self, text: str) -> None:
        self._run([sys.executable, "-c", text])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip()

    def stop(self) -> None:
        for dev in self.devs:
            assert dev.stop() == 0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    for server in reader.servers:
        with server:
            server.terminate()
    for dev in reader.devs:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.ended()


def an_app_with_an_order(reader: Reader) -> None:
    """The files that `check-that-code-replays` expects."""
    (reader.directory / "app.py").write_text(app_of("docs/howto/change-code-under-running-workflows.md"))
    (reader.directory / "tests/histories").mkdir(parents=True)
    reader.shell("perdure dev app.py")
    reader.shell("perdure workflow start order-1 Order")
    reader.shell("perdure workflow history order-1 -o json > tests/histories/order-1.json")


BEFORE: dict[str, Callable[[Reader], None]] = {"docs/howto/check-that-code-replays.md": an_app_with_an_order}


@pytest.mark.parametrize("document", RUN)
def test_what_a_document_says_can_be_done(document: str, reader: Reader) -> None:
    if document in BEFORE:
        BEFORE[document](reader)
    found = FENCE.findall((ROOT / document).read_text())
    assert found
    for language, how, text in found:
        if language == "python" and how.startswith("file="):
            (reader.directory / how.removeprefix("file=")).write_text(text)
        elif language == "python" and how == "excerpt":
            ast.parse(text)
        elif language == "python":
            reader.program(text)
        else:
            assert language == "sh", f"nobody knows how to try ```{language}"
            for line in text.splitlines():
                reader.shell(line)
    reader.stop()


def test_the_programs_of_observe_run(reader: Reader) -> None:
    programs = [
        text
        for language, _, text in FENCE.findall((ROOT / "docs/howto/observe.md").read_text())
        if language == "python"
    ]
    assert programs
    for text in programs:
        reader.program(text)


@pytest.mark.parametrize(
    "document",
    sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]),
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    for target in LINK.findall((ROOT / document).read_text()):
        assert (ROOT / document).parent.joinpath(target).exists(), target
