"""Plant random bugs in a folder and report which of them no test finds: where the tests look away.

    python -m tests.mutants.sample platform/perdure/core --tests tests/unit tests/simulation --count
    20 --seed 1

Each bug is one small change of the syntax tree: a comparison turned, a constant off by one, a
condition negated, a statement left out, an operator exchanged. A survivor is either equivalent, or
a rule that wants a test; a bug worth keeping goes into the catalogue.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutants.catalogue import HOUSE, Mutant
from tests.mutants.run import attempt_all

COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}


def _changes(node: ast.AST, line: bytes) -> Iterator[str]:
    """The replacements for a node that stands in one line."""

    def source(part: ast.expr) -> str:
        return line[part.col_offset : part.end_col_offset].decode()

    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield f"{source(left)} {COMPARISONS[type(op)]} {source(right)}"
        case ast.BoolOp(op=op, values=[first, second]):
            yield f"{source(first)} {'or' if isinstance(op, ast.And) else 'and'} {source(second)}"
            yield source(second)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            yield f"{source(left)} {'-' if isinstance(op, ast.Add) else '+'} {source(right)}"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield source(operand)
        case ast.Constant(value=bool() as value):
            yield str(not value)
        case ast.Constant(value=int() as value):
            yield str(value + 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield f"{source(orelse)} if {source(test)} else {source(body)}"
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Continue():
            yield "pass"
        case _:
            pass


def mutants_of(file: Path, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Every small change of a file."""
    text = file.read_text()
    lines = text.splitlines(keepends=True)
    name = str(file.relative_to(HOUSE))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.expr | ast.stmt) or node.end_lineno != node.lineno:
            continue  # one line each: such a bug is easy to read
        line = lines[node.lineno - 1]
        encoded = line.encode()
        for number, change in enumerate(_changes(node, encoded)):
            changed = (encoded[: node.col_offset] + change.encode() + encoded[node.end_col_offset :]).decode()
            # The lines before make the text unique.
            for above in range(min(6, node.lineno)):
                before = "".join(lines[node.lineno - 1 - above : node.lineno - 1])
                if text.count(before + line) == 1:
                    ident = (
                        f"{name}:{node.lineno}:{node.col_offset}:{number}: {line.strip()[:60]} -> "
                        f"{changed.strip()[:60]}"
                    )
                    yield Mutant(ident, name, before + line, before + changed, tests)
                    break


def main() -> int:
    """Sample a folder.

    Returns:
        The process's exit code: 0, whatever survived.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, help="files or folders to plant bugs in")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest is given")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    files = [
        file for path in options.paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
    ]
    every = [mutant for file in files for mutant in mutants_of(file.resolve(), tuple(options.tests))]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    trials = attempt_all(chosen, options.jobs)
    survivors = [trial.id for trial in trials if trial.outcome == "survived"]
    print(json.dumps({"possible": len(every), "tried": len(trials), "survived": survivors}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
