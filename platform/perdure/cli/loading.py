"""Loads an app, and reports a mistake in it in one line."""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.app import app_of
from perdure.codec.registered import check_registered
from perdure.errors import UsageError
from perdure.registry import Registry
from perdure.replay import guard

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True)
class App:
    """An app that has been imported.

    Attributes:
        target: the app as named on the command line.
        module: the imported module.
        directory: the directory of its code, that of its top package or of the file; `perdure dev`
            watches it.
    """

    target: str
    module: ModuleType
    directory: Path

    def modules(self) -> list[ModuleType]:
        """The app's own imported modules: those whose file is below its directory, except installed
        packages.
        """
        found: list[ModuleType] = []
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file and _is_own(Path(file), self.directory):
                found.append(module)
        return found


def load(target: str) -> App:
    """Import an app.

    Args:
        target: a file (`app.py`) or a module (`shop.app`). Its directory, or for a module the
            current one, is put on `sys.path`.

    Raises:
        UsageError: the app does not exist, or cannot be imported; one line, with your file and line
            if known.
    """
    if target.endswith(".py") or "/" in target or target in {".", ".."}:
        search, name, file = _locate(Path(target))
    else:
        search, name, file = Path.cwd(), target, None
    if str(search) not in sys.path:
        sys.path.insert(0, str(search))
    importlib.invalidate_caches()
    module = _import(target, name, search)
    if file is not None and Path(module.__file__ or "").resolve() != file:
        raise UsageError(
            f"{target}: another module named {name!r} is found first, {module.__file__}; rename the file"
        )
    return App(target, module, _home_of(module, search))


def load_and_register(
    target: str, *, needs_workflows: bool = True, runs_activities: bool = False
) -> tuple[App, Registry]:
    """Import an app and check what it defines.

    Args:
        target: a file or a module.
        needs_workflows: whether it must define a workflow, or an activity for jobs; otherwise only
            an activity helps.
        runs_activities: whether this process runs activities, so that providers for methods must
            exist.

    Raises:
        UsageError: the app cannot be imported, defines no workflow, or defines something invalid;
            with file and line.
    """
    app, registry = load_and_check(target, runs_activities=runs_activities)
    if not registry.workflows and not needs_workflows and not registry.activities:
        raise UsageError(f"{target} defines no activity: decorate a function with @activity.defn")
    if not registry.workflows and needs_workflows and not registry.activities:
        raise UsageError(
            f"{target} defines no workflow: decorate a class or a coroutine function with @workflow.defn"
        )
    return app, registry


def load_and_check(target: str, *, runs_activities: bool) -> tuple[App, Registry]:
    """As `load_and_register`, but the app may define nothing."""
    guard.install()  # before the app is imported, so that names it imports are guarded, too
    app = load(target)
    for module in app.modules():
        guard.watch_module(module)
    registry = Registry.of_everything_imported()
    registry.app = app_of(app.module)
    provided = registry.providers if runs_activities else None
    check_registered(registry.definitions, registry.activities.values(), provided)
    return app, registry


def _locate(path: Path) -> tuple[Path, str, Path]:
    """The directory to import from, the module's name, and the file. A file inside a package is
    imported as part of the package.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file; name the file or the module that defines the workflows")
    if path.is_dir():
        raise UsageError(
            f"{path} is a directory; name the file in it that defines the workflows, such as "
            f"{path / 'app.py'}"
        )
    file = path.resolve()
    parts, directory = [file.stem], file.parent
    while (directory / "__init__.py").exists():
        parts.insert(0, directory.name)
        directory = directory.parent
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"{path}: {'.'.join(parts)!r} is not a name that Python can import; use letters, digits and "
            "underscores"
        )
    if parts[0] in sys.stdlib_module_names:
        raise UsageError(f"{path}: Python already has a module named {parts[0]!r}; rename the file")
    return directory, ".".join(parts), file


def _import(target: str, name: str, directory: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise UsageError(f"{shown(error.filename or target)}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and (name == error.name or name.startswith(error.name + "."))
        ):
            raise UsageError(
                f"{target}: no module named {error.name!r} here; name the file or the module that defines "
                "the workflows"
            ) from error
        if isinstance(error, UsageError):  # its message names the place
            raise
        raise UsageError(blamed(error, target, directory)) from error


def blamed(error: BaseException, target: str, directory: Path) -> str:
    """Describe an exception of your code by its last line in the app."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = _frames_of_author(error, directory)
    return f"{shown(frames[-1].filename)}:{frames[-1].lineno}: {said}" if frames else f"{target}: {said}"


def is_of_author(error: BaseException, directory: Path) -> bool:
    """Whether the exception was raised in your code."""
    return bool(_frames_of_author(error, directory))


def _frames_of_author(error: BaseException, directory: Path) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_own(Path(frame.filename), directory)
    ]


def _home_of(module: ModuleType, otherwise: Path) -> Path:
    """The directory of the top package of a module, or of the module itself."""
    top = sys.modules[module.__name__.partition(".")[0]]
    if file := getattr(top, "__file__", None):
        return Path(file).resolve().parent
    return next((Path(place).resolve() for place in getattr(top, "__path__", [])), otherwise)


def _is_own(file: Path, directory: Path) -> bool:
    """Whether the file is yours: below the directory, and not in a virtual environment there."""
    try:
        inside = file.resolve().relative_to(directory)
    except ValueError:
        return False
    return "site-packages" not in inside.parts


def shown(file: str) -> str:
    """A path relative to the current directory, for people."""
    try:
        return str(Path(file).resolve().relative_to(Path.cwd()))
    except ValueError:
        return file
