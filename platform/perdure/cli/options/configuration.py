"""`perdure.toml`: the same names as the options, for all commands or for one.

    kafka = "localhost:9092"
    namespace = "shop"

    [settings]                     # of librdkafka
    "security.protocol" = "SASL_SSL"

    [worker]
    concurrency = 50

An option overrides the environment (`PERDURE_…`), the environment overrides the file, and the file
overrides the defaults.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.errors import UsageError

if TYPE_CHECKING:
    import click

FILE: Final = "perdure.toml"


def defaults_of(path: Path, root: click.Group) -> dict[str, Any]:
    """The file's options, as click's `default_map`.

    Args:
        path: the file.
        root: the root of all commands.

    Raises:
        UsageError: the file cannot be read, or has a name that no command knows.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"the file of options {path} cannot be read ({error.strerror}): see --config and PERDURE_CONFIG"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    settings: dict[str, Any] = found.pop("settings", {})
    tables: dict[str, Any] = {name: value for name, value in found.items() if isinstance(value, dict)}
    shared = {name: value for name, value in found.items() if name not in tables}
    if settings:
        shared["settings"] = [f"{name}={value}" for name, value in settings.items()]
    known = _parameters(root)
    if unknown := sorted({name.replace("-", "_") for name in shared} - known):
        raise UsageError(f"{path}: no perdure command has the option {unknown[0]!r}")
    return _map(path, root, shared, tables)


def _map(path: Path, group: click.Group, shared: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(tables) - set(group.commands)):
        raise UsageError(
            f"{path}: unknown command {unknown[0]!r}; known: {', '.join(sorted(group.commands))}"
        )
    result: dict[str, Any] = {}
    for name, command in group.commands.items():
        own: dict[str, Any] = tables.get(name, {})
        if inner := getattr(command, "commands", None):
            inner_tables: dict[str, Any] = {
                key: value for key, value in own.items() if key in inner and isinstance(value, dict)
            }
            rest = {key: value for key, value in own.items() if key not in inner_tables}
            result[name] = _map(path, cast("click.Group", command), {**shared, **rest}, inner_tables)
            continue
        own = {key.replace("-", "_"): value for key, value in own.items()}
        if unknown := sorted(set(own) - {parameter.name for parameter in command.params}):
            raise UsageError(f"{path}: `perdure {name}` has no option {unknown[0]!r}")
        result[name] = {**{key.replace("-", "_"): value for key, value in shared.items()}, **own}
    return result


def _parameters(group: click.Group) -> set[str]:
    found: set[str] = set()
    for command in group.commands.values():
        if hasattr(command, "commands"):
            found |= _parameters(cast("click.Group", command))
        else:
            found.update(parameter.name or "" for parameter in command.params)
    return found
