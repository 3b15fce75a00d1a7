"""Generates one function that checks all positional arguments of a call.

Most arguments are text, numbers or None. For these the function only compares types, without a call
or a loop for each argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure.codec.faithful.scalars import Check


def check_of_call(
    parameters: Sequence[tuple[frozenset[type[Any]], Check]],
) -> Callable[[Sequence[Any]], None]:
    """The function that checks the arguments.

    Args:
        parameters: of each, the types that need no check (see `exact_types`), and the check of all
            others.

    Returns:
        A function that takes as many arguments as there are parameters. It raises Changed if an
            argument would change when decoded, ValueError if the number of arguments is wrong.
    """
    scope: dict[str, Any] = {}
    lines = ["def check(arguments):"]
    if not parameters:
        lines.append("    () = arguments")
    else:
        lines.append(f"    {', '.join(f'a{i}' for i in range(len(parameters)))}, = arguments")
    for i, (types, check) in enumerate(parameters):
        scope[f"check{i}"] = check
        if len(types) == 1:
            (scope[f"type{i}"],) = types
            lines.append(f"    if type(a{i}) is not type{i}: check{i}(a{i})")
        elif types:
            scope[f"types{i}"] = types
            lines.append(f"    if type(a{i}) not in types{i}: check{i}(a{i})")
        else:
            lines.append(f"    check{i}(a{i})")
    exec("\n".join(lines), scope)  # noqa: S102  built from numbers only
    found: Callable[[Sequence[Any]], None] = scope["check"]
    return found
