"""Finds, in one function or class, code that depends on the order of a set."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SET_CALLS: Final = ("set", "frozenset")
SET_TYPES: Final = ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")
SET_METHODS: Final = ("union", "intersection", "difference", "symmetric_difference", "copy")
STABLE_ITEMS: Final = ("int", "bool", "float")
"""Hashed by value, the same in every process."""
ORDER_SHOWN: Final = ("list", "tuple", "enumerate", "iter", "zip", "map", "filter", "dict.fromkeys")
"""Calls whose result depends on the order of an argument."""
ORDER_LOST: Final = ("sorted", "len", "sum", "min", "max", "any", "all", "set", "frozenset")
"""Calls whose result does not."""
SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class UnorderedNames:
    """The names that hold sets whose elements are hashed differently in each process, mainly
    text.
    """

    def __init__(self, root: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> None:
        self.parents = parents
        self.known: dict[tuple[ast.AST | None, str], bool] = {}
        for node in ast.walk(root):
            if isinstance(node, ast.AnnAssign):
                self._declare(node.target, node.annotation)
            elif isinstance(node, ast.arg) and node.annotation:
                self._declare(node, node.annotation)
        for node in ast.walk(root):
            if isinstance(node, ast.Assign) and self.is_unordered(node.value):
                for target in node.targets:
                    self.known.setdefault(self._key(target), True)

    def iterated(self, node: ast.AST) -> Iterator[ast.expr]:
        """The sets whose order this node exposes."""
        match node:
            case ast.For(iter=shown) | ast.Starred(value=shown):
                candidates = [shown]
            case ast.comprehension(iter=shown) if not self._is_order_lost(self.parents[node]):
                candidates = [shown]
            case ast.Call(func=ast.Name(id=name), args=args) if (
                name in ORDER_SHOWN and not self._is_order_lost(node)
            ):
                candidates = args
            case ast.Call(func=ast.Attribute(attr="join" | "extend"), args=args):
                candidates = args
            case ast.Call(func=ast.Attribute(attr="pop", value=owner), args=[]):
                candidates = [owner]
            case _:
                return
        yield from (candidate for candidate in candidates if self.is_unordered(candidate))

    def is_unordered(self, node: ast.expr) -> bool:
        """Whether the expression is a set of other things than numbers, as far as the source
        shows.
        """
        match node:
            case ast.Set(elts=items):
                return not all(
                    isinstance(item, ast.Constant) and isinstance(item.value, int | float) for item in items
                )
            case ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id=name), args=args) if name in SET_CALLS:
                return not (args and isinstance(args[0], ast.Call) and ast.unparse(args[0].func) == "range")
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if method in SET_METHODS:
                return self.is_unordered(owner)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return self.is_unordered(left) or self.is_unordered(right)
            case ast.Name() | ast.Attribute():
                return self._lookup(node)
            case _:
                return False

    def _declare(self, target: ast.expr | ast.arg, annotation: ast.expr) -> None:
        outer, items = (
            (annotation.value, ast.unparse(annotation.slice))
            if isinstance(annotation, ast.Subscript)
            else (annotation, "")
        )
        is_set = ast.unparse(outer).rpartition(".")[2] in SET_TYPES
        key = self._key(target)
        self.known[key] = is_set and items not in STABLE_ITEMS
        if isinstance(self.parents.get(self.parents.get(target, target), target), ast.ClassDef):
            self.known[None, f"self.{key[1]}"] = self.known[key]

    def _key(self, target: ast.expr | ast.arg) -> tuple[ast.AST | None, str]:
        """Attributes belong to the whole class, other names to the function they are in."""
        if isinstance(target, ast.arg):
            return self._scope(target), target.arg
        return (self._scope(target) if isinstance(target, ast.Name) else None), ast.unparse(target)

    def _lookup(self, node: ast.Name | ast.Attribute) -> bool:
        name = ast.unparse(node)
        if isinstance(node, ast.Attribute):
            return self.known.get((None, name), False)
        scope = self._scope(node)
        while scope is not None and (scope, name) not in self.known:
            scope = self._scope(scope)
        return self.known.get((scope, name), False)

    def _scope(self, node: ast.AST) -> ast.AST | None:
        """The function around a node."""
        above = self.parents.get(node)
        while above is not None and not isinstance(above, SCOPES):
            above = self.parents.get(above)
        return above

    def _is_order_lost(self, node: ast.AST) -> bool:
        """Whether the expression's result goes directly to a function for which order does not
        count.
        """
        if isinstance(node, ast.SetComp):
            return True
        above = self.parents.get(node)
        return (
            isinstance(above, ast.Call) and isinstance(above.func, ast.Name) and above.func.id in ORDER_LOST
        )
