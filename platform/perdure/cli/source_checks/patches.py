"""Finds the patches in an app's code."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def patches_in(sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """`file:line` and id of each call of `patched("…")`; an id that is not written there is not
    found.

    Args:
        sources: the code, by the name of its file.
    """
    for file, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name == "patched" and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield f"{file}:{node.lineno}", first.value
