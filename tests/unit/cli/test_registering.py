"""Definitions that cannot work are refused at load, with file and line, by every command that loads
an app."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

HEAD: Final = """from __future__ import annotations
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Generic, TypeVar
from perdure import activity, workflow
class Plain: pass
@dataclass
class A: x: int = 0
@dataclass
class B: y: int = 0
@dataclass
class Holder: plain: Plain | None = None
T = TypeVar("T")
"""
FLOW: Final = "@workflow.defn\nclass W:\n"
RUN: Final = "    @workflow.run\n    async def run(self) -> None: ...\n"
BAD: Final = {
    "an argument of a run": FLOW + "    @workflow.run\n    async def run(self, x: Strng) -> None: ...\n",
    "a result of a run": FLOW + "    @workflow.run\n    async def run(self) -> set | list: ...\n",
    "a function workflow": "@workflow.defn\nasync def flow(x: Plain) -> None: ...\n",
    "a constructor": FLOW
    + "    def __init__(self, x: Plain) -> None: ...\n    @workflow.run\n    async def run(self, x: Plain) "
    "-> None: ...\n",
    "a signal": FLOW + RUN + "    @workflow.signal\n    def tell(self, x: Plain) -> None: ...\n",
    "an argument of a query": FLOW
    + RUN
    + "    @workflow.query\n    def ask(self, x: missing.Thing) -> int: ...\n",
    "a result of a query": FLOW + RUN + "    @workflow.query\n    def ask(self) -> list[Plain]: ...\n",
    "a view": FLOW + RUN + "    @workflow.view\n    def status(self) -> dict[str, Holder]: ...\n",
    "a trigger": FLOW
    + '    @workflow.trigger("orders", Plain, id=str)\n    @workflow.run\n    async def run(self, x: Plain) '
    "-> None: ...\n",
    "the value of a trigger": FLOW
    + '    @workflow.trigger("orders", Plain, id=str)\n    @workflow.run\n    async def run(self, x: Any) '
    "-> None: ...\n",
    "the data of a CloudEvent": "from perdure.triggers import CloudEvent\n"
    + FLOW
    + '    @workflow.trigger("orders", CloudEvent[Plain], id=str)\n    @workflow.run\n    async def '
    "run(self, x: Any) -> None: ...\n",
    "the value of a second trigger": FLOW
    + '    @workflow.trigger("more", Plain, id=str)\n    @workflow.trigger("orders", A, id=str)\n'
    + "    @workflow.run\n    async def run(self, x: Any) -> None: ...\n",
    "an argument of an activity": "@activity.defn\nasync def act(x: 'int |') -> None: ...\n",
    "a result of an activity": "@activity.defn\ndef act() -> Plain: ...\n",
    "a step": "@activity.step\ndef act(x: tuple[int, Plain]) -> None: ...\n",
    "a rest of arguments": "@activity.defn\ndef act(*rest: Plain) -> None: ...\n",
    "a keyword argument": "@activity.defn\ndef act(*, x: Plain) -> None: ...\n",
    "an annotation that is a value": "@activity.defn\ndef act(x: 5) -> None: ...\n",
    "a provider": "class Bank:\n    @activity.defn\n    async def pay(self) -> None: "
    "...\n@activity.provide\nasync "
    "def bank() -> AsyncIterator[Bnk]: yield Bank()\n",
    "two activities of one name": "@activity.defn(name='a')\ndef one() -> None: "
    "...\n@activity.defn(name='a')\ndef two() -> None: "
    "...\n",
    "two workflows of one name": "@workflow.defn(name='a')\nasync def one() -> None: "
    "...\n@workflow.defn(name='a')\nasync def two() "
    "-> None: ...\n",
}
NOT_PROVIDED: Final = "class Bank:\n    @activity.defn\n    async def pay(self) -> None: ...\n"
GOOD: Final = (
    "class Pair(NamedTuple):\n    a: int\n    b: A\nclass Row(TypedDict):\n    a: int\n"
    "@dataclass\nclass Tree:\n    left: Tree | None = None\n    rest: list[Tree] | None = None\n"
    "@activity.defn\ndef act(a: A, b: list[B], c: Any, d: object, e: Pair, f: Row, g: Tree, h=3, *r: int, "
    "k: str | None = None, **w: float) -> "
    "dict[str, tuple[A, ...]]: ...\n"
)
SHOW: Final = """
import json, sys
from pathlib import Path
from perdure import activity, workflow
from perdure.cli.error_line import one_line
from perdure.cli.loading import load_and_register
said = {}
for file in sorted(Path.cwd().glob("app_*.py")):
    for defined in (workflow.DEFINED, activity.DEFINED, activity.PROVIDERS):
        defined.clear()
    try:
        load_and_register(file.name, needs_workflows=False, runs_activities=file.stem.endswith("runs"))
    except Exception as error:
        said[file.stem] = f"{type(error).__name__} {one_line(error)}"
    else:
        said[file.stem] = "loaded"
print(json.dumps(said))
"""
COMMANDS: Final = """
import sys
from perdure.cli import main
for arguments in (
    ["dev", "app.py"],
    ["engine", "app.py", "--kafka", "127.0.0.1:1", "--namespace", "shop"],
    ["worker", "app.py", "--kafka", "127.0.0.1:1", "--namespace", "shop"],
    ["api", "app.py", "--db", "sqlite:///perdure.db", "--insecure"],
    ["check", "app.py"],
):
    sys.argv = ["perdure", *arguments]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
"""
COMMANDED: Final = ("dev", "engine", "worker", "api", "check")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The messages about each app, loaded in one process."""
    place = tmp_path_factory.mktemp("apps")
    apps = {**{f"app_{number}": text for number, text in enumerate(BAD.values())}, "app_good": GOOD}
    apps |= {"app_method": NOT_PROVIDED, "app_method_runs": NOT_PROVIDED}
    for name, text in apps.items():
        (place / f"{name}.py").write_text(HEAD + text)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOW], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_work_is_refused_at_load_with_its_place(what: str, said: dict[str, str]) -> None:
    name = f"app_{list(BAD).index(what)}"
    assert said[name].startswith("UsageError ")
    assert f"{name}.py:" in said[name]


def test_what_works_is_loaded(said: dict[str, str]) -> None:
    assert said["app_good"] == "loaded"


def test_a_method_without_a_provider_is_refused_where_activities_run(said: dict[str, str]) -> None:
    assert said["app_method"] == "loaded"
    assert "app_method_runs.py:" in said["app_method_runs"]
    assert "'Bank.pay' is a method of Bank, but no provider yields one" in said["app_method_runs"]


def test_every_command_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HEAD + BAD["a signal"])
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMANDS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stderr.split("perdure: ")[1:]
    assert len(said) == len(COMMANDED), done.stderr
    for words in said:
        assert words.startswith("app.py:")
        assert "signal 'tell' of workflow 'W': argument 'x' is of type" in words
