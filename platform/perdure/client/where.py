"""Conditions on attributes, as text: `cents < 500 and (rush = true or city in ('Bari', 'Rome'))`.

`parsed` makes a tree of it; `holds` decides it for the attributes of one workflow. A reader that
translates the tree has to find the same workflows.

    condition:  condition or condition | condition and condition | not condition | (condition)
                name = value | name != value | name < value | <= | > | >=
                name in (value, …) | name starts with value
    name:       letters, digits, `_`, `-` and `.`; anything else in "double quotes"
    value:      'text', a number, true, false, null; two quotes in a text stand for one

A comparison with an attribute that a workflow does not have is false, and so is `<` between a
number and a text. Numbers are compared by value, texts by their characters' numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import Any, Final, Literal, TypeAlias, cast

from perdure.errors import RequestRefused
from perdure.model.limits import is_unicode

Scalar: TypeAlias = str | int | float | bool | None
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "starts with"]

LONGEST: Final = 4_096
"""Characters of a condition."""
DEEPEST: Final = 50
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*') | (?P<quoted>"(?:[^"]|"")+") |
        (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])) |
        (?P<word>[^\W\d][\w.-]*) | (?P<sign><=|>=|!=|[=<>(),]) | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_INT64: Final = range(-(2**63), 2**63)
_CONSTANTS: Final[Mapping[str, Scalar]] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute, compared.

    Attributes:
        name: of the attribute.
        operator: `in` has several values, the others one.
        values: to compare with.
    """

    name: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Several:
    """All of them, or any of them."""

    kind: Literal["and", "or"]
    conditions: tuple[Condition, ...]


Condition: TypeAlias = Comparison | Not | Several


@lru_cache(256)
def parsed(text: str) -> Condition:
    """The tree of a condition.

    Raises:
        RequestRefused: it is none; the message says where.
    """
    if len(text) > LONGEST:
        raise RequestRefused(f"the condition is {len(text)} characters long, the limit is {LONGEST}")
    if not is_unicode(text):
        raise RequestRefused("the condition is not valid Unicode")
    return _Parser(text).whole()


def holds(condition: Condition, attributes: Mapping[str, Any]) -> bool:
    """Whether a condition is true.

    Args:
        condition: of `parsed`.
        attributes: of one workflow.
    """
    match condition:
        case Comparison():
            if condition.name not in attributes:
                return False
            return _is_true(condition.operator, attributes[condition.name], condition.values)
        case Not():
            return not holds(condition.condition, attributes)
        case Several(kind="and"):
            return all(holds(each, attributes) for each in condition.conditions)
        case Several():
            return any(holds(each, attributes) for each in condition.conditions)


def is_equal(found: object, wanted: Scalar) -> bool:
    """Whether two values of JSON are the same: numbers by value, and no number is true or false."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return type(found) in {str, int, float, type(None)} and cast("object", wanted) == found


def _is_true(operator: Operator, found: Any, values: tuple[Scalar, ...]) -> bool:
    match operator:
        case "=" | "in":
            return any(is_equal(found, each) for each in values)
        case "!=":
            return not is_equal(found, values[0])
        case "starts with":
            return isinstance(found, str) and found.startswith(str(values[0]))
        case _:
            wanted: Any = values[0]
            return _kind_of(found) == _kind_of(wanted) != "" and _ORDER[operator](found, wanted)


def _kind_of(value: object) -> str:
    """Values of one kind can be compared by size; empty: with nothing."""
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else ""


class _Parser:
    """Reads one condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._depth = 0
        self._next()

    def whole(self) -> Condition:
        found = self._any()
        if not self._is_kind("end"):
            raise self._fault("`and`, `or` or the end")
        return found

    def _read(self) -> Iterator[tuple[str, str, int]]:
        position = 0
        while True:
            found = _TOKEN.match(self._text, position)
            if found is None or found.lastgroup is None:
                yield "bad", self._text[position:].strip()[:20], position
                return
            yield found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)
            position = found.end()

    def _next(self) -> None:
        self._kind, self._found, self._at = next(self._tokens, ("end", "", len(self._text)))
        self._word = self._found.lower() if self._kind == "word" else ""

    def _any(self) -> Condition:
        return self._several("or", lambda: self._several("and", self._one))

    def _several(self, kind: Literal["and", "or"], part: Callable[[], Condition]) -> Condition:
        found = [part()]
        while self._is_word(kind):
            self._next()
            found.append(part())
        return found[0] if len(found) == 1 else Several(kind, tuple(found))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise RequestRefused(f"the condition is nested more than {DEEPEST} deep")
        try:
            if self._is_word("not"):
                self._next()
                return Not(self._one())
            if self._is_sign("("):
                self._next()
                found = self._any()
                self._expect(")")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        if self._is_kind("quoted"):
            name = self._found[1:-1].replace('""', '"')
        elif self._kind == "word" and self._word not in {"and", "or", "in"}:
            name = self._found
        else:
            raise self._fault("the name of an attribute")
        self._next()
        if self._is_word("in"):
            self._next()
            return Comparison(name, "in", self._list())
        if self._is_word("starts"):
            self._next()
            if not self._is_word("with"):
                raise self._fault("`with`")
            self._next()
            if not self._is_kind("text"):
                raise self._fault("a 'text'")
            return Comparison(name, "starts with", (self._value(),))
        sign: Any = self._found
        if not self._is_kind("sign") or sign in "(),":
            raise self._fault("=, !=, <, <=, >, >=, `in` or `starts with`")
        self._next()
        return Comparison(name, sign, (self._value(),))

    def _list(self) -> tuple[Scalar, ...]:
        self._expect("(")
        values = [self._value()]
        while self._is_sign(","):
            self._next()
            values.append(self._value())
        self._expect(")")
        return tuple(values)

    def _value(self) -> Scalar:
        value: Scalar
        if self._is_kind("text"):
            value = self._found[1:-1].replace("''", "'")
        elif self._is_kind("number"):
            value = self._number()
        elif self._word in _CONSTANTS:
            value = _CONSTANTS[self._word]
        else:
            raise self._fault("a value: 'text', a number, true, false or null")
        self._next()
        return value

    def _number(self) -> int | float:
        if set(self._found) <= set("-0123456789"):
            whole = int(self._found)
            if whole not in _INT64:
                raise RequestRefused(f"{self._found} has more than 64 bits")
            return whole
        number = float(self._found)
        if number - number:  # infinite
            raise RequestRefused(f"{self._found} is too large")
        return number

    def _expect(self, sign: str) -> None:
        if not self._is_sign(sign):
            raise self._fault(f"`{sign}`")
        self._next()

    def _is_kind(self, kind: str) -> bool:
        return self._kind == kind

    def _is_word(self, word: str) -> bool:
        return self._word == word

    def _is_sign(self, sign: str) -> bool:
        return self._kind == "sign" and self._found == sign

    def _fault(self, wanted: str) -> RequestRefused:
        found = repr(self._found) if self._found else "the end"
        return RequestRefused(
            f"the condition {self._text[:80]!r} has {found} at character {self._at + 1}, "
            f"where {wanted} should be"
        )
