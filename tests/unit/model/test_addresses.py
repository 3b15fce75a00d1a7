"""Addresses: every kind reads back as it was written, and no text of anybody's does harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.addresses import LONGEST, Caller, DeadLetter, Local, Process, Workflow, parse
from perdure.model.limits import ID_BYTES, fault_of_id

DIGITS = "9" * 5_000
WORKFLOW = Workflow("child", "order/7 of émile", "run-1", 12)
WRITTEN = [
    ("local:me", Local("me")),
    ("udp:9:somebody", Process(9, "somebody")),
    ("udp:65535:x", Process(65_535, "x")),
    ("kafka:0:me", Caller(0, "me")),
    ("kafka:2147483647:a:b", Caller(2**31 - 1, "a:b")),
    ("dead-letter:shop.orders/2/41", DeadLetter("shop.orders", 2, 41)),
    ("dead-letter:t/0/9223372036854775807", DeadLetter("t", 0, 2**63 - 1)),
    ("workflow:child/run-1/12/order/7 of émile", WORKFLOW),
    ("workflow:child//1/w", Workflow("child", "w", "", 1)),
    ("workflow:a_b-2/r/0/workflow:child/r/1/w", Workflow("a_b-2", "workflow:child/r/1/w", "r", 0)),
]
HOSTILE = [
    "", ":", "\0", "nonsense", "local", "me", "k" * 100_000,
    "local:" + "x" * 250,
    "udp:", "udp:x", "udp:0:me", "udp:-1:me", "udp:65536:me", f"udp:{DIGITS}:me", "udp:²:me", "udp:\u0664:me",
    "udp:1:\ud800", "udp:1:é",
    "udp:1:" + "x" * 250,
    "kafka:", "kafka:x", "kafka:-1:me", "kafka:2147483648:me", f"kafka:{DIGITS}:me", "kafka:²:me",
    "kafka:0:\ud800",
    "kafka:0:" + "x" * 250,
    "dead-letter:", "dead-letter:x", "dead-letter:/1/2", "dead-letter:a/b/c", f"dead-letter:t/1/{DIGITS}",
    "dead-letter:t/-1/2",
    "dead-letter:t/1/9223372036854775808", "dead-letter:t/²/3", "dead-letter:\ud800/1/2",
    "dead-letter:a\nb/1/2",
    "dead-letter:" + "x" * 256 + "/1/2",
    "workflow:", "workflow:child", "workflow:child/run-1/1", "workflow:child/run-1/1/", "workflow:/run-1/1/w",
    "workflow:Child/r/1/w",
    "workflow:child/R/1/w", "workflow:child/r/-1/w", "workflow:child/r/x/w", "workflow:child/r/²/w",
    f"workflow:child/r/{DIGITS}/w",
    "workflow:child/r/9223372036854775808/w", "workflow:child/r/1/\ud800", "workflow:child/r/1/a\nb",
    "workflow:child/r/1/\0",
    "workflow:" + "k" * 41 + "/r/1/w", "workflow:child/" + "r" * 41 + "/1/w",
    "workflow:child/r/1/" + "w" * 256,
    "workflow:child/r/1/" + "é" * 128, "WORKFLOW:child/r/1/w",
]  # fmt: skip


@pytest.mark.parametrize(("text", "address"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_an_address_reads_back_as_it_was_written(text: str, address: object) -> None:
    assert parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:40])
def test_invalid_text_is_not_an_address(text: str) -> None:
    assert parse(text) is None


def test_addresses_of_different_kinds_differ() -> None:
    different: set[object] = {Process(1, "x"), Caller(1, "x"), Local("x"), Process(1, "x")}
    assert len(different) == 3


def test_the_longest_address_of_a_workflow_is_read() -> None:
    longest = Workflow("k" * 40, "w" * ID_BYTES, "r" * 40, 2**63 - 1)
    assert len(str(longest)) <= LONGEST
    assert parse(str(longest)) == longest


@given(
    st.text(max_size=40),
    st.sampled_from(["local:", "udp:", "udp:1:", "kafka:0:", "dead-letter:t/", "workflow:child/r/1/", ""]),
)
def test_no_text_raises_and_what_is_read_reads_back(rest: str, prefix: str) -> None:
    address = parse(prefix + rest)
    if address is not None:
        assert parse(str(address)) == address


@given(st.text(max_size=80))
def test_every_workflow_id_that_may_be_used_can_be_answered(workflow_id: str) -> None:
    address = Workflow("child", workflow_id, "run-1", 1)
    assert parse(str(address)) == (None if fault_of_id(workflow_id) else address)
