"""Counts words of the old private dialect in docstrings, messages and documents; prints JSON.

    python -m tests.language            counts, per 1,000 words of docstring
    python -m tests.language --list     each place, one a line

`tests/unit/test_house.py` holds the limits. A phrase belongs here when a plainer one says the same:
see STYLE.md.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOUSE = Path(__file__).parents[1]
ROOTS = ("platform", "workers", "api", "schemas")

#: Each pattern, and what to write instead.
PHRASES: dict[str, str] = {
    r"\banew\b": "again",
    r"\bwhoever\b|\bwhomever\b": "anyone who; name the actor",
    r"\bwhither\b|\bwherein\b|\bthereof\b|\bforthwith\b": "a plain word",
    r"\b(?:lies|lie) (?:in|on|at|there|beside|under|elsewhere)\b": "is stored in, is at",
    r"\b(?:is|are|be|was|were) (?:never )?told\b|\btold in\b": "name who reports what to whom",
    r"\b[Ll]et(?:s|ting)? go\b": "release",
    r"\b(?:held|hold|holds) (?:\w+ )?against\b": "check against, validate",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\b(?:come|comes|came) again\b": "returns, is retried",
    r"\bshall\b": "must, will, should",
    r"\bin words\b": "as text",
    r"\bat once\b": "immediately; at the same time",
    r"\bthe how many-?th\b": "the number of",
    r"\b(?:longer|more|less) than nothing\b": "positive",
    r"\bis none of\b": "must be one of",
    r"\bgo(?:es)? on\b": "continue",
    r"\bhow far\b": "the position of",
    r"\basks? nobody\b": "name who asks whom",
    r"\bnothing (?:is|was) lost\b|\bnothing of it is lost\b": "no data is lost",
    r"\bthe authors?\b": "you (in documents); workflow code",
    r"\bsay goodbye\b|\bsend away\b": "close",
    r"\bis not heard of\b|\bis heard of\b|\bwas heard of\b": "knows of; receives",
}
#: Patterns that no docstring may have; in messages and documents some of them are plain English.
DOCSTRING_PHRASES: dict[str, str] = {
    r"\b(?:no|some|any|every)body\b": "name the actor; no caller, anyone",
    r"\bhears?\b": "receives, gets",
    r"\b(?:by|of) itself\b": "automatically, on its own",
    r"\bmakes? no sense\b": "is invalid",
    r"\bsaid to be\b|\bis said\b": "name who reports it",
    r"\bstrangers?\b": "unauthenticated caller, another program",
    r"\ban heir\b": "the next owner",
    r"\bso many\b": "the number, at most",
}
DOCSTRING_PATTERN = re.compile("|".join(f"(?:{each})" for each in DOCSTRING_PHRASES), re.IGNORECASE)
PATTERN = re.compile("|".join(f"(?:{phrase})" for phrase in PHRASES), re.IGNORECASE)
#: A docstring that begins with a clause in place of a noun.
OPENING = re.compile(r"(?:What|Who|Whoever|Whom|Whose|Where|How(?! (?:long|late|often|many)))\b")
WORD = re.compile(r"[A-Za-z][\w'-]*")


class Place(NamedTuple):
    """A phrase that was found."""

    file: str
    line: int
    phrase: str
    is_docstring: bool


class Text(NamedTuple):
    """A docstring, or a message: a string that a person reads."""

    line: int
    text: str
    is_docstring: bool


@functools.cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Every node of a module, which comes first; read once in a process."""
    return tuple(ast.walk(ast.parse(file.read_text())))


@functools.cache
def texts_of(file: Path) -> tuple[Text, ...]:
    """Docstrings, and strings of several words, of a module; read once in a process."""
    return tuple(_texts(nodes_of(file)))


def _texts(nodes: tuple[ast.AST, ...]) -> Iterator[Text]:
    documented: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            match first:
                case ast.Expr(value=ast.Constant(value=str(docstring))):
                    documented.add(id(first.value))
                    yield Text(first.lineno, docstring, is_docstring=True)
                case _:
                    pass
    inner: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            inner |= {id(each) for each in ast.walk(node) if each is not node}
            yield Text(node.lineno, _joined(node), is_docstring=False)
    for node in nodes:
        if not isinstance(node, ast.Constant) or id(node) in documented or id(node) in inner:
            continue
        if isinstance(node.value, str) and " " in node.value:
            yield Text(node.lineno, node.value, is_docstring=False)


def _joined(node: ast.JoinedStr) -> str:
    parts = (each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
    return "".join(str(part) for part in parts)


def found(text: str) -> Iterator[tuple[int, str]]:
    """Each phrase of the list in a text: the offset of its line, and the phrase."""
    for match in PATTERN.finditer(text):
        yield text.count("\n", 0, match.start()), match.group()


def gone(files: list[Path]) -> Iterator[Place]:
    """Each phrase that docstrings may not have, and each docstring that opens with a clause."""
    for file in files:
        name = str(file.relative_to(HOUSE))
        for line, text, is_docstring in texts_of(file):
            if not is_docstring:
                continue
            if opening := OPENING.match(text):
                yield Place(name, line, opening.group(), is_docstring=True)
            for match in DOCSTRING_PATTERN.finditer(text):
                yield Place(name, line + text.count("\n", 0, match.start()), match.group(), is_docstring=True)


def prose(document: str) -> str:
    """A document without its code, line for line."""
    lines: list[str] = []
    is_code = False
    for line in document.splitlines():
        if line.lstrip().startswith("```"):
            is_code = not is_code
            lines.append("")
        else:
            lines.append("" if is_code else re.sub(r"`[^`]*`", "``", line))
    return "\n".join(lines)


def places(files: list[Path]) -> Iterator[Place]:
    """Each phrase in docstrings, messages and documents of these files."""
    for file in files:
        name = str(file.relative_to(HOUSE))
        if file.suffix == ".md":
            for offset, phrase in found(prose(file.read_text())):
                yield Place(name, offset + 1, phrase, is_docstring=False)
            continue
        for line, text, is_docstring in texts_of(file):
            if is_docstring and (opening := OPENING.match(text)):
                yield Place(name, line, opening.group(), is_docstring=True)
            for offset, phrase in found(text):
                yield Place(name, line + offset, phrase, is_docstring)


def counted(files: list[Path]) -> dict[str, object]:
    """Phrases in docstrings per 1,000 words, and the phrases themselves."""
    words, phrases, openings = 0, Counter[str](), 0
    for file in files:
        for _, text, is_docstring in texts_of(file):
            if is_docstring:
                words += len(WORD.findall(text))
                openings += bool(OPENING.match(text))
                phrases.update(phrase.lower() for _, phrase in found(text))
    total = sum(phrases.values()) + openings
    return {
        "files": len(files),
        "docstring_words": words,
        "phrases": sum(phrases.values()),
        "openings": openings,
        "per_1000_words": round(1000 * total / max(1, words), 2),
        "most": dict(phrases.most_common(20)),
    }


def product() -> list[Path]:
    """The product's modules."""
    return sorted(file for root in ROOTS for file in (HOUSE / root).rglob("*.py"))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--list", action="store_true", help="each place instead of the counts")
    options.add_argument("files", nargs="*", type=Path, help="default: the product")
    chosen = options.parse_args()
    named = [file.resolve() for file in chosen.files] or product()
    if chosen.list:
        sys.stdout.writelines(f"{each.file}:{each.line}: {each.phrase}\n" for each in places(named))
    else:
        sys.stdout.write(json.dumps(counted(named), indent=2) + "\n")
