"""Finds, in one function or class, calls whose value is used without `await`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from perdure.cli.source_checks.source_tree import ACTIVITY, Function, Source, is_decorated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AWAITABLE: Final = (
    "perdure.workflow.sleep",
    "perdure.workflow.wait_until",
    "asyncio.sleep",
    "asyncio.wait",
    "asyncio.wait_for",
)
VALUE_CALLS: Final = (
    "abs", "all", "any", "bool", "bytes", "divmod", "enumerate", "filter", "float", "format", "hash", "int",
    "isinstance", "iter",
    "len", "map", "max", "min", "next", "pow", "print", "repr", "reversed", "round", "sorted", "str", "sum",
    "zip",
)  # fmt: skip
"""Builtins that need the value of an argument."""
OF_COROUTINES: Final = ("close", "send", "throw")
ENDINGS: Final = (
    "perdure.workflow.run",
    "perdure.workflow.signal",
    "perdure.workflow.on_signal",
    "perdure.workflow.defn",
)
"""Functions whose result is never awaited."""


class ForgottenAwaits:
    """Knows the calls that must be awaited.

    Args:
        project: all modules of the app, by name.
        source: the module.
        root: the class or the function to check.
    """

    def __init__(self, project: Mapping[str, Source], source: Source, root: ast.stmt) -> None:
        self.project = project
        self.source = source
        self.root = root

    def message(self, node: ast.AST) -> str:
        """The fault of a node; empty: it is not a call that must be awaited, or it is awaited."""
        if not isinstance(node, ast.Call) or not self._must_be_awaited(node):
            return ""
        if not self._is_value(node) and not self._is_held_for_nothing(node):
            return ""
        return f"`await` is missing before {ast.unparse(node.func)}(...): without it the call has no value"

    def _must_be_awaited(self, call: ast.Call) -> bool:
        match call.func:
            case ast.Call(func=ast.Attribute(value=activity, attr="options")):
                return self._is_activity(activity)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return _is_awaitable(self.source, self._method(name))
            case _:
                return self.source.dotted(call.func) in AWAITABLE or _is_awaitable(*self._found(call.func))

    def _is_activity(self, node: ast.expr) -> bool:
        source, found = self._found(node)
        return found is not None and is_decorated(source, found, ACTIVITY)

    def _found(self, node: ast.expr) -> tuple[Source, Function | None]:
        """The function of the app that an expression names, and its module."""
        full = self.source.dotted(node) or ""
        owner, _, name = full.rpartition(".")
        if owner in self.project:
            found = self.project[owner].defined.get(name)
            return self.project[owner], found if isinstance(found, Function) else None
        module, _, kind = owner.rpartition(".")
        if module in self.project:
            found = self.project[module].defined.get(kind)
            return self.project[module], _member(found, name) if isinstance(found, ast.ClassDef) else None
        return self.source, None

    def _method(self, name: str) -> Function | None:
        return _member(self.root, name) if isinstance(self.root, ast.ClassDef) else None

    def _is_value(self, node: ast.expr) -> bool:
        """Whether the code around an expression needs the value that only `await` gives."""
        above = self.source.parents.get(node)
        match self.source.parents.get(above) if isinstance(above, ast.keyword) else above:
            case (
                ast.Expr() | ast.If() | ast.While() | ast.Assert() | ast.BoolOp() | ast.UnaryOp()
                | ast.Compare() | ast.BinOp()
                | ast.AugAssign() | ast.FormattedValue() | ast.For() | ast.AsyncFor() | ast.comprehension()
                | ast.Match() | ast.withitem()
                | ast.Raise()
            ):  # fmt: skip
                return True
            case ast.IfExp(test=needed) | ast.Subscript(value=needed):
                return needed is node
            case ast.Attribute(attr=name):
                return name not in OF_COROUTINES
            case ast.Return():
                return self._returns_to_nobody(node)
            case ast.Call(func=ast.Name(id=name)) if name in VALUE_CALLS:
                return True
            case ast.Call(func=called) as call if called is not node:
                return self._is_activity(called) or (
                    isinstance(called, ast.Call) and self._must_be_awaited(call)
                )
            case _:
                return False

    def _returns_to_nobody(self, node: ast.AST) -> bool:
        above = _function_around(self.source, node)
        return isinstance(above, ast.AsyncFunctionDef) and is_decorated(self.source, above, ENDINGS)

    def _is_held_for_nothing(self, call: ast.Call) -> bool:
        """Whether the call is assigned to a name or an attribute that is neither awaited nor passed
        on.
        """
        match self.source.parents.get(call):
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                pass
            case _:
                return False
        match target:
            case ast.Name(id=name):
                uses = [use for use in self._names(target) if use.id == name]
                stored = [use for use in uses if isinstance(use.ctx, ast.Store)]
                loaded = [use for use in uses if isinstance(use.ctx, ast.Load)]
                return len(stored) == 1 and all(map(self._is_value, loaded))
            case ast.Attribute(attr=name):
                return not any(
                    isinstance(use, ast.Attribute) and use.attr == name and self._is_passed_on(use)
                    for use in ast.walk(self.source.tree)
                )
            case _:
                return False

    def _names(self, node: ast.AST) -> Iterator[ast.Name]:
        around = _function_around(self.source, node)
        for each in ast.walk(around) if around is not None else ():
            if isinstance(each, ast.Name):
                yield each
            elif isinstance(each, ast.Global | ast.Nonlocal):
                yield from (ast.Name(name, ast.Store()) for name in each.names)

    def _is_passed_on(self, use: ast.Attribute) -> bool:
        """Whether an attribute is awaited, or given to asyncio."""
        above = self.source.parents.get(use)
        while isinstance(above, ast.Starred | ast.List | ast.Tuple | ast.Subscript):
            above = self.source.parents.get(above)
        if isinstance(above, ast.Call):
            called = self.source.dotted(above.func) or ""
            return called.startswith("asyncio.") or called.endswith(".create_task")
        return isinstance(above, ast.Await)


def _is_awaitable(source: Source, found: Function | None) -> bool:
    if found is None:
        return False
    if is_decorated(source, found, ACTIVITY):
        return True
    return isinstance(found, ast.AsyncFunctionDef) and not found.decorator_list and not _yields(found)


def _yields(function: ast.AsyncFunctionDef) -> bool:
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Yield):
            return True
        if not isinstance(node, ast.Lambda | ast.ClassDef | Function):
            todo += ast.iter_child_nodes(node)
    return False


def _member(kind: ast.stmt | None, name: str) -> Function | None:
    for statement in kind.body if isinstance(kind, ast.ClassDef) else ():
        if isinstance(statement, Function) and statement.name == name:
            return statement
    return None


def _function_around(source: Source, node: ast.AST) -> Function | None:
    above = source.parents.get(node)
    while above is not None and not isinstance(above, Function):
        above = source.parents.get(above)
    return above
