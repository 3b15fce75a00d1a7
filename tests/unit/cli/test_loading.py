"""An app is loaded by file or by module, and a mistake in it is reported in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

SHOW = """
import json, os, sys
from perdure.cli.error_line import one_line
from perdure.cli.loading import load

def show(target):
    try:
        app = load(target)
    except Exception as error:
        return f"{type(error).__name__} {one_line(error)}"
    modules = sorted(module.__name__ for module in app.modules())
    return " ".join([app.module.__name__, str(app.directory), *modules])

for line in sys.stdin:
    target, directory = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(directory)
        print(json.dumps(show(target)), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("the child ended with an error")
"""
Load = Callable[[str, Path], str]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """In a process of its own for each app, as the command does it: `sys.path` and `sys.modules`
    are the process's. They are forks of one that has imported perdure."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SHOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin as asked, process.stdout as said:

        def loaded(target: str, cwd: Path) -> str:
            print(json.dumps([target, str(cwd)]), file=asked, flush=True)
            return str(json.loads(said.readline()))

        yield loaded


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(dedent(text))


def test_a_file_is_imported_by_its_name_with_its_neighbours(tmp_path: Path, load: Load) -> None:
    write(tmp_path, {"shop/app.py": "import prices\n", "shop/prices.py": "", "shop/other.py": ""})
    assert load("shop/app.py", tmp_path) == f"app {tmp_path / 'shop'} app prices"


def test_a_file_in_a_package_is_imported_as_part_of_it(tmp_path: Path, load: Load) -> None:
    write(tmp_path, {"shop/__init__.py": "", "shop/app.py": "from . import prices\n", "shop/prices.py": ""})
    assert load("shop/app.py", tmp_path) == f"shop.app {tmp_path / 'shop'} shop shop.app shop.prices"


def test_a_module_is_found_from_the_current_directory(tmp_path: Path, load: Load) -> None:
    write(tmp_path, {"shop/__init__.py": "", "shop/app.py": ""})
    assert load("shop.app", tmp_path) == f"shop.app {tmp_path / 'shop'} shop shop.app"


def test_what_is_installed_below_the_app_is_not_its_own(tmp_path: Path, load: Load) -> None:
    site = tmp_path / ".venv/lib/site-packages"
    write(tmp_path, {"app.py": f"import sys; sys.path.append({str(site)!r}); import installed\n"})
    write(site, {"installed.py": ""})
    assert load("app.py", tmp_path) == f"app {tmp_path} app"


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        (
            "nowhere.py",
            "",
            "nowhere.py: no such file; name the file or the module that defines the workflows",
        ),
        (
            "nowhere.app",
            "",
            (
                "nowhere.app: no module named 'nowhere' here; name the file or the module that defines the "
                "workflows"
            ),
        ),
        (".", "", ". is a directory; name the file in it that defines the workflows, such as app.py"),
        ("./", "", ". is a directory; name the file in it that defines the workflows, such as app.py"),
        (
            "bad-name.py",
            "",
            (
                "bad-name.py: 'bad-name' is not a name that Python can import; use letters, digits and "
                "underscores"
            ),
        ),
        ("string.py", "", "string.py: Python already has a module named 'string'; rename the file"),
        ("app.py", "x = (\n", "app.py:1: '(' was never closed"),
        (
            "app.py",
            "import os\nimport missing_thing\n",
            "app.py:2: ModuleNotFoundError: No module named 'missing_thing'",
        ),
        ("app.py", "def f():\n    return 1 / 0\nf()\n", "app.py:2: ZeroDivisionError: division by zero"),
        (
            "app.py",
            "import json\njson.loads('{')\n",
            "app.py:2: JSONDecodeError: Expecting property name enclosed in double quotes",
        ),
        ("app.py", "raise SystemExit(3)\n", "app.py:1: SystemExit: 3"),
        ("app.py", "raise RuntimeError('two\\nlines')\n", "app.py:1: RuntimeError: two lines"),
    ],
)
def test_a_bad_app_is_one_line(target: str, text: str, said: str, tmp_path: Path, load: Load) -> None:
    if text or target in ("string.py", "bad-name.py"):
        write(tmp_path, {target: text})
    assert load(target, tmp_path).startswith(f"UsageError {said}")


def test_a_mistake_that_perdure_finds_names_its_own_line(tmp_path: Path, load: Load) -> None:
    write(
        tmp_path,
        {
            "app.py": "from perdure import activity\n\n\n@activity.defn(timeout='soon')\ndef f() -> None: "
            "...\n"
        },
    )
    assert load("app.py", tmp_path).startswith("UsageError app.py:")
