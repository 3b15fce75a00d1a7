"""The modules of an app as syntax trees, for the checks of `perdure check`."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
ACTIVITY = ("perdure.activity.defn", "perdure.activity.step")


@dataclass
class Source:
    """One module: its names, where they come from, and what it defines at the top."""

    name: str
    file: str
    tree: ast.Module
    is_package: bool
    imports: dict[str, str] = field(default_factory=dict[str, str])
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict[ast.AST, ast.AST])
    defined: dict[str, ast.stmt] = field(default_factory=dict[str, ast.stmt])

    def __post_init__(self) -> None:
        """Collect the names."""
        for node in ast.walk(self.tree):
            self.imports.update(self._imported(node))
            self.parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
        for statement in self.tree.body:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self.defined[statement.name] = statement

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of `a.b.c`: imports followed, what the module defines under the module's
        name, builtins bare.
        """
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else None
        if isinstance(node, ast.Name):
            if node.id in self.imports:
                return self.imports[node.id]
            return f"{self.name}.{node.id}" if node.id in self.defined else node.id
        if isinstance(node, ast.Call) and self.dotted(node.func) == "pathlib.Path":
            return "pathlib.Path()"
        return None

    def _imported(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                package = self.name.split(".")
                kept = len(package) - node.level + self.is_package
                origin = ".".join(filter(None, [*package[:kept], origin]))
            for alias in node.names:
                yield alias.asname or alias.name, f"{origin}.{alias.name}"


def is_decorated(source: Source, node: ast.ClassDef | Function, names: tuple[str, ...]) -> bool:
    """Whether one of these decorators, by full name, is on a class or a function."""
    return any(
        source.dotted(mark.func if isinstance(mark, ast.Call) else mark) in names
        for mark in node.decorator_list
    )
