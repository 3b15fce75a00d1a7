"""How long a duration is: units, sums, parts of a microsecond, the longest one, and what is
none."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model.duration import LONGEST_US, Duration, microseconds


@pytest.mark.parametrize(
    ("units", "length_us"),
    [
        ("us microsecond microseconds", 1),
        ("ms millisecond milliseconds", 1_000),
        ("s sec secs second seconds", 1_000_000),
        ("m min mins minute minutes", 60 * 1_000_000),
        ("h hour hours", 60 * 60 * 1_000_000),
        ("d day days", 24 * 60 * 60 * 1_000_000),
        ("w week weeks", 7 * 24 * 60 * 60 * 1_000_000),
    ],
)
def test_each_name_of_a_unit_means_its_length(units: str, length_us: int) -> None:
    for unit in units.split():
        assert microseconds(f"1{unit}") == microseconds(f"1 {unit.upper()}") == length_us
        assert microseconds(f"20 {unit}") == 20 * length_us


@pytest.mark.parametrize(
    ("duration", "length_us"),
    [
        ("1m 30s", 90_000_000),
        ("1m30s", 90_000_000),
        ("1 hour, 2 minutes", 3_720_000_000),
        ("1.5h", 5_400_000_000),
        ("0s", 0),
        ("1.2us", 2),
        ("0.0001ms", 1),
        (timedelta(days=2, seconds=3, microseconds=4), 172_803_000_004),
        (timedelta(0), 0),
        ("600000 weeks", LONGEST_US),
        (timedelta.max, LONGEST_US),
    ],
)
def test_a_duration_is_the_sum_of_its_parts_rounded_up_and_capped(duration: Duration, length_us: int) -> None:
    assert microseconds(duration) == length_us


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1 month", "1 year", "1s later", "1s5", "1e3s", "\u0661s"]
)
def test_an_invalid_duration_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError, match='write a number and a unit, such as "500ms"'):
        microseconds(text)


def test_a_negative_timedelta_is_refused() -> None:
    with pytest.raises(UsageError, match="must not be negative"):
        microseconds(timedelta(microseconds=-1))


@pytest.mark.parametrize("value", [5, 1.5, None, True])
def test_a_number_without_a_unit_is_not_a_duration(value: Duration) -> None:
    with pytest.raises(UsageError, match='a duration is a timedelta or text such as "30s"'):
        microseconds(value)


@pytest.mark.parametrize("duration", [30, "3 fortnights", timedelta(seconds=-1)])
@pytest.mark.parametrize("name", ["timeout", "delay"])
def test_a_wrong_duration_of_a_start_names_the_argument(name: str, duration: Any) -> None:
    transport: Any = None
    options: dict[str, Any] = {name: duration}
    with pytest.raises(UsageError, match=f"^{name}: .*{re.escape(str(duration))}|^{name}: .* negative"):
        Client(transport, payloads=JsonPayloads()).options(**options)
