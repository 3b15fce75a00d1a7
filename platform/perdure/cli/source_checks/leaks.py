"""Checks workflow code for calls that a replay would not repeat (clocks, random numbers, files,
network, threads, the order of sets) and for missing `await`.

Pure: source text in, findings out. It reads classes and functions decorated with `workflow.defn`,
and every function of the app that they call, except activities.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.cli.source_checks.forgotten_awaits import ForgottenAwaits
from perdure.cli.source_checks.leak_table import advice
from perdure.cli.source_checks.source_tree import ACTIVITY, Function, Source, is_decorated
from perdure.cli.source_checks.unordered import UnorderedNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

WORKFLOW = "perdure.workflow.defn"
IGNORED_TIME = (
    "the result of wait_until(timeout=...) is ignored: on a timeout it is falsy and nothing is raised; "
    "check it, or write `_ = await ...`"
)


@dataclass(frozen=True, order=True)
class Leak:
    """A place in workflow code that may differ on a replay.

    Attributes:
        file: the file's display name.
        line: from 1.
        what: the leak, and what to use instead.
    """

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        """`file:line: what`, as compilers say it."""
        return f"{self.file}:{self.line}: {self.what}"


def find_leaks(sources: Mapping[str, tuple[str, str]]) -> list[Leak]:
    """The leaks in the workflow code of an app, by file and line.

    Args:
        sources: by module name: the file's display name, and its text.
    """
    project = {
        name: Source(name, file, ast.parse(text), is_package=file.endswith("__init__.py"))
        for name, (file, text) in sources.items()
    }
    return sorted(_Scan(project).leaks())


class _Scan:
    """Follows calls from the workflows."""

    def __init__(self, project: Mapping[str, Source]) -> None:
        self.project = project
        self.seen: set[int] = set()
        self.queue: list[tuple[Source, ast.stmt]] = []

    def leaks(self) -> Iterable[Leak]:
        for source in self.project.values():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef | Function) and is_decorated(source, node, (WORKFLOW,)):
                    self._add(source, node)
        found: set[Leak] = set()
        while self.queue:
            source, node = self.queue.pop()
            found.update(self._scan(source, node))
        return found

    def _add(self, source: Source, node: ast.stmt) -> None:
        if id(node) not in self.seen:
            self.seen.add(id(node))
            self.queue.append((source, node))

    def _scan(self, source: Source, root: ast.stmt) -> Iterator[Leak]:
        if isinstance(root, ast.ClassDef):
            for parent in root.bases:
                self._follow(source, parent)
        unordered = UnorderedNames(root, source.parents)
        forgotten = ForgottenAwaits(self.project, source, root)
        for node in _inside(source, root):
            if isinstance(node, ast.Call):
                self._follow(source, node.func)
            if isinstance(node, ast.Attribute | ast.Name) and (
                what := advice(source.dotted(node), _call_of(source, node))
            ):
                yield Leak(source.file, node.lineno, what)
            if isinstance(node, ast.Expr) and _ignores_the_time(source, node):
                yield Leak(source.file, node.lineno, IGNORED_TIME)
            if what := forgotten.message(node):
                yield Leak(source.file, node.lineno, what)  # type: ignore[attr-defined]
            for iterated in unordered.iterated(node):
                yield Leak(
                    source.file,
                    iterated.lineno,
                    "the order of a set differs in each process: iterate over sorted(...), or use a list or "
                    "a dict",
                )

    def _follow(self, source: Source, called: ast.expr) -> None:
        """Queue a called function or a base class, if the app defines it and it is not an
        activity.
        """
        full = source.dotted(called)
        if full is None:
            return
        owner, _, name = full.rpartition(".")
        target = self.project.get(owner)
        if target is None or name not in target.defined:
            return
        node = target.defined[name]
        if isinstance(node, ast.ClassDef | Function) and not is_decorated(target, node, ACTIVITY):
            self._add(target, node)


def _ignores_the_time(source: Source, node: ast.Expr) -> bool:
    """Whether the node is a statement `await workflow.wait_until(..., timeout=...)`."""
    match node:
        case ast.Expr(value=ast.Await(value=ast.Call(func=func, keywords=keywords))):
            return source.dotted(func) == "perdure.workflow.wait_until" and any(
                each.arg == "timeout" for each in keywords
            )
        case _:
            return False


def _inside(source: Source, root: ast.stmt) -> Iterator[ast.AST]:
    """Everything that runs when the workflow runs: not decorators, annotations, nor activities
    defined inside.
    """
    stack: list[ast.AST] = [root]
    while stack:
        node = stack.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | Function) and is_decorated(source, child, ACTIVITY):
                continue
            if isinstance(child, ast.arguments):
                stack.extend([*child.defaults, *filter(None, child.kw_defaults)])
                continue
            if child in getattr(node, "decorator_list", ()) or child in (
                getattr(node, "annotation", None),
                getattr(node, "returns", None),
            ):
                continue
            stack.append(child)


def _call_of(source: Source, node: ast.expr) -> ast.Call | None:
    """The call that the expression is the function of."""
    parent = source.parents.get(node)
    return parent if isinstance(parent, ast.Call) and parent.func is node else None
