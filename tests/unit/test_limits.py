"""How long an id and a reason may be, in bytes, and what they may hold."""

from __future__ import annotations

import pytest

from perdure.model.limits import ID_BYTES, REASON_BYTES, fault_of_id, fault_of_reason

TWO_BYTES = "é"
FOUR_BYTES = "𝄞"


@pytest.mark.parametrize(
    "value", ["x", "x" * 255, TWO_BYTES * 127 + "x", FOUR_BYTES * 63 + "xyz", "with space/and:signs"]
)
def test_an_id_may_be_as_long_as_the_limit(value: str) -> None:
    assert ID_BYTES == 255
    assert fault_of_id(value) == ""


@pytest.mark.parametrize("value", ["x" * 256, TWO_BYTES * 128, FOUR_BYTES * 64])
def test_an_id_one_byte_longer_is_refused_with_its_size(value: str) -> None:
    assert fault_of_id(value, "queue") == "the queue is 256 bytes long, the limit is 255; use a shorter id"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (7, "the workflow id must be text, not int"),
        (None, "the workflow id must be text, not NoneType"),
        ("", "the workflow id must not be empty"),
        ("a\nb", "the workflow id 'a\\nb' contains the character U+000A; use printable characters only"),
        (
            "a\ud800",
            "the workflow id 'a\\ud800' contains the character U+D800; use printable characters only",
        ),
    ],
)
def test_what_cannot_be_an_id_is_refused_with_the_reason(value: object, fault: str) -> None:
    assert fault_of_id(value) == fault


@pytest.mark.parametrize("reason", ["", "a\nb\0", "x" * 16_384, TWO_BYTES * 8_192, FOUR_BYTES * 4_096])
def test_a_reason_may_be_as_long_as_the_limit(reason: str) -> None:
    assert REASON_BYTES == 16_384
    assert fault_of_reason(reason) == ""


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("x" * 16_385, "the reason is 16385 bytes long, the limit is 16384; shorten it"),
        (TWO_BYTES * 8_192 + "x", "the reason is 16385 bytes long, the limit is 16384; shorten it"),
        (FOUR_BYTES * 4_097, "the reason is 16388 bytes long, the limit is 16384; shorten it"),
        ("\ud800", "the reason is not valid Unicode"),
        (b"x", "the reason must be text, not bytes"),
    ],
)
def test_what_cannot_be_a_reason_is_refused_with_why(reason: object, fault: str) -> None:
    assert fault_of_reason(reason) == fault
