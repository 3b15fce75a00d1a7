"""Conditions on attributes: what they mean, and what is said of text that is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.client.listing import ListQuery
from perdure.client.where import DEEPEST, LONGEST, holds, parsed
from perdure.errors import RequestRefused

ORDER: dict[str, Any] = {
    "city": "Bari", "cents": 1200, "share": 0.5, "rush": True, "note": None, "it's": "O'Hara", "a.b-c": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "city = 'Bari'",
        "city != 'Rome'",
        "cents = 1200.0",
        "cents > 1199 and cents <= 1200",
        "share < 1",
        "share >= 0.5",
        "rush = true",
        "rush != 1",
        "note = null",
        "city in ('Rome', 'Bari')",
        "cents in (1, 1200, 'x')",
        "city starts with 'Ba'",
        "city < 'Bb'",
        "\"it's\" = 'O''Hara'",
        "a.b-c = 1",
        "NOT city = 'Rome' AND (rush = false OR cents > 1e3)",
        "city = 'Rome' or city = 'Bari' and rush = true",
        "not missing = 1",
        "not (missing != 1)",
        "  city='Bari'  ",
    ],
)
def test_it_holds(text: str) -> None:
    assert holds(parsed(text), ORDER)


@pytest.mark.parametrize(
    "text",
    [
        "city = 'bari'",
        "missing = null",
        "missing != 1",
        "missing < 1",
        "city < 5",
        "cents < 'z'",
        "rush < 5",
        "note <= 1",
        "rush = 1",
        "cents starts with '12'",
        "(city = 'Rome' or city = 'Bari') and rush = false",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not holds(parsed(text), ORDER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("city", "has the end at character 5, where =, !="),
        ("city =", "where a value: 'text', a number, true, false or null should be"),
        ("city = Bari", "has 'Bari' at character 8, where a value"),
        ("city = 'Bari", "where a value"),
        ("city = 'Bari' cents = 1", "has 'cents' at character 15, where `and`, `or` or the end should be"),
        ("city like 'B%'", "has 'like' at character 6"),
        ("city in ()", "where a value"),
        ("city in ('a'", "where `)` should be"),
        ("city starts 'B'", "where `with` should be"),
        ("city starts with 5", "where a 'text' should be"),
        ("(city = 'Bari'", "where `)` should be"),
        ("and city = 'Bari'", "where the name of an attribute should be"),
        (" ", "has the end at character"),
        ("city = 'Bari'; DROP TABLE x", "has '; DROP TABLE x' at character 14"),
        ("n = 9223372036854775808", "more than 64 bits"),
        ("n = 1e999", "is too large"),
        ("n = 1x", "where a value"),
        ("x = 'y" + "y" * LONGEST + "'", f"the limit is {LONGEST}"),
        ("(" * (DEEPEST + 1) + "x = 1" + ")" * (DEEPEST + 1), "is nested more than"),
        ("not " * 1_000 + "x = 1", "is nested more than"),
        ("x = '\ud800'", "not valid Unicode"),
    ],
)
def test_an_invalid_condition_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        ListQuery(where=text)
    assert message in str(refused.value)


@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    try:
        condition = parsed(text)
    except RequestRefused:
        return
    assert holds(condition, ORDER) in {True, False}
