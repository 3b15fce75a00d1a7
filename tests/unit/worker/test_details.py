"""The details of heartbeats."""

from __future__ import annotations

import json

import pytest

from perdure.errors import PayloadError
from perdure.worker.details import encoded


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


class Odd:
    def __repr__(self) -> str:
        return "<odd \ud800>"


def test_of_a_detail_without_json_only_that_one_becomes_text() -> None:
    details = (1, {"a": [2]}, Odd(), Unspeakable(), float("nan"), {1: "a", "1": "b"}, None)
    shown = json.loads(encoded(details, "import"))
    assert shown == [
        1,
        {"a": [2]},
        "<odd ?>",
        "<a Unspeakable that cannot be shown>",
        "nan",
        "{1: 'a', '1': 'b'}",
        None,
    ]


def test_details_over_the_limit_are_refused() -> None:
    with pytest.raises(PayloadError, match="the heartbeat of activity 'import' is 1048580 bytes long"):
        encoded(("x" * 1024 * 1024,), "import")
    assert len(encoded(("x" * (1024 * 1024 - 4),), "import")) == 1024 * 1024, "the limit itself will do"
