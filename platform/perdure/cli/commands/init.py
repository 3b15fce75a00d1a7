"""`perdure init`: a new project that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import say

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from typing import Never


def init(
    name: Annotated[
        str,
        typer.Argument(help="Directory to create; its last part becomes the project's name.", metavar="NAME"),
    ],
) -> None:
    """Make a new project that runs: a workflow, an activity, a test."""
    from importlib.resources import files

    directory = Path(name)
    project = directory.resolve().name
    if not project.replace("-", "").replace("_", "").replace(".", "").isalnum() or not project.isascii():
        _refuse(f"{project!r} is not a valid project name: use letters, digits, '-' and '_'")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        _refuse(f"{name} exists already and is not an empty directory: choose another name")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for template in files("perdure.cli").joinpath("templates").iterdir():
            _write(template, directory, project)
    except OSError as error:
        _refuse(f"cannot make {name}: {error.strerror}: choose a directory you may write to")
    made = sorted(each.name for each in directory.iterdir())
    say(
        {"directory": name, "files": made, "next": [f"cd {name}", "perdure dev app.py"]},
        f"{name}: {', '.join(made)}\n\n  cd {name}\n  perdure dev app.py\n",
        "README.md says what to try next, and how to run the test",
    )


def _write(template: Traversable, directory: Path, project: str) -> None:
    """Write a template. Template names end in `.template`, so that no tool takes them for code;
    `{project}` is the project's name.
    """
    if template.name.endswith(".template"):
        text = template.read_text(encoding="utf-8").replace("{project}", project)
        (directory / template.name.removesuffix(".template")).write_text(text, encoding="utf-8")


def _refuse(message: str) -> Never:
    from perdure.errors import UsageError

    raise UsageError(message)
